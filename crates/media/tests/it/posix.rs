//! What programs on one machine are promised, in the manner of pjdfstest: a sentence and a check of
//! it in a directory of its own.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, RenameFlags, renameat2};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, mknod};

pub(crate) type Check = fn(&Path);

/// SeaweedFS has directories of its own in the place of markers, and keeps what it knew of them.
pub(crate) const DIRECTORY_MODES: &str = "permission bits of directories are kept";

pub(crate) const QUICK: &[(&str, Check)] = &[
    ("a file has what was written to it", written),
    ("a file that nobody wrote to is there and empty", empty),
    ("appending goes to the end", appended),
    ("emptying on open leaves nothing", emptied),
    ("writing in the middle keeps the rest", in_the_middle),
    ("writing after the end leaves zeros before it", after_the_end),
    ("a path can be cut and extended", truncated),
    ("an open file can be cut and extended", truncated_open),
    ("exclusive creation fails when the name is taken", exclusive),
    ("a file is read while it is written", read_while_written),
    ("two writers of one file see each other", two_writers),
    ("reading and writing with one descriptor", read_write),
    ("a removed file lives on while it is open", removed_open),
    ("a file that is replaced while it is open lives on", replaced_open),
    ("renaming takes the content along", renamed),
    ("renaming replaces what is there", renamed_over),
    ("renaming without replacing refuses", renamed_carefully),
    ("an unfinished file can be renamed", renamed_unfinished),
    ("a directory is renamed with all in it", renamed_directory),
    ("a directory is not renamed into itself or over a full one", renamed_badly),
    ("a file and a directory do not replace each other", renamed_across),
    ("directories come and go", directories),
    ("a full directory is not removed", full_directory),
    ("a directory stays when its last file goes", emptied_directory),
    ("a listing can be begun again", listed_again),
    ("times are kept", times),
    ("permission bits are kept", modes),
    (DIRECTORY_MODES, directory_modes),
    ("a file belongs to its owner and is given to nobody else", owners),
    ("names that cannot be stored are refused", bad_names),
    ("links and devices are refused", refused),
    ("attributes of other kinds are not supported", extended),
    ("locks work on one machine", locks),
    ("a file can be mapped for reading", mapped),
    ("a file can be mapped for writing", mapped_writable),
    ("a file system has room", room),
    ("a sparse file is read as zeros", sparse),
    ("syncing stores what was written", synced),
];

/// They store many files, or large ones.
pub(crate) const LONG: &[(&str, Check)] = &[
    ("a listing has every entry once", listed),
    ("odd names work", odd_names),
    ("a large file has what was written to it", large),
];

fn no(result: std::io::Result<impl Sized>, errno: i32) {
    match result {
        Ok(_) => panic!("it was not refused, but should be with {}", Errno::from_raw(errno)),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{error}"),
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

fn update(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn written(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    assert_eq!(fs::metadata(&path).unwrap().len(), 5);
    fs::write(&path, "x").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "x");
}

fn empty(directory: &Path) {
    let path = directory.join("a");
    drop(File::create(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(fs::read(&path).unwrap(), b"");
    no(fs::metadata(directory.join("b")), libc::ENOENT);
    no(File::open(directory.join("b")), libc::ENOENT);
    no(fs::write(directory.join("b/c"), ""), libc::ENOENT);
    no(fs::write(directory.join("a/c"), ""), libc::ENOTDIR);
}

fn appended(directory: &Path) {
    let path = directory.join("a");
    for line in ["one\n", "two\n", "three\n"] {
        append(&path).write_all(line.as_bytes()).unwrap();
    }
    let mut file = append(&path);
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"four\n").unwrap();
    file.write_all(b"five\n").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\nfive\n");
}

fn emptied(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello").unwrap();
    let file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"");
}

fn in_the_middle(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello world").unwrap();
    update(&path).write_all_at(b"J", 0).unwrap();
    update(&path).write_all_at(b"W", 6).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "Jello World");
    let mut file = append(&path);
    file.write_all(b"!").unwrap();
    drop(file);
    update(&path).write_all_at(b"h", 0).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello World!");
}

fn after_the_end(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "ab").unwrap();
    update(&path).write_all_at(b"c", 5).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"ab\0\0\0c");
}

