//! Directories that hold a WordPress as far as these tests need one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// What a directory holds: mode and bytes by path; directories have no bytes.
pub(crate) type Held = BTreeMap<Vec<u8>, (u32, Vec<u8>)>;

/// Writes a file with the directories above it.
pub(crate) fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

/// Writes what tells that a directory is a WordPress.
pub(crate) fn write_wordpress(root: &Path, version: &str) {
    let text = format!("<?php\n$wp_version = '{version}';\n$wp_db_version = 53496;\n");
    write(root, "wp-includes/version.php", text);
    write(root, "wp-settings.php", "<?php\n");
    write(root, "index.php", "<?php\n");
}

/// Makes every trap that git has for a site.
pub(crate) fn write_traps(site: &Path) {
    write(site, ".gitattributes", "* text=auto eol=crlf ident\n*.php export-ignore\n");
    write(site, ".gitignore", "*\n");
    let plugin = site.join("wp-content/plugins/shop");
    write(&plugin, ".gitignore", "vendor/\n*.log\n");
    write(&plugin, "vendor/autoload.php", "<?php // vendor\n");
    write(&plugin, "notes.log", "kept\n");
    write(&plugin, ".gitattributes", "tests/ export-ignore\n* text eol=lf ident filter=lfs\n");
    write(&plugin, "tests/test.php", "<?php\r\n$Id$\r\n\n");
    write(&plugin, "crlf.php", "a\r\nb\nc\r\n");
    write(&plugin, "utf16.txt", [0xff, 0xfe, b'a', 0]);
    write(&plugin, "empty", "");
    let cloned = site.join("wp-content/plugins/cloned");
    write(&cloned, "cloned.php", "<?php // beside .git\n");
    write(&cloned, "inner/deep.php", "<?php\n");
    write(site, "odd/ space ", "1");
    write(site, "odd/new\nline", "2");
    write(site, "odd/\"quoted\"", "3");
    write(site, "odd/back\\slash", "4");
    write(site, "odd/tab\t", "5");
    write(site, "odd/:colon", "6");
    write(site, "-dash", "7");
    std::fs::write(site.join(OsStr::from_bytes(b"odd/latin-\xe9")), "8").unwrap();
    write(site, "tool.sh", "#!/bin/sh\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.join("tool.sh"), executable).unwrap();
    symlink("index.php", site.join("link")).unwrap();
    symlink("/nowhere/at all", site.join("dangling")).unwrap();
    for empty in ["wp-content/languages", "wp-content/plugins/shop/cache/deep", "odd/e\nmpty"] {
        std::fs::create_dir_all(site.join(empty)).unwrap();
    }
}

/// Reads a directory.
pub(crate) fn held(root: &Path) -> Held {
    let mut held = Held::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let bytes = if metadata.is_dir() {
                queue.push(path);
                Vec::new()
            } else if metadata.is_symlink() {
                std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            held.insert(name, (metadata.mode(), bytes));
        }
    }
    held
}
