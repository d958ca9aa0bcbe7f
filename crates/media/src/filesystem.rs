//! The kernel's questions, answered from a [`Volume`]. What needs no waiting is answered at once;
//! everything else becomes a task, so that nobody waits for somebody else's transfer.

mod answer;
mod listings;
mod open_file;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flotilla_host::tasks::Tasks;
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::fault::{Fault, stale};
use crate::nodes::Node;
use crate::path::{MediaPath, NAME_BYTES_MAX};
use crate::volume::{Change, OpenWish, Volume};
use listings::Listings;
use open_file::{handle, has, is_writer, open_flags};

/// The bit of a request's number that says that it was sent to an earlier daemon before.
/// <https://docs.kernel.org/filesystems/fuse/fuse.html>
const RESENT: u64 = 1 << 63;
/// How much room there seems to be in the bucket, in blocks of 4096 bytes: 4 EiB.
const BLOCKS: u64 = 1 << 50;
const BLOCK_BYTES: u32 = 4096;

/// A volume as the kernel sees it.
#[derive(Debug)]
pub(crate) struct MediaFilesystem {
    volume: Volume,
    tasks: Tasks,
    runtime: tokio::runtime::Handle,
    listings: Listings,
}

impl MediaFilesystem {
    /// Makes it; its tasks run on this runtime.
    pub(crate) fn new(volume: Volume, runtime: tokio::runtime::Handle) -> Self {
        Self { tasks: volume.tasks().clone(), volume, runtime, listings: Listings::default() }
    }

    fn ttl(&self) -> Duration {
        self.volume.options().staleness
    }

    /// Answers when what was written to a file is stored.
    fn store(&self, ino: INodeNo, reply: ReplyEmpty) {
        let Some((node, reply)) = self.node_for(ino, reply) else { return };
        if !node.is_dirty() {
            return reply.ok();
        }
        let volume = self.volume.clone();
        self.answer_empty("media.store", reply, async move {
            volume.flush(&node).await.map_err(|fault| {
                // Logged where it failed. Whatever the reason, the file was not stored.
                let is_full = fault.errno().code() == nix::libc::ENOSPC;
                Fault::from(if is_full { Errno::ENOSPC } else { Errno::EIO })
            })
        });
    }
}

