//! Where the code of a new site comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::text::{check_authority, only, require};

/// Where the code of a new site comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The newest WordPress from wordpress.org.
    Latest,
    /// The `wordpress` package of Debian, of this suite when one is named.
    Debian(Option<String>),
    /// A zip at an http or https address.
    Url(String),
    /// A zip file, relative to the directory of the configuration file.
    Zip(PathBuf),
    /// A directory, relative to the directory of the configuration file.
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        require(!text.is_empty(), "it is empty")?;
        match text {
            "latest" => return Ok(Self::Latest),
            "debian" => return Ok(Self::Debian(None)),
            _ => {}
        }
        if let Some(suite) = text.strip_prefix("debian:") {
            only(suite, 30, "-")?;
            return Ok(Self::Debian(Some(suite.to_owned())));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic());
            require(matches!(scheme, "http" | "https"), "its address is neither http nor https")?;
            require(!authority.contains('@'), "it has a user or password in it")?;
            require(is_plain, "it has characters that an address writes as `%20`")?;
            check_authority(authority)?;
            return Ok(Self::Url(text.to_owned()));
        }
        if text.ends_with(".zip") {
            return Ok(Self::Zip(text.into()));
        }
        require(text.contains('/') || text.starts_with('.'), "write a directory as `\"./name\"`")?;
        Ok(Self::Directory(text.into()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => formatter.write_str("latest"),
            Self::Debian(None) => formatter.write_str("debian"),
            Self::Debian(Some(suite)) => write!(formatter, "debian:{suite}"),
            Self::Url(url) => formatter.write_str(url),
            Self::Zip(path) | Self::Directory(path) => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_by_its_form() {
        for (text, source) in [
            ("latest", Source::Latest),
            ("debian", Source::Debian(None)),
            ("debian:trixie", Source::Debian(Some("trixie".to_owned()))),
            ("https://shop.example/wp.zip", Source::Url("https://shop.example/wp.zip".to_owned())),
            ("wp.zip", Source::Zip("wp.zip".into())),
            ("./wordpress", Source::Directory("./wordpress".into())),
            ("/srv/www", Source::Directory("/srv/www".into())),
        ] {
            assert_eq!(text.parse(), Ok(source.clone()), "{text}");
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn a_mistyped_word_is_not_taken_for_a_directory() {
        for bad in
            ["", "lastest", "debian:", "ftp://a/b", "https://u:p@h/x", "http://", "https:///"]
        {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