fn truncated(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "teapot").unwrap();
    for (length, content) in [(3, &b"tea"[..]), (5, b"tea\0\0"), (0, b"")] {
        nix::unistd::truncate(&path, length).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), u64::try_from(length).unwrap());
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

fn truncated_open(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello").unwrap();
    let file = update(&path);
    file.set_len(2).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2);
    file.set_len(4).unwrap();
    file.write_all_at(b"x", 4).unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"he\0\0x");
}

fn exclusive(directory: &Path) {
    let path = directory.join("a");
    let create = || OpenOptions::new().write(true).create_new(true).open(&path);
    create().unwrap().write_all(b"first").unwrap();
    no(create(), libc::EEXIST);
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    let unfinished = directory.join("b");
    let mut file = File::create(&unfinished).unwrap();
    no(OpenOptions::new().write(true).create_new(true).open(&unfinished), libc::EEXIST);
    file.write_all(b"x").unwrap();
}

fn read_while_written(directory: &Path) {
    let path = directory.join("a");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(b"hello").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    let mut reader = File::open(&path).unwrap();
    writer.write_all(b" world").unwrap();
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "hello world");
    drop(writer);
    append(&path).write_all(b"!").unwrap();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "hello world!");
}

fn two_writers(directory: &Path) {
    let path = directory.join("a");
    let one = File::create(&path).unwrap();
    let two = update(&path);
    one.write_all_at(b"one", 0).unwrap();
    two.write_all_at(b"two", 3).unwrap();
    drop(one);
    assert_eq!(fs::read_to_string(&path).unwrap(), "onetwo");
    two.write_all_at(b"T", 3).unwrap();
    drop(two);
    assert_eq!(fs::read_to_string(&path).unwrap(), "oneTwo");
}

fn read_write(directory: &Path) {
    let path = directory.join("a");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"hello").unwrap();
    file.seek(SeekFrom::Start(1)).unwrap();
    let mut seen = String::new();
    file.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "ello");
    assert_eq!(file.seek(SeekFrom::End(-2)).unwrap(), 3);
}

fn removed_open(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello").unwrap();
    let (reader, writer) = (File::open(&path).unwrap(), update(&path));
    fs::remove_file(&path).unwrap();
    no(fs::metadata(&path), libc::ENOENT);
    writer.write_all_at(b"J", 0).unwrap();
    let mut seen = [0; 5];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"Jello");
    assert_eq!(writer.metadata().unwrap().nlink(), 0);
    drop((reader, writer));
    no(fs::metadata(&path), libc::ENOENT);
    let unfinished = File::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    drop(unfinished);
    no(fs::metadata(&path), libc::ENOENT);
}

fn replaced_open(directory: &Path) {
    let (old, new) = (directory.join("old"), directory.join("new"));
    fs::write(&old, "old").unwrap();
    fs::write(&new, "new").unwrap();
    let reader = File::open(&old).unwrap();
    fs::rename(&new, &old).unwrap();
    let mut seen = [0; 3];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!((&seen, fs::read_to_string(&old).unwrap().as_str()), (b"old", "new"));
}

fn renamed(directory: &Path) {
    let (from, to) = (directory.join("a"), directory.join("b"));
    fs::write(&from, "hello").unwrap();
    let inode = fs::metadata(&from).unwrap().ino();
    fs::rename(&from, &to).unwrap();
    no(fs::metadata(&from), libc::ENOENT);
    assert_eq!(fs::read_to_string(&to).unwrap(), "hello");
    assert_eq!(fs::metadata(&to).unwrap().ino(), inode);
    no(fs::rename(&from, &to), libc::ENOENT);
}

fn renamed_over(directory: &Path) {
    let (from, to) = (directory.join("a"), directory.join("b"));
    fs::write(&to, "old").unwrap();
    fs::write(&from, "new").unwrap();
    fs::rename(&from, &to).unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "new");
    assert_eq!(names(directory), ["b"]);
}

fn renamed_carefully(directory: &Path) {
    let (from, to) = (directory.join("a"), directory.join("b"));
    fs::write(&from, "1").unwrap();
    fs::write(&to, "2").unwrap();
    let careful = |flags| {
        let here = nix::fcntl::AT_FDCWD;
        renameat2(here, &from, here, &to, flags).map_err(std::io::Error::from)
    };
    no(careful(RenameFlags::RENAME_NOREPLACE), libc::EEXIST);
    no(careful(RenameFlags::RENAME_EXCHANGE), libc::EINVAL);
    fs::remove_file(&to).unwrap();
    careful(RenameFlags::RENAME_NOREPLACE).unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "1");
}

