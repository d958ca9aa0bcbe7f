//! A directory tree that somebody else may change meanwhile: walked and written without ever
//! following a symbolic link out of it.
//!
//! Every step goes from an open directory to a name in it. All calls block: they belong on a thread
//! for blocking work.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};

use super::index::Stat;

/// How deep a tree may be.
const DEPTH_MAX: usize = 200;
/// How many files and directories a tree may have; the largest sites have a tenth of it.
const ENTRIES_MAX: usize = 500_000;
/// The name a file has while it is written; what an interrupted write leaves is removed as a stray.
const NEW: &CStr = c".flotilla-new";

/// What a name in a tree stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file, by whether its owner may execute it.
    File {
        /// Whether its owner may execute it.
        is_executable: bool,
    },
    /// A symbolic link.
    Link,
    /// A socket, a pipe or a device.
    Other,
}

/// One thing that a walk found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The path from the root of the tree.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FoundKind,
    /// Whether the caller told to leave it alone; nothing below it is walked.
    pub is_skipped: bool,
    pub(super) stat: FileStat,
}

impl Found {
    /// Returns the size of a file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Returns what tells whether it was touched since.
    #[must_use]
    pub const fn stat(&self) -> Stat {
        Stat::of(&self.stat)
    }

    /// Returns git's mode of a file or link; `None` for what git does not keep.
    #[must_use]
    pub const fn mode(&self) -> Option<u32> {
        match self.kind {
            FoundKind::File { is_executable: true } => Some(0o100_755),
            FoundKind::File { is_executable: false } => Some(0o100_644),
            FoundKind::Link => Some(0o120_000),
            FoundKind::Directory | FoundKind::Other => None,
        }
    }

    /// Returns the path in the form that the standard library takes.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// What a path leads to, open for reading.
#[derive(Debug)]
pub enum Content {
    /// A regular file with its size in bytes.
    File(File, u64),
    /// A symbolic link, by its target.
    Link(Vec<u8>),
}

/// The root of a tree.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// The directory that was used last, since most steps are in the same one as the step before.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Whom what is made here is given to.
    owner: Option<Owner>,
}

/// A user and its group.
pub type Owner = (Uid, Gid);

