//! The kernel's questions, answered from a [`Volume`]. What needs no waiting is answered at once;
//! everything else becomes a task, so that nobody waits for somebody else's transfer.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use flotilla_host::tasks::Tasks;
use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};

use crate::fault::{Fault, stale};
use crate::nodes::{Kind, Node};
use crate::path::{MediaPath, NAME_BYTES_MAX};
use crate::volume::{Change, Listing, OpenWish, Volume};

/// The bit of a request's number that says that it was sent to an earlier daemon before.
/// <https://docs.kernel.org/filesystems/fuse/fuse.html>
const RESENT: u64 = 1 << 63;
/// How much room there seems to be in the bucket, in blocks of 4096 bytes: 4 EiB.
const BLOCKS: u64 = 1 << 50;
const BLOCK_BYTES: u32 = 4096;
/// How many directories may be open at once.
const LISTINGS_MAX: usize = 10_000;

/// A volume as the kernel sees it.
#[derive(Debug)]
pub(crate) struct MediaFilesystem {
    volume: Volume,
    tasks: Tasks,
    runtime: tokio::runtime::Handle,
    listings: Arc<Mutex<Listings>>,
}

#[derive(Debug, Default)]
struct Listings {
    next: u64,
    open: HashMap<u64, Arc<Listing>>,
}

impl MediaFilesystem {
    /// Makes it; its tasks run on this runtime.
    pub(crate) fn new(volume: Volume, runtime: tokio::runtime::Handle) -> Self {
        Self { tasks: volume.tasks().clone(), volume, runtime, listings: Arc::default() }
    }

    fn ttl(&self) -> Duration {
        self.volume.options().staleness
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let _runtime = self.runtime.enter();
        self.tasks.spawn(name, task);
    }

    /// Answers with nothing but whether it went well.
    fn answer(
        &self,
        name: &'static str,
        reply: ReplyEmpty,
        work: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) {
        self.spawn(name, async move {
            match work.await {
                Ok(()) => reply.ok(),
                Err(fault) => reply.error(fault.errno()),
            }
        });
    }

    /// Answers with a node under its name.
    fn answer_entry(
        &self,
        name: &'static str,
        reply: ReplyEntry,
        work: impl Future<Output = Result<Arc<Node>, Fault>> + Send + 'static,
    ) {
        let (volume, ttl) = (self.volume.clone(), self.ttl());
        self.spawn(name, async move {
            match work.await {
                Ok(node) => {
                    volume.nodes().count_lookup(&node);
                    reply.entry(&ttl, &volume.attributes(&node), Generation(0));
                }
                Err(fault) => reply.error(fault.errno()),
            }
        });
    }

    fn answer_change(&self, node: &Arc<Node>, change: &Change<'_>, reply: ReplyWrite) {
        let written = match change {
            Change::Write(data, _) | Change::Append(data, ..) => data.len(),
            Change::Length(_) => 0,
        };
        let written = u32::try_from(written).unwrap_or_default();
        match self.volume.change_local(node, change) {
            Some(Ok(())) => reply.written(written),
            Some(Err(fault)) => {
                self.volume.complain("write", &node.path().unwrap_or_default(), &fault);
                reply.error(fault.errno());
            }
            None => {
                let (volume, node) = (self.volume.clone(), Arc::clone(node));
                let owned = OwnedChange::of(change);
                self.spawn("media.write", async move {
                    match volume.change(&node, &owned.change()).await {
                        Ok(()) => reply.written(written),
                        Err(fault) => {
                            volume.complain("write", &node.path().unwrap_or_default(), &fault);
                            reply.error(fault.errno());
                        }
                    }
                });
            }
        }
    }
}

/// A change whose bytes outlive the kernel's buffer.
enum OwnedChange {
    Write(Vec<u8>, u64),
    Append(Vec<u8>, u64, bool),
    Length(u64),
}

impl OwnedChange {
    fn of(change: &Change<'_>) -> Self {
        match change {
            Change::Write(data, offset) => Self::Write(data.to_vec(), *offset),
            Change::Append(data, offset, is_resent) => {
                Self::Append(data.to_vec(), *offset, *is_resent)
            }
            Change::Length(length) => Self::Length(*length),
        }
    }

