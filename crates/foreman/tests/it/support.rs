//! Directories that hold a WordPress as far as these tests need one.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