impl Tree {
    /// Opens a tree.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), root, last: None, owner: None })
    }

    /// Gives what is made from now on to a user, which only root can.
    pub(super) fn give_to(&mut self, owner: Option<Owner>) -> io::Result<()> {
        if let Some((user, group)) = owner {
            fchown(&self.root, Some(user), Some(group))?;
        }
        self.owner = owner;
        Ok(())
    }

    /// Returns the path of something in the tree, for messages.
    #[must_use]
    pub fn full_path(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// Walks the tree: parents before children, names in order.
    pub fn walk(&self, skip: &dyn Fn(&[u8]) -> bool) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        walk_directory(&self.root, &mut Vec::new(), skip, &mut found, 0)?;
        Ok(found)
    }

    /// Reads a file, or the target of a symbolic link.
    pub fn read(&mut self, path: &[u8], bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = match self.open_content(path)? {
            Content::Link(target) => return Ok(target),
            Content::File(file, _) => file,
        };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
        }
        Ok(bytes)
    }

    /// Opens a file for reading piece by piece, or reads the target of a symbolic link.
    pub fn open_content(&mut self, path: &[u8]) -> io::Result<Content> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(parent, name.as_c_str(), flags, Mode::empty()) {
            Ok(file) => {
                let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
                Ok(Content::File(File::from(file), size))
            }
            Err(Errno::ELOOP) => Ok(Content::Link(readlinkat(parent, name.as_c_str())?.into_vec())),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file, a link or an empty directory. One that is gone or not empty is left so.
    pub(super) fn remove(&mut self, path: &[u8], is_directory: bool) -> io::Result<()> {
        self.last = None;
        let (parent, name) = match self.parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let flag = if is_directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        match unlinkat(parent, name.as_c_str(), flag) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory that everybody may read, or makes it so.
    pub(super) fn make_directory(&mut self, path: &[u8]) -> io::Result<()> {
        let owner = self.owner;
        let (parent, name) = self.parent(path)?;
        match mkdirat(parent, name.as_c_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = open_directory(parent, &name)?;
        if let Some((user, group)) = owner {
            fchown(&directory, Some(user), Some(group))?;
        }
        fchmod(directory, Mode::from_bits_truncate(0o755))?;
        Ok(())
    }

    /// Begins a file under a name of its own; [`Self::place`] puts it where it belongs.
    pub(super) fn begin_file(&mut self, path: &[u8], mode: u32) -> io::Result<File> {
        let owner = self.owner;
        let (parent, _) = self.parent(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        remove_new(parent)?;
        let file = openat(parent, NEW, flags, Mode::from_bits_truncate(0o600))?;
        if let Some((user, group)) = owner {
            fchown(&file, Some(user), Some(group))?;
        }
        fchmod(&file, Mode::from_bits_truncate(mode))?;
        Ok(File::from(file))
    }

    /// Begins a symbolic link under a name of its own.
    pub(super) fn begin_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let owner = self.owner;
        let (parent, _) = self.parent(path)?;
        remove_new(parent)?;
        symlinkat(OsStr::from_bytes(target), parent, NEW)?;
        if let Some((user, group)) = owner {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(parent, NEW, Some(user), Some(group), flags)?;
        }
        Ok(())
    }

    /// Puts what was begun in its place in one step, and returns its new `stat`.
    pub(super) fn place(&mut self, path: &[u8], modified: i64) -> io::Result<FileStat> {
        let (parent, name) = self.parent(path)?;
        set_modified(parent, NEW, modified)?;
        renameat(parent, NEW, parent, name.as_c_str())?;
        Ok(fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Sets the time of modification and returns the new `stat`.
    pub(super) fn touch(&mut self, path: &[u8], modified: i64) -> io::Result<FileStat> {
        let (parent, name) = self.parent(path)?;
        set_modified(parent, &name, modified)?;
        Ok(fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Opens the directory that holds a path, name by name from the root.
    fn parent(&mut self, path: &[u8]) -> io::Result<(&OwnedFd, CString)> {
        let split = path.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = match split.and_then(|at| path.split_at_checked(at)) {
            Some((directory, name)) => (directory, name.get(1..).unwrap_or_default()),
            None => (&b""[..], path),
        };
        let name = CString::new(name)?;
        if directory.is_empty() {
            return Ok((&self.root, name));
        }
        let is_cached = self.last.as_ref().is_some_and(|(held, _)| held == directory);
        let opened = match self.last.take().filter(|_| is_cached) {
            Some((_, opened)) => opened,
            None => self.open_below(directory)?,
        };
        let (_, opened) = self.last.insert((directory.to_vec(), opened));
        Ok((opened, name))
    }

    fn open_below(&self, directory: &[u8]) -> io::Result<OwnedFd> {
        let mut current = self.root.try_clone()?;
        for name in directory.split(|byte| *byte == b'/') {
            current = open_directory(&current, &CString::new(name)?)?;
        }
        Ok(current)
    }
}

fn walk_directory(
    directory: &OwnedFd,
    path: &mut Vec<u8>,
    skip: &dyn Fn(&[u8]) -> bool,
    found: &mut Vec<Found>,
    depth: usize,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("the tree is too deep"));
    }
    for name in names(directory)? {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend(name.as_bytes());
        match fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            // It went away meanwhile.
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
            Ok(_) if found.len() >= ENTRIES_MAX => {
                let text = format!("the tree has more than {ENTRIES_MAX} files and directories");
                return Err(io::Error::other(text));
            }
            Ok(stat) => {
                let is_skipped = skip(path);
                let kind = kind_of(&stat);
                found.push(Found { path: path.clone(), kind, is_skipped, stat });
                if kind == FoundKind::Directory && !is_skipped {
                    match open_directory(directory, &name) {
                        Ok(below) => walk_directory(&below, path, skip, found, depth + 1)?,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        path.truncate(length);
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

const fn kind_of(stat: &FileStat) -> FoundKind {
    let kind = stat.st_mode & SFlag::S_IFMT.bits();
    if kind == SFlag::S_IFDIR.bits() {
        FoundKind::Directory
    } else if kind == SFlag::S_IFREG.bits() {
        FoundKind::File { is_executable: stat.st_mode & 0o100 != 0 }
    } else if kind == SFlag::S_IFLNK.bits() {
        FoundKind::Link
    } else {
        FoundKind::Other
    }
}

fn open_directory(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn remove_new(parent: &OwnedFd) -> io::Result<()> {
    match unlinkat(parent, NEW, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn set_modified(parent: &OwnedFd, name: &CStr, seconds: i64) -> io::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    Ok(utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Returns the `stat` of the root itself, to tell whether it is readable by others.
pub(super) fn make_root(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let tree = Tree::open(path)?;
    let mode = fstat(&tree.root)?.st_mode & 0o7777;
    if mode & 0o055 != 0o055 {
        fchmod(&tree.root, Mode::from_bits_truncate(0o755))?;
    }
    Ok(())
}
