//! Which part of a WordPress a path belongs to: what people call a plugin, a theme, the core.

/// The kinds of parts, in the order in which a message names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What wordpress.org ships, without its plugins and themes.
    WordPress,
    /// A plugin: a directory, or one file.
    Plugin,
    /// A theme.
    Theme,
    /// A plugin that is always active.
    MustUse,
    /// A file that takes the place of a piece of WordPress.
    DropIn,
    /// Language packs.
    Translations,
    /// Anything else.
    Other,
}

/// The drop-ins that WordPress knows (`_get_dropins`).
const DROP_INS: &[&[u8]] = &[
    b"advanced-cache.php",
    b"blog-deleted.php",
    b"blog-inactive.php",
    b"blog-suspended.php",
    b"db-error.php",
    b"db.php",
    b"fatal-error-handler.php",
    b"install.php",
    b"maintenance.php",
    b"object-cache.php",
    b"php-error.php",
    b"sunrise.php",
];
/// Files of WordPress beside its own two directories.
const SHIPPED: &[&[u8]] = &[
    b"index.php",
    b"license.txt",
    b"readme.html",
    b"wp-content/index.php",
    b"wp-content/plugins/index.php",
    b"wp-content/themes/index.php",
    b"xmlrpc.php",
];

/// One part of a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// The path of its file, or of its directory with a `/` at the end; empty for WordPress,
    /// translations and all the rest.
    pub root: Vec<u8>,
}

impl Part {
    /// Returns the part that a path belongs to.
    #[must_use]
    pub fn of(path: &[u8]) -> Self {
        if is_wordpress(path) {
            return Self { kind: Kind::WordPress, root: Vec::new() };
        }
        let Some(below) = path.strip_prefix(b"wp-content/") else { return Self::other() };
        if DROP_INS.contains(&below) {
            return Self { kind: Kind::DropIn, root: path.to_vec() };
        }
        if below.starts_with(b"languages/") {
            return Self { kind: Kind::Translations, root: Vec::new() };
        }
        let kinds: [(&[u8], Kind); 3] = [
            (b"plugins/", Kind::Plugin),
            (b"themes/", Kind::Theme),
            (b"mu-plugins/", Kind::MustUse),
        ];
        for (directory, kind) in kinds {
            if let Some(inside) = below.strip_prefix(directory) {
                return Self::inside(kind, path, inside);
            }
        }
        Self::other()
    }

    /// Returns its name as people write it: `akismet`.
    #[must_use]
    pub fn name(&self) -> String {
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        let name = root.rsplit(|byte| *byte == b'/').next().unwrap_or(root);
        let name = match self.kind {
            Kind::Plugin | Kind::MustUse => name.strip_suffix(b".php").unwrap_or(name),
            _ => name,
        };
        super::shown(name)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.root.last() == Some(&b'/')
    }

    /// Whether it is something that is installed, updated and deleted as a whole.
    #[must_use]
    pub const fn is_package(&self) -> bool {
        matches!(self.kind, Kind::Plugin | Kind::Theme | Kind::MustUse)
    }

    const fn other() -> Self {
        Self { kind: Kind::Other, root: Vec::new() }
    }

    fn inside(kind: Kind, path: &[u8], inside: &[u8]) -> Self {
        let end = inside.iter().position(|byte| *byte == b'/');
        let length = match end {
            Some(end) => path.len() - inside.len() + end + 1,
            None if inside.ends_with(b".php") && kind != Kind::Theme => path.len(),
            None => return Self::other(),
        };
        Self { kind, root: path.get(..length).unwrap_or(path).to_vec() }
    }
}

fn is_wordpress(path: &[u8]) -> bool {
    let is_top = !path.contains(&b'/');
    path.starts_with(b"wp-admin/")
        || path.starts_with(b"wp-includes/")
        || SHIPPED.contains(&path)
        || (is_top && path.starts_with(b"wp-") && path.ends_with(b".php"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_part() {
        for (path, kind, name) in [
            ("wp-includes/version.php", Kind::WordPress, ""),
            ("wp-login.php", Kind::WordPress, ""),
            ("wp-content/plugins/akismet/akismet.php", Kind::Plugin, "akismet"),
            ("wp-content/plugins/akismet/views/a/b.php", Kind::Plugin, "akismet"),
            ("wp-content/plugins/hello.php", Kind::Plugin, "hello"),
            ("wp-content/plugins/index.php", Kind::WordPress, ""),
            ("wp-content/plugins/readme.txt", Kind::Other, ""),
            ("wp-content/themes/twentytwentythree/style.css", Kind::Theme, "twentytwentythree"),
            ("wp-content/mu-plugins/loader.php", Kind::MustUse, "loader"),
            ("wp-content/object-cache.php", Kind::DropIn, "object-cache.php"),
            ("wp-content/languages/plugins/akismet-de_DE.mo", Kind::Translations, ""),
            ("robots.txt", Kind::Other, ""),
            ("wp-content/fonts/a.woff2", Kind::Other, ""),
        ] {
            let part = Part::of(path.as_bytes());
            assert_eq!((part.kind, part.name().as_str()), (kind, name), "{path}");
        }
    }

    #[test]
    fn a_plugin_of_one_file_is_not_a_directory() {
        assert!(!Part::of(b"wp-content/plugins/hello.php").is_directory());
        assert!(Part::of(b"wp-content/plugins/hello.php/hello.php").is_directory());
    }
}
