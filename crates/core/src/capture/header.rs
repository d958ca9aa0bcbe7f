//! The comment at the top of a plugin or theme, as WordPress reads it (`get_file_data`), and the
//! version that WordPress says it has.

/// How many bytes WordPress looks at for a header.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// A longer version is none.
const VERSION_CHARACTERS_MAX: usize = 30;

/// Whether a file is the main file of a plugin.
#[must_use]
pub fn is_plugin(file: &[u8]) -> bool {
    field(file, "Plugin Name").is_some()
}

/// Reads `Version:` of the main file of a plugin, or of a theme's `style.css`.
#[must_use]
pub fn version(file: &[u8]) -> Option<String> {
    field(file, "Version").and_then(|value| bounded(&value))
}

/// Reads `$wp_version` of `wp-includes/version.php`.
#[must_use]
pub fn wordpress_version(file: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head(file));
    let value = text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("$wp_version")?.trim_start().strip_prefix('=')?;
        Some(rest.split(';').next()?.trim().trim_matches(['\'', '"']).to_owned())
    })?;
    bounded(&value)
}

/// Finds ` * Name: value` on a line of its own.
fn field(file: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head(file));
    text.split(['\n', '\r']).find_map(|line| {
        let line =
            line.trim_start_matches("<?php").trim_start_matches([' ', '\t', '/', '*', '#', '@']);
        let start = line.get(..name.len())?;
        let rest = start.eq_ignore_ascii_case(name).then(|| line.get(name.len()..))??;
        let value = rest.strip_prefix(':')?;
        let value = value.split("*/").next()?.split("?>").next()?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    })
}

fn head(file: &[u8]) -> &[u8] {
    file.get(..HEADER_BYTES_MAX).unwrap_or(file)
}

fn bounded(value: &str) -> Option<String> {
    let is_plain = value.chars().all(|one| !one.is_control() && !one.is_whitespace());
    let length = value.chars().count();
    (is_plain && (1..=VERSION_CHARACTERS_MAX).contains(&length)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_wordpress_reads_them() {
        for (text, is_main, expected) in [
            ("<?php\n/*\n * Plugin Name: Akismet\n * Version: 5.1\n */\n", true, Some("5.1")),
            ("<?php\r\n/*\r\nPlugin Name: Hello\r\nVersion: 1.7.2\r\n*/", true, Some("1.7.2")),
            ("<?php // Plugin Name: Short\n// version:2.0-beta", true, Some("2.0-beta")),
            ("<?php /* Plugin Name: One line */", true, None),
            ("/*\nTheme Name: T\nVersion: 1.0 */", false, Some("1.0")),
            ("<?php\n/*\nPlugin Name:\n*/", false, None),
            ("<?php\n * Requires Version: 3\n", false, None),
            ("Version: a b", false, None),
            ("Version: 1234567890123456789012345678901", false, None),
            ("", false, None),
        ] {
            assert_eq!(is_plugin(text.as_bytes()), is_main, "{text}");
            assert_eq!(version(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_header_that_comes_late_is_none() {
        let mut file = vec![b'\n'; HEADER_BYTES_MAX];
        file.extend(b"Plugin Name: Late\nVersion: 1\n");
        assert!(!is_plugin(&file));
        assert_eq!(version(&file), None);
    }

    #[test]
    fn the_version_of_wordpress_is_an_assignment() {
        let file = b"<?php\n * @global string $wp_version\n$wp_version = '6.8.1';\n";
        assert_eq!(wordpress_version(file).as_deref(), Some("6.8.1"));
        assert_eq!(wordpress_version(b"<?php $x = 1;"), None);
    }
}
