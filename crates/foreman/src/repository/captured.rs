//! What of a WordPress directory belongs in a commit, decided by the path alone.
//!
//! Code does, whoever put it there: core, plugins, themes, languages, drop-ins, files at the top.
//! What WordPress and plugins make while they run does not, nor do secrets.

/// Directories and files that are never committed, with all below them.
const NEVER: &[&[u8]] = &[
    b".maintenance",
    b".env",
    b"wp-content/ai1wm-backups",
    b"wp-content/backup-db",
    b"wp-content/backups",
    b"wp-content/blogs.dir",
    b"wp-content/cache",
    b"wp-content/debug.log",
    b"wp-content/updraft",
    b"wp-content/upgrade",
    b"wp-content/upgrade-temp-backup",
    b"wp-content/uploads",
    b"wp-content/wflogs",
];

/// Where a `.sql` file is part of a program rather than somebody's data.
const CODE: &[&[u8]] = &[
    b"wp-admin/",
    b"wp-content/mu-plugins/",
    b"wp-content/plugins/",
    b"wp-content/themes/",
    b"wp-includes/",
];

/// Whether the path, with all below it, stays out of commits.
///
/// It is asked for each directory on the way, so a path below one that stays out need not be known.
#[must_use]
pub fn stays_out(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let is_top = name.len() == path.len();
    NEVER.contains(&path)
        || name.eq_ignore_ascii_case(b".git")
        || name == b"error_log"
        || name == b".flotilla-new"
        || path == flotilla_host::git::directories::FILE_NAME.as_bytes()
        || (is_top && is_configuration(name))
        || path.starts_with(b"wp-content/backupwordpress-")
        || (is_dump(name) && !CODE.iter().any(|code| path.starts_with(code)))
}

/// Whether it is `wp-config.php`, or a copy that an editor or a person made of it.
fn is_configuration(name: &[u8]) -> bool {
    let name = name.strip_prefix(b".").unwrap_or(name);
    name.starts_with(b"wp-config") && name != b"wp-config-sample.php"
}

fn is_dump(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let packed: [&[u8]; 6] = [b"", b".gz", b".zip", b".bz2", b".xz", b".zst"];
    packed.iter().any(|end| name.strip_suffix(*end).is_some_and(|name| name.ends_with(b".sql")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_committed_and_what_is_made_while_running_is_not() {
        for path in [
            "index.php",
            "wp-config-sample.php",
            ".htaccess",
            "wp-content/object-cache.php",
            "wp-content/languages/de_DE.mo",
            "wp-content/plugins/akismet/.gitignore",
            "wp-content/plugins/shop/cache/class-cache.php",
            "wp-content/plugins/shop/install.sql",
            "wp-content/plugins/shop/wp-config.php",
            "wp-content/uploads-helper.php",
        ] {
            assert!(!stays_out(path.as_bytes()), "{path}");
        }
        for path in [
            "wp-config.php",
            "wp-config.php.bak",
            ".wp-config.php.swp",
            ".maintenance",
            ".env",
            ".git",
            "wp-content/uploads",
            "wp-content/cache",
            "wp-content/upgrade",
            "wp-content/upgrade-temp-backup",
            "wp-content/wflogs",
            "wp-content/debug.log",
            "wp-content/plugins/own/.git",
            "wp-content/plugins/own/error_log",
            "dump.sql",
            "wp-content/shop.SQL.gz",
        ] {
            assert!(stays_out(path.as_bytes()), "{path}");
        }
    }
}