    fn change(&self) -> Change<'_> {
        match self {
            Self::Write(data, offset) => Change::Write(data, *offset),
            Self::Append(data, offset, is_resent) => Change::Append(data, *offset, *is_resent),
            Self::Length(length) => Change::Length(*length),
        }
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
        match self.volume.node(ino.0) {
            Ok(node) => reply.attr(&self.ttl(), &self.volume.attributes(&node)),
            Err(fault) => reply.error(fault.errno()),
        }
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
        self.spawn("media.set_attributes", async move {
            let outcome = async {
                let node = volume.node(ino.0)?;
                volume.check_owner(uid, gid)?;
                if let Some(size) = size {
                    volume.set_length(&node, size, fh.is_some()).await?;
                }
                volume.set_attributes(&node, modified, mode).await?;
                Ok::<_, Fault>(node)
            };
            match outcome.await {
                Ok(node) => reply.attr(&ttl, &volume.attributes(&node)),
                Err(fault) => {
                    volume.complain("change", &MediaPath::root(), &fault);
                    reply.error(fault.errno());
                }
            }
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
        self.answer("media.remove_file", reply, async move {
            let path = volume.entry_path(parent.0, &name)?;
            volume
                .remove_file(&path)
                .await
                .inspect_err(|fault| volume.complain("remove", &path, fault))
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (volume, name) = (self.volume.clone(), name.to_owned());
        self.answer("media.remove_directory", reply, async move {
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
        self.answer("media.rename", reply, async move {
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
        self.spawn("media.open", async move {
            let wish =
                OpenWish { is_writer: is_writer(flags), empties: has(flags, nix::libc::O_TRUNC) };
            let outcome = async {
                let node = volume.node(ino.0)?;
                volume.open_file(&node, wish).await?;
                Ok::<_, Fault>(node)
            };
            match outcome.await {
                Ok(node) => {
                    reply.opened(handle(wish.is_writer), open_flags(&node, wish.is_writer));
                }
                Err(fault) => {
                    volume.complain("open", &MediaPath::root(), &fault);
                    reply.error(fault.errno());
                }
            }
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
        self.spawn("media.create", async move {
            let flags = OpenFlags(flags);
            let outcome = async {
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
                Ok::<_, Fault>(node)
            };
            match outcome.await {
                Ok(node) => {
                    volume.nodes().count_lookup(&node);
                    let attributes = volume.attributes(&node);
                    let flags = open_flags(&node, true);
                    reply.created(&ttl, &attributes, Generation(0), handle(true), flags);
                }
                Err(fault) => reply.error(fault.errno()),
            }
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
        let node = match self.volume.node(ino.0) {
            Ok(node) => node,
            Err(fault) => return reply.error(fault.errno()),
        };
        if let Some(data) = self.volume.read_local(&node, offset, u64::from(size)) {
            return reply.data(&data);
        }
        let volume = self.volume.clone();
        self.spawn("media.read", async move {
            match volume.read(&node, offset, u64::from(size)).await {
                Ok(data) => reply.data(&data),
                Err(fault) => {
                    volume.complain("read", &node.path().unwrap_or_default(), &fault);
                    reply.error(fault.errno());
                }
            }
        });
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
        let node = match self.volume.node(ino.0) {
            Ok(node) => node,
            Err(fault) => return reply.error(fault.errno()),
        };
        // What comes from the kernel's cache was written through a mapping, which has places.
        let is_mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let change = if has(flags, nix::libc::O_APPEND) && !is_mapped {
            Change::Append(data, offset, req.unique().0 & RESENT != 0)
        } else {
            Change::Write(data, offset)
        };
        self.answer_change(&node, &change, reply);
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
        self.answer("media.release", reply, async move {
            if let Ok(node) = volume.node(ino.0) {
                volume.release(&node, fh == handle(true)).await;
            }
            Ok(())
        });
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        listings.next += 1;
        reply.opened(FileHandle(listings.next), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let (volume, listings) = (self.volume.clone(), Arc::clone(&self.listings));
        self.spawn("media.list", async move {
            let known = {
                let listings = listings.lock().unwrap_or_else(PoisonError::into_inner);
                // From the beginning on it is listed anew.
                listings.open.get(&fh.0).filter(|_| offset > 0).cloned()
            };
            let outcome = async {
                let directory = volume.node(ino.0)?.path().ok_or_else(stale)?;
                let listing = match known {
                    Some(listing) => listing,
                    None => Arc::new(volume.list(&directory).await?),
                };
                Ok::<_, Fault>((directory, listing))
            };
            match outcome.await {
                Ok((directory, listing)) => {
                    {
                        let mut listings = listings.lock().unwrap_or_else(PoisonError::into_inner);
                        if listings.open.len() < LISTINGS_MAX {
                            listings.open.insert(fh.0, Arc::clone(&listing));
                        }
                    }
                    fill(&volume, &directory, &listing, offset, reply);
                }
                Err(fault) => {
                    volume.complain("list", &MediaPath::root(), &fault);
                    reply.error(fault.errno());
                }
            }
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
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&fh.0);
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

impl MediaFilesystem {
    fn store(&self, ino: INodeNo, reply: ReplyEmpty) {
        let node = match self.volume.node(ino.0) {
            Ok(node) if node.is_dirty() => node,
            Ok(_) => return reply.ok(),
            Err(fault) => return reply.error(fault.errno()),
        };
        let volume = self.volume.clone();
        self.spawn("media.store", async move {
            match volume.flush(&node).await {
                Ok(()) => reply.ok(),
                // Logged where it failed. Whatever the reason, the file was not stored.
                Err(fault) if fault.errno().code() == nix::libc::ENOSPC => {
                    reply.error(Errno::ENOSPC);
                }
                Err(_) => reply.error(Errno::EIO),
            }
        });
    }
}

fn fill(
    volume: &Volume,
    directory: &MediaPath,
    listing: &Listing,
    offset: u64,
    mut reply: ReplyDirectory,
) {
    let dots = [(".", Kind::Directory), ("..", Kind::Directory)];
    let named = listing.entries.iter().map(|(name, kind)| (name.as_str(), *kind));
    let entries = dots.into_iter().chain(named).zip(1_u64..);
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    for ((name, kind), next) in entries.skip(skipped) {
        let id = entry_id(volume, directory, name, kind);
        let kind = match kind {
            Kind::Directory => FileType::Directory,
            Kind::File => FileType::RegularFile,
        };
        if reply.add(INodeNo(id), next, kind, name) {
            break;
        }
    }
    reply.ok();
}

fn entry_id(volume: &Volume, directory: &MediaPath, name: &str, kind: Kind) -> u64 {
    match name {
        "." => directory.directory_id(),
        ".." => directory.parent().directory_id(),
        _ => match directory.child(OsStr::new(name), 0) {
            Ok(path) => match (volume.nodes().find(&path), kind) {
                (Some(node), _) => node.id,
                (None, Kind::Directory) => path.directory_id(),
                (None, Kind::File) => path.version_id(""),
            },
            Err(_) => directory.directory_id(),
        },
    }
}

/// Says how the kernel may treat an open file. What is written must not linger in its cache; what is
/// read may, because another version would be another node.
fn open_flags(node: &Node, is_writer: bool) -> FopenFlags {
    if is_writer {
        FopenFlags::FOPEN_DIRECT_IO
    } else if node.staged().is_some() {
        FopenFlags::FOPEN_NOFLUSH
    } else {
        FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
    }
}

/// Returns the number of an open file, which says whether it is counted as one for writing. Any
/// daemon understands it.
fn handle(is_writer: bool) -> FileHandle {
    FileHandle(u64::from(is_writer))
}

fn is_writer(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY
}

fn has(flags: OpenFlags, flag: i32) -> bool {
    flags.0 & flag != 0
}

fn is_unstorable(errno: Errno) -> bool {
    matches!(errno.code(), nix::libc::EILSEQ | nix::libc::EPERM)
}