fn renamed_unfinished(directory: &Path) {
    let (from, to) = (directory.join("a"), directory.join("b"));
    fs::write(&to, "old").unwrap();
    let mut file = File::create(&from).unwrap();
    file.write_all(b"one").unwrap();
    fs::rename(&from, &to).unwrap();
    file.write_all(b"two").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&to).unwrap(), "onetwo");
    assert_eq!(names(directory), ["b"]);
    let mut file = append(&to);
    file.write_all(b"three").unwrap();
    fs::rename(&to, &from).unwrap();
    file.write_all(b"four").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&from).unwrap(), "onetwothreefour");
    assert_eq!(names(directory), ["a"]);
}

fn renamed_directory(directory: &Path) {
    let (from, to) = (directory.join("from"), directory.join("to"));
    fs::create_dir_all(from.join("x/y")).unwrap();
    fs::create_dir(from.join("empty")).unwrap();
    fs::write(from.join("a"), "a").unwrap();
    fs::write(from.join("x/y/b"), "b").unwrap();
    let mut open = append(&from.join("x/y/b"));
    fs::create_dir(&to).unwrap();
    fs::rename(&from, &to).unwrap();
    no(fs::metadata(&from), libc::ENOENT);
    open.write_all(b"c").unwrap();
    drop(open);
    assert_eq!(fs::read_to_string(to.join("a")).unwrap(), "a");
    assert_eq!(fs::read_to_string(to.join("x/y/b")).unwrap(), "bc");
    assert_eq!(names(&to), ["a", "empty", "x"]);
    assert_eq!(names(directory), ["to"]);
}

fn renamed_badly(directory: &Path) {
    let (one, two) = (directory.join("one"), directory.join("two"));
    fs::create_dir_all(one.join("inner")).unwrap();
    fs::create_dir(&two).unwrap();
    fs::write(two.join("a"), "a").unwrap();
    no(fs::rename(&one, one.join("inner/deeper")), libc::EINVAL);
    no(fs::rename(&one, &two), libc::ENOTEMPTY);
    assert_eq!(names(directory), ["one", "two"]);
}

fn renamed_across(directory: &Path) {
    let (file, folder) = (directory.join("file"), directory.join("folder"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&folder).unwrap();
    no(fs::rename(&file, &folder), libc::EISDIR);
    no(fs::rename(&folder, &file), libc::ENOTDIR);
}

fn directories(directory: &Path) {
    let path = directory.join("d");
    fs::create_dir(&path).unwrap();
    no(fs::create_dir(&path), libc::EEXIST);
    assert!(fs::metadata(&path).unwrap().is_dir());
    assert_eq!(names(&path), [""; 0]);
    no(fs::remove_file(&path), libc::EISDIR);
    no(File::create(&path), libc::EISDIR);
    fs::remove_dir(&path).unwrap();
    no(fs::metadata(&path), libc::ENOENT);
    no(fs::remove_dir(&path), libc::ENOENT);
    fs::write(&path, "now a file").unwrap();
    no(fs::remove_dir(&path), libc::ENOTDIR);
    no(fs::create_dir(&path), libc::EEXIST);
}

fn full_directory(directory: &Path) {
    let path = directory.join("d");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), "a").unwrap();
    no(fs::remove_dir(&path), libc::ENOTEMPTY);
    fs::remove_file(path.join("a")).unwrap();
    fs::create_dir(path.join("inner")).unwrap();
    no(fs::remove_dir(&path), libc::ENOTEMPTY);
    let unfinished = File::create(path.join("b")).unwrap();
    fs::remove_dir(path.join("inner")).unwrap();
    no(fs::remove_dir(&path), libc::ENOTEMPTY);
    drop(unfinished);
    fs::remove_dir_all(&path).unwrap();
}

fn emptied_directory(directory: &Path) {
    let path = directory.join("d");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), "a").unwrap();
    fs::remove_file(path.join("a")).unwrap();
    assert_eq!(names(&path), [""; 0]);
    fs::write(path.join("b"), "b").unwrap();
    fs::rename(path.join("b"), directory.join("b")).unwrap();
    assert!(fs::metadata(&path).unwrap().is_dir());
}