impl Filesystem for MediaFilesystem {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (volume, name) = (self.volume.clone(), name.to_owned());
        self.answer_entry("media.lookup", reply, async move {
            let path = match volume.entry_path(parent.0, &name) {
                // A name that cannot be stored is not there.
                Err(Fault::Plain(errno)) if is_unstorable(errno) => {
                    return Err(Errno::ENOENT.into());
                }
                path => path?,
            };
            volume.lookup(&path).await.inspect_err(|fault| volume.complain("look up", &path, fault))
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.volume.nodes().forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let Some((node, reply)) = self.node_for(ino, reply) else { return };
        reply.attr(&self.ttl(), &self.volume.attributes(&node));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (volume, ttl) = (self.volume.clone(), self.ttl());
        let modified = match mtime {
            Some(TimeOrNow::SpecificTime(time)) => Some(time),
            // A change of the length brings the time with it.
            Some(TimeOrNow::Now) if size.is_none() => Some(crate::volume::now()),
            Some(TimeOrNow::Now) | None => None,
        };
        let describing = volume.clone();
        let work = async move {
            let outcome = async {
                let node = volume.node(ino.0)?;
                volume.check_owner(uid, gid)?;
                if let Some(size) = size {
                    volume.set_length(&node, size, fh.is_some()).await?;
                }
                volume.set_attributes(&node, modified, mode).await?;
                Ok(node)
            };
            outcome.await.inspect_err(|fault| volume.complain("change", &MediaPath::root(), fault))
        };
        self.answer("media.set_attributes", reply, work, move |reply, node: Arc<Node>| {
            reply.attr(&ttl, &describing.attributes(&node));
        });
    }

    fn mknod(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let (volume, name) = (self.volume.clone(), name.to_owned());
        self.answer_entry("media.make_node", reply, async move {
            let path = volume.entry_path(parent.0, &name)?;
            let mode = volume.unusual_mode(mode, volume.options().owner.file_mode);
            volume.create_exclusively(&path, mode).await
        });
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (volume, name) = (self.volume.clone(), name.to_owned());
        self.answer_entry("media.make_directory", reply, async move {
            let path = volume.entry_path(parent.0, &name)?;
            let mode = volume.unusual_mode(mode, volume.options().owner.directory_mode);
            volume
                .make_directory(&path, mode)
                .await
                .inspect_err(|fault| volume.complain("make the directory", &path, fault))
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (volume, name) = (self.volume.clone(), name.to_owned());
        self.answer_empty("media.remove_file", reply, async move {
            let path = volume.entry_path(parent.0, &name)?;
            volume
                .remove_file(&path)
                .await
                .inspect_err(|fault| volume.complain("remove", &path, fault))
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (volume, name) = (self.volume.clone(), name.to_owned());
        self.answer_empty("media.remove_directory", reply, async move {
            let path = volume.entry_path(parent.0, &name)?;
            volume
                .remove_directory(&path)
                .await
                .inspect_err(|fault| volume.complain("remove", &path, fault))
        });
    }

    fn symlink(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _link_name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        // Other instances and the CDN could not follow it.
        reply.error(Errno::EPERM);
    }

    fn link(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        // Objects have one name.
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let is_careful = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !flags.difference(RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (volume, name, newname) = (self.volume.clone(), name.to_owned(), newname.to_owned());
        self.answer_empty("media.rename", reply, async move {
            let from = volume.entry_path(parent.0, &name)?;
            let to = volume.entry_path(newparent.0, &newname)?;
            volume
                .rename(&from, &to, is_careful)
                .await
                .inspect_err(|fault| volume.complain("rename", &from, fault))
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let volume = self.volume.clone();
        let wish =
            OpenWish { is_writer: is_writer(flags), empties: has(flags, nix::libc::O_TRUNC) };
        let work = async move {
            let outcome = async {
                let node = volume.node(ino.0)?;
                volume.open_file(&node, wish).await?;
                Ok(node)
            };
            outcome.await.inspect_err(|fault| volume.complain("open", &MediaPath::root(), fault))
        };
        self.answer("media.open", reply, work, move |reply, node: Arc<Node>| {
            reply.opened(handle(wish.is_writer), open_flags(&node, wish.is_writer));
        });
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (volume, name, ttl) = (self.volume.clone(), name.to_owned(), self.ttl());
        let (describing, flags) = (volume.clone(), OpenFlags(flags));
        let work = async move {
            let path = volume.entry_path(parent.0, &name)?;
            let mode = volume.unusual_mode(mode, volume.options().owner.file_mode);
            let node = if has(flags, nix::libc::O_EXCL) {
                let node = volume.create_exclusively(&path, mode).await?;
                volume.hold(&node, true);
                node
            } else {
                volume.create_file(&path, mode)?
            };
            volume.open_created(&node, has(flags, nix::libc::O_TRUNC)).await?;
            Ok(node)
        };
        self.answer("media.create", reply, work, move |reply, node: Arc<Node>| {
            describing.nodes().count_lookup(&node);
            let attributes = describing.attributes(&node);
            let flags = open_flags(&node, true);
            reply.created(&ttl, &attributes, Generation(0), handle(true), flags);
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((node, reply)) = self.node_for(ino, reply) else { return };
        if let Some(data) = self.volume.read_local(&node, offset, u64::from(size)) {
            return reply.data(&data);
        }
        let volume = self.volume.clone();
        let work = async move {
            volume.read(&node, offset, u64::from(size)).await.inspect_err(|fault| {
                volume.complain("read", &node.path().unwrap_or_default(), fault);
            })
        };
        self.answer("media.read", reply, work, |reply, data| reply.data(&data));
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some((node, reply)) = self.node_for(ino, reply) else { return };
        // What comes from the kernel's cache was written through a mapping, which has places.
        let is_mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let append = has(flags, nix::libc::O_APPEND) && !is_mapped;
        let append = append.then_some(req.unique().0 & RESENT != 0);
        let written = u32::try_from(data.len()).unwrap_or_default();
        let volume = self.volume.clone();
        match volume.change_local(&node, &change(data, offset, append)) {
            Some(Ok(())) => reply.written(written),
            Some(Err(fault)) => {
                volume.complain("write", &node.path().unwrap_or_default(), &fault);
                reply.error(fault.errno());
            }
            None => {
                // The kernel's buffer does not live so long.
                let data = data.to_vec();
                let work = async move {
                    let change = change(&data, offset, append);
                    volume.change(&node, &change).await.inspect_err(|fault| {
                        volume.complain("write", &node.path().unwrap_or_default(), fault);
                    })
                };
                self.answer("media.write", reply, work, move |reply, ()| reply.written(written));
            }
        }
    }

    fn flush(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.store(ino, reply);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.store(ino, reply);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let volume = self.volume.clone();
        self.answer_empty("media.release", reply, async move {
            if let Ok(node) = volume.node(ino.0) {
                volume.release(&node, fh == handle(true)).await;
            }
            Ok(())
        });
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.listings.open()), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let (volume, listings) = (self.volume.clone(), self.listings.clone());
        let (telling, remembering) = (volume.clone(), listings.clone());
        let work = async move {
            let outcome = async {
                let directory = volume.node(ino.0)?.path().ok_or_else(stale)?;
                // From the beginning on it is listed anew.
                let listing = match listings.get(fh.0).filter(|_| offset > 0) {
                    Some(listing) => listing,
                    None => Arc::new(volume.list(&directory).await?),
                };
                Ok((directory, listing))
            };
            outcome.await.inspect_err(|fault| volume.complain("list", &MediaPath::root(), fault))
        };
        self.answer("media.list", reply, work, move |reply, (directory, listing)| {
            remembering.remember(fh.0, &listing);
            listings::fill(&telling, &directory, &listing, offset, reply);
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.listings.close(fh.0);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let names = u32::try_from(NAME_BYTES_MAX).unwrap_or_default();
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_BYTES, names, BLOCK_BYTES);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        // The C library writes zeros instead.
        reply.error(Errno::EOPNOTSUPP);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: fuser::IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}

/// Returns the change that writing means: at a place, or appending, which says whether it was sent to
/// an earlier daemon before.
fn change(data: &[u8], offset: u64, append: Option<bool>) -> Change<'_> {
    match append {
        Some(is_resent) => Change::Append(data, offset, is_resent),
        None => Change::Write(data, offset),
    }
}

fn is_unstorable(errno: Errno) -> bool {
    matches!(errno.code(), nix::libc::EILSEQ | nix::libc::EPERM)
}
