//! What becomes of a file that PHP writes, decided by where it lies.
//!
//! An instance may vanish at any moment, and its code is read-only. So there are places that all
//! instances share, places that each has for itself until it is prepared anew, and places that
//! nothing may be written to.

use crate::layout;

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A part of the release: read-only on instances, changed on the workshop or with git.
    Code,
    /// Uploads: the same from every instance at once, and lasting.
    Media,
    /// Data that plugins keep below the uploads: shared and lasting as those.
    Shared,
    /// Private to one slot of one instance, bounded, and empty again after the next release.
    Scratch,
    /// Nothing is written there: it would be lost, or it is not for a web server to write.
    Forbidden,
    /// Outside of the site: not the same on every machine.
    Outside,
}

/// How much a slot's scratch places can hold together; they lie in memory.
pub const SCRATCH_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Where a slot's scratch lies; its directories are shown at [`SCRATCH`] below the site.
pub const SCRATCH_ROOT: &str = "/srv/flotilla/scratch";

/// The directories that each slot has for itself, relative to the site.
pub const SCRATCH: [&str; 9] = [
    "wp-content/cache",
    "wp-content/et-cache",
    "wp-content/litespeed",
    "wp-content/logs",
    "wp-content/upgrade",
    "wp-content/upgrade-temp-backup",
    "wp-content/wflogs",
    "wp-content/wphb-cache",
    "wp-content/wphb-logs",
];

/// Uploads, relative to the site.
pub const UPLOADS: &str = "wp-content/uploads";

/// Where backups of plugins go: on an instance they would fill it and be lost with it. Those with a
/// `*` are beginnings.
const BACKUPS: [&str; 10] = [
    "wp-content/ai1wm-backups",
    "wp-content/backup-db",
    "wp-content/backups",
    "wp-content/backups-dup-lite",
    "wp-content/backups-dup-pro",
    "wp-content/backuply",
    "wp-content/backupwordpress-*",
    "wp-content/backwpup*",
    "wp-content/updraft",
    "wp-content/wpvividbackups",
];

/// Files of web servers and of WordPress itself that nothing but a deploy may change.
const FORBIDDEN: [&str; 5] = [".htaccess", ".user.ini", "wp-config.php", "php.ini", ".maintenance"];

/// What below the uploads is data of plugins rather than media.
const SHARED_ENDS: [&str; 4] = ["logs", "cache", "-log", "backups"];

/// Says what a place is. The path is absolute, as PHP sees it, or relative to the site.
#[must_use]
pub fn class_of(path: &str) -> Class {
    let Some(path) = below_site(path) else {
        return match path {
            path if path == layout::WP_CONFIG => Class::Forbidden,
            _ => Class::Outside,
        };
    };
    let is_in = |place: &str| match place.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == place || path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/')),
    };
    if is_in(UPLOADS) {
        let data =
            path.split('/').skip(2).any(|part| SHARED_ENDS.iter().any(|end| part.ends_with(end)));
        return if data { Class::Shared } else { Class::Media };
    }
    if SCRATCH.iter().any(|place| is_in(place)) || path == "wp-content/debug.log" {
        return Class::Scratch;
    }
    if BACKUPS.iter().any(|place| is_in(place)) || FORBIDDEN.contains(&path) {
        return Class::Forbidden;
    }
    Class::Code
}

/// Whether backups of a plugin go there.
#[must_use]
pub fn is_backup(path: &str) -> bool {
    let path = below_site(path).unwrap_or_default();
    BACKUPS.iter().any(|place| path.starts_with(place.trim_end_matches('*')))
}

/// Returns the path relative to the site; `None` when it lies elsewhere.
#[must_use]
pub fn below_site(path: &str) -> Option<&str> {
    match path.strip_prefix(layout::SITE) {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('/'),
        None if path.starts_with('/') => None,
        None => Some(path),
    }
}

impl Class {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Media => "media",
            Self::Shared => "shared",
            Self::Scratch => "scratch",
            Self::Forbidden => "forbidden",
            Self::Outside => "outside",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_class() {
        for (path, class) in [
            ("wp-content/uploads/2026/11/mug.jpg", Class::Media),
            ("/srv/flotilla/site/wp-content/uploads/wc-logs/fatal.log", Class::Shared),
            ("wp-content/cache", Class::Scratch),
            ("wp-content/cache/page/index.html", Class::Scratch),
            ("wp-content/cached.php", Class::Code),
            ("wp-content/wflogs/config.php", Class::Scratch),
            ("wp-content/debug.log", Class::Scratch),
            ("wp-content/languages/de_DE.mo", Class::Code),
            ("wp-content/plugins/shop/settings.json", Class::Code),
            ("wp-content/object-cache.php", Class::Code),
            ("wp-content/updraft/backup.zip", Class::Forbidden),
            ("wp-content/backwpup-x9/backup.zip", Class::Forbidden),
            ("wp-config.php", Class::Forbidden),
            ("/srv/flotilla/wp-config.php", Class::Forbidden),
            (".htaccess", Class::Forbidden),
            ("/var/log/shop.log", Class::Outside),
            ("/srv/flotilla/sitemap", Class::Outside),
        ] {
            assert_eq!(class_of(path), class, "{path}");
        }
    }
}