fn listed(directory: &Path) {
    let expected: Vec<String> = (0..60).map(|number| format!("file-{number:04}")).collect();
    for name in &expected {
        drop(File::create(directory.join(name)).unwrap());
    }
    let unfinished = File::create(directory.join("unfinished")).unwrap();
    fs::create_dir(directory.join("folder")).unwrap();
    let mut all = expected;
    all.extend(["folder".to_owned(), "unfinished".to_owned()]);
    assert_eq!(names(directory), all);
    drop(unfinished);
    assert_eq!(names(directory), all);
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.file_type().unwrap().is_dir(), entry.file_name() == "folder");
    }
}

fn listed_again(directory: &Path) {
    fs::write(directory.join("a"), "a").unwrap();
    let mut open = nix::dir::Dir::open(directory, OFlag::O_RDONLY, Mode::empty()).unwrap();
    let read = |open: &mut nix::dir::Dir| {
        let names = open.iter().map(|entry| entry.unwrap().file_name().to_owned());
        names.collect::<Vec<_>>().len()
    };
    assert_eq!(read(&mut open), 3);
    fs::write(directory.join("b"), "b").unwrap();
    assert_eq!(read(&mut open), 4);
}

fn times(directory: &Path) {
    let path = directory.join("a");
    #[expect(clippy::disallowed_methods, reason = "the mount takes the time from there, too")]
    let before = SystemTime::now() - Duration::from_secs(2);
    fs::write(&path, "a").unwrap();
    assert!(fs::metadata(&path).unwrap().modified().unwrap() >= before);
    let set = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    update(&path).set_modified(set).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), set);
    assert_eq!(fs::read(&path).unwrap(), b"a");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"b").unwrap();
    file.set_modified(set).unwrap();
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), set);
    append(&path).write_all(b"c").unwrap();
    assert!(fs::metadata(&path).unwrap().modified().unwrap() >= before);
}

fn modes(directory: &Path) {
    let path = directory.join("a");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    fs::write(&path, "a").unwrap();
    assert_eq!(mode(&path), 0o644);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(mode(&path), 0o600);
    fs::write(&path, "b").unwrap();
    assert_eq!(mode(&path), 0o600);
    drop(
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(directory.join("b"))
            .unwrap(),
    );
    assert_eq!(mode(&directory.join("b")), 0o640);
}

fn directory_modes(directory: &Path) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let folder = directory.join("d");
    fs::create_dir(&folder).unwrap();
    assert_eq!(mode(&folder), 0o755);
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(mode(&folder), 0o700);
}

fn owners(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "a").unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
    std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
    no(std::os::unix::fs::chown(&path, Some(1234), None), libc::EPERM);
}

fn odd_names(directory: &Path) {
    let long = "l".repeat(255);
    let odd = ["a b", "ü ß 漢字", "%41", "a+b", "\u{1}\t", "'\"<&>", "a?b#c", "-", "...", &long];
    for name in odd {
        fs::write(directory.join(name), name).unwrap();
    }
    for name in odd {
        assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), name);
    }
    let mut expected: Vec<String> = odd.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(names(directory), expected);
    for name in odd {
        fs::rename(directory.join(name), directory.join("moved")).unwrap();
        assert_eq!(fs::read_to_string(directory.join("moved")).unwrap(), name);
    }
    assert_eq!(names(directory), ["moved"]);
}

fn bad_names(directory: &Path) {
    use std::os::unix::ffi::OsStrExt;
    no(fs::write(directory.join("l".repeat(256)), ""), libc::ENAMETOOLONG);
    let not_text = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    no(fs::write(directory.join(not_text), ""), libc::EILSEQ);
    no(fs::metadata(directory.join(not_text)), libc::ENOENT);
    let mut deep = directory.to_owned();
    let outcome = loop {
        deep.push("d".repeat(200));
        if let Err(error) = fs::create_dir(&deep) {
            break error;
        }
    };
    assert_eq!(outcome.raw_os_error(), Some(libc::ENAMETOOLONG));
}

