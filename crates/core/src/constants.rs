//! WordPress' constants: which of them a site may set, and which are flotilla's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::template::php_quote;

/// The value of a constant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConstantValue {
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// A text on one line.
    Text(String),
}

/// Constants by name.
pub type Constants = BTreeMap<String, ConstantValue>;

impl ConstantValue {
    /// Writes the value as PHP.
    #[must_use]
    pub fn php(&self) -> String {
        match self {
            Self::Switch(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => php_quote(text),
        }
    }
}

impl fmt::Display for ConstantValue {
    /// Writes the value as TOML.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(value) => write!(formatter, "{value}"),
            Self::Number(value) => write!(formatter, "{value}"),
            Self::Text(text) => write!(formatter, "{}", toml::Value::String(text.clone())),
        }
    }
}

/// Whether a text can be the name of a PHP constant.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.len() <= 100
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// Says why a site may not set a constant, with the way out; `None` when it may.
#[must_use]
pub fn refusal(name: &str) -> Option<&'static str> {
    let owned = OWNED.iter().find(|(names, _)| {
        names.iter().any(|one| match one.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *one,
        })
    });
    owned.map(|(_, reason)| *reason)
}

/// Names, of which those with `*` are beginnings, and why they are not the site's.
const OWNED: &[(&[&str], &str)] = &[
    (
        &["DB_NAME", "DB_USER", "DB_PASSWORD", "DB_HOST"],
        "flotilla runs the database or takes it from `database.url`",
    ),
    (&["DB_CHARSET", "DB_COLLATE"], "flotilla's databases are utf8mb4"),
    (&["MYSQL_CLIENT_FLAGS"], "`database.tls` sets it"),
    (
        &[
            "AUTH_KEY",
            "SECURE_AUTH_KEY",
            "LOGGED_IN_KEY",
            "NONCE_KEY",
            "AUTH_SALT",
            "SECURE_AUTH_SALT",
            "LOGGED_IN_SALT",
            "NONCE_SALT",
        ],
        "the fleet's secrets hold it; `flotilla secrets rotate salts` replaces it",
    ),
    (&["WP_HOME", "WP_SITEURL"], "`site.url` sets it"),
    (
        &["ABSPATH", "WPINC", "WP_CONTENT_DIR", "WP_PLUGIN_DIR", "PLUGINDIR", "WPMU_PLUGIN_DIR"],
        "the code has the same place on every instance",
    ),
    (&["MUPLUGINDIR", "WP_LANG_DIR", "LANGDIR"], "the code has the same place on every instance"),
    (&["WP_TEMP_DIR"], "each instance has a `/tmp` of its own"),
    (&["UPLOADS", "BLOGUPLOADDIR", "UPLOADBLOGSDIR"], "media lie in `wp-content/uploads`"),
    (&["DISABLE_WP_CRON", "ALTERNATE_WP_CRON"], "flotilla runs scheduled work once for the fleet"),
    (
        &["DISALLOW_FILE_MODS", "AUTOMATIC_UPDATER_DISABLED", "WP_AUTO_UPDATE_CORE", "FS_METHOD"],
        "code changes on the workshop, never on an instance",
    ),
    (&["FTP_*"], "WordPress writes code on the workshop only, and needs no FTP there"),
    (&["WP_CACHE_KEY_SALT"], "flotilla keeps sites apart in the object cache"),
    (&["FLOTILLA_*"], "such names are flotilla's own"),
    (&["WP_INSTALLING", "WP_SETUP_CONFIG", "WP_REPAIRING"], "it would close the site for all"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_flotilla_are_refused_and_others_are_the_sites() {
        for name in ["DB_PASSWORD", "NONCE_SALT", "WP_HOME", "ABSPATH", "FTP_USER", "FLOTILLA_X"] {
            assert!(refusal(name).is_some(), "{name}");
        }
        for name in ["WP_POST_REVISIONS", "WP_CACHE", "DB_PASSWORDS", "EMPTY_TRASH_DAYS", "UPLOAD"]
        {
            assert_eq!(refusal(name), None, "{name}");
        }
    }

    #[test]
    fn values_are_written_as_php_and_as_toml() {
        let text = ConstantValue::Text("it's \"5\"".to_owned());
        assert_eq!(text.php(), r#"'it\'s "5"'"#);
        let line = format!("X = {text}");
        assert_eq!(line.parse::<toml::Table>().unwrap()["X"].as_str(), Some("it's \"5\""));
        assert_eq!(ConstantValue::Switch(true).php(), "true");
        assert_eq!(ConstantValue::Number(-5).php(), "-5");
    }

    #[test]
    fn a_name_is_one_word() {
        assert!(is_name("WP_POST_REVISIONS") && is_name("_x9"));
        for bad in ["", "9A", "A-B", "A B", "A'", "É", &"A".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