fn refused(directory: &Path) {
    let (file, other) = (directory.join("a"), directory.join("b"));
    fs::write(&file, "a").unwrap();
    no(std::os::unix::fs::symlink("a", &other), libc::EPERM);
    no(fs::hard_link(&file, &other), libc::EPERM);
    let node = |kind| mknod(&other, kind, Mode::S_IRUSR, 0).map_err(std::io::Error::from);
    no(node(SFlag::S_IFIFO), libc::EPERM);
    no(node(SFlag::S_IFSOCK), libc::EPERM);
    node(SFlag::S_IFREG).unwrap();
    assert!(!fs::metadata(&other).unwrap().file_type().is_fifo());
    let access = nix::unistd::faccessat(
        nix::fcntl::AT_FDCWD,
        &file,
        nix::unistd::AccessFlags::X_OK,
        AtFlags::empty(),
    );
    assert_eq!(access, Err(Errno::EACCES), "nothing here is a program");
}

fn extended(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "a").unwrap();
    let script = "import os,sys\ntry: os.setxattr(sys.argv[1],'user.x',b'y')\nexcept OSError as error: print(error.errno)";
    let output = crate::tools::run("python3", &["-c", script], &path);
    assert_eq!(output.trim(), libc::EOPNOTSUPP.to_string());
}

fn locks(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "a").unwrap();
    let held = Flock::lock(update(&path), FlockArg::LockExclusiveNonblock).unwrap();
    let (_, errno) = Flock::lock(update(&path), FlockArg::LockExclusiveNonblock).unwrap_err();
    assert_eq!(errno, Errno::EWOULDBLOCK);
    drop(held);
    drop(Flock::lock(update(&path), FlockArg::LockExclusiveNonblock).unwrap());
    let lock = libc::flock { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    let file = update(&path);
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    let other = update(&path);
    let refused = nix::fcntl::fcntl(&other, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock));
    assert_eq!(refused, Err(Errno::EAGAIN));
}

fn mapped(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello ".repeat(10_000)).unwrap();
    let script = "import mmap,sys\nf=open(sys.argv[1],'rb')\nm=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)\nprint(len(m), m[59994:60000])";
    let output = crate::tools::run("python3", &["-c", script], &path);
    assert_eq!(output, "60000 b'hello '\n");
}

fn mapped_writable(directory: &Path) {
    let path = directory.join("a");
    fs::write(&path, "hello").unwrap();
    let script = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0:1]=b'J'\nm.flush()\nm.close()\nf.close()";
    let output = crate::tools::run("python3", &["-c", script], &path);
    assert_eq!((output.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("", "Jello"));
}

fn room(directory: &Path) {
    let room = nix::sys::statvfs::statvfs(directory).unwrap();
    assert!(room.blocks_available() > 1 << 40);
    assert_eq!(room.name_max(), 255);
}

fn large(directory: &Path) {
    let path = directory.join("a");
    let piece: Vec<u8> =
        (0..1_000_003_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let mut file = File::create(&path).unwrap();
    for _ in 0..40 {
        file.write_all(&piece).unwrap();
    }
    drop(file);
    let mut file = File::open(&path).unwrap();
    let mut seen = vec![0; piece.len()];
    for _ in 0..40 {
        file.read_exact(&mut seen).unwrap();
        assert!(seen == piece);
    }
    append(&path).write_all(b"end").unwrap();
    let mut tail = [0; 4];
    File::open(&path).unwrap().read_exact_at(&mut tail, 40 * 1_000_003 - 1).unwrap();
    assert_eq!(&tail[1..], b"end");
    update(&path).write_all_at(b"begin", 0).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 40 * 1_000_003 + 3);
    let mut head = [0; 5];
    File::open(&path).unwrap().read_exact_at(&mut head, 0).unwrap();
    assert_eq!(&head, b"begin");
}

fn sparse(directory: &Path) {
    let path = directory.join("a");
    let file = File::create(&path).unwrap();
    file.set_len(1_000_000).unwrap();
    file.write_all_at(b"x", 999_999).unwrap();
    drop(file);
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len(), 1_000_000);
    assert!(content[..999_999].iter().all(|byte| *byte == 0) && content[999_999] == b'x');
}

fn synced(directory: &Path) {
    let path = directory.join("a");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"one").unwrap();
    file.sync_all().unwrap();
    file.write_all(b"two").unwrap();
    file.sync_data().unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "onetwo");
    File::open(directory).unwrap().sync_all().unwrap_or_else(|error| {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    });
}
