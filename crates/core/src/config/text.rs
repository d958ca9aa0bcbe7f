//! Texts with a form: addresses, paths, names. A text never has control characters.

use std::fmt;
use std::net::{AddrParseError, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use toml::de::DeValue;

use super::kind::{Kind, toml_text, wrong_type};
use crate::id::Token;

const TEXT_BYTES_MAX: usize = 4096;

/// A text that is kept as it is once it has passed a check.
pub(super) struct Plain {
    /// Follows "must be".
    what: &'static str,
    /// The error is what is wrong, to stand after a colon.
    check: fn(&str) -> Result<(), String>,
}

impl Kind for Plain {
    type Value = String;

    fn describe(&self) -> String {
        self.what.to_owned()
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<String, String> {
        let text = checked_text(value)?;
        (self.check)(text).map_err(|reason| format!(": {reason}"))?;
        Ok(text.to_owned())
    }

    fn reveal(&self, value: &String) -> String {
        toml_text(value)
    }
}

/// A text that stands for a `T`.
pub(super) struct Text<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
    reveal: fn(&T) -> String,
    redact: fn(&T) -> String,
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn describe(&self) -> String {
        self.what.to_owned()
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<T, String> {
        (self.parse)(checked_text(value)?).map_err(|reason| format!(": {reason}"))
    }

    fn reveal(&self, value: &T) -> String {
        toml_text(&(self.reveal)(value))
    }

    fn redact(&self, value: &T) -> String {
        toml_text(&(self.redact)(value))
    }
}

/// A text that may be empty, which means `None`.
pub(super) struct Maybe<K>(pub(super) K);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;

    fn describe(&self) -> String {
        format!("`\"\"` or {}", self.0.describe())
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<Self::Value, String> {
        if value.as_str() == Some("") { Ok(None) } else { self.0.convert(value).map(Some) }
    }

    fn reveal(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| toml_text(""), |value| self.0.reveal(value))
    }

    fn redact(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| toml_text(""), |value| self.0.redact(value))
    }
}

/// A text whose type reads and writes itself.
pub(super) fn parsed<T>(what: &'static str) -> Text<T>
where
    T: FromStr<Err = String> + fmt::Display,
{
    Text { what, parse: str::parse, reveal: T::to_string, redact: T::to_string }
}

/// A text that is shown without its secrets.
pub(super) fn secret<T: FromStr<Err = String>>(
    what: &'static str,
    reveal: fn(&T) -> String,
    redact: fn(&T) -> String,
) -> Text<T> {
    Text { what, parse: str::parse, reveal, redact }
}

pub(super) fn title() -> Plain {
    let check = |text: &str| {
        require(!text.trim().is_empty(), "it is empty")?;
        require(text.chars().count() <= 200, "it is longer")
    };
    Plain { what: "a text of 1 to 200 characters", check }
}

pub(super) fn web_address() -> Text<String> {
    let what = "an http or https address without a path, such as `\"https://shop.example\"`";
    Text { what, parse: parse_web_address, reveal: String::clone, redact: String::clone }
}

pub(super) fn locale() -> Plain {
    let check = |text: &str| {
        let language = text.bytes().take_while(u8::is_ascii_lowercase).count();
        only(text, 20, "_")?;
        require((2..=3).contains(&language), "two or three small letters must come first")
    };
    Plain { what: "a WordPress locale, such as `\"en_US\"`", check }
}

pub(super) fn timezone() -> Plain {
    let check = |text: &str| {
        only(text, 64, "/_+-")?;
        let starts_well = text.starts_with(|letter: char| letter.is_ascii_uppercase());
        require(starts_well, "a capital letter must come first")
    };
    Plain { what: "a time zone, such as `\"UTC\"` or `\"Europe/Berlin\"`", check }
}

pub(super) fn wordpress_user() -> Plain {
    let check = |text: &str| {
        only(text, 60, " _.-@")?;
        require(text.trim() == text, "it has a space at an end")
    };
    Plain { what: "a WordPress user name", check }
}

pub(super) fn email() -> Plain {
    let check = |text: &str| {
        let (name, domain) = text.rsplit_once('@').ok_or("it has no `@`")?;
        let is_domain = domain.contains('.') && domain.split('.').all(|part| !part.is_empty());
        require(text.len() <= 100, "it has more than 100 characters")?;
        only(name, 64, "!#$%&'*+/=?^_`{|}~.-")?;
        require(is_domain && is_host(domain), "what stands after `@` is not a domain")
    };
    Plain { what: "an e-mail address, such as `\"you@shop.example\"`", check }
}

pub(super) fn sha256() -> Plain {
    let check = |text: &str| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        require(text.bytes().all(is_digit), "it has other characters")?;
        require(text.len() == 64, "it has another length")
    };
    Plain { what: "a SHA-256 checksum (64 of the digits 0-9 and a-f)", check }
}

pub(super) fn path() -> Text<PathBuf> {
    let parse = |text: &str| {
        require(!text.is_empty(), "it is empty")?;
        Ok(text.into())
    };
    Text { what: "a path", parse, reveal: show_path, redact: show_path }
}

pub(super) fn absolute_path() -> Text<PathBuf> {
    let parse = |text: &str| {
        require(text.starts_with('/'), "it does not begin with `/`")?;
        Ok(text.into())
    };
    Text { what: "an absolute path", parse, reveal: show_path, redact: show_path }
}

pub(super) fn system_user() -> Plain {
    let check = |text: &str| {
        only(text, 32, "_-")?;
        let starts_well = !text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        require(starts_well, "a letter must come first")?;
        require(text != "root", "PHP must not run as root")
    };
    Plain { what: "the name of an unprivileged user of this machine", check }
}

pub(super) fn table_prefix() -> Plain {
    let check = |text: &str| only(text, 20, "_");
    Plain { what: "the beginning of table names, such as `\"wp_\"`", check }
}

pub(super) fn branch() -> Plain {
    let check = |text: &str| {
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
        only(text, 200, "/_.-")?;
        let parts_are_valid = text.split('/').all(is_part) && !text.starts_with('-');
        let ends_well = !text.ends_with(".lock") && !text.ends_with('.');
        require(parts_are_valid && ends_well && !text.contains(".."), "git refuses such a name")
    };
    Plain { what: "the name of a git branch", check }
}

pub(super) fn request_path() -> Plain {
    let check = |text: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        require(text.starts_with('/'), "it does not begin with `/`")?;
        require(!text.starts_with("//"), "it begins with two `/`")?;
        require(text.bytes().all(is_allowed), "write spaces and special letters as `%20`")
    };
    Plain { what: "a path of the site, such as `\"/shop/\"`", check }
}

pub(super) fn node_address() -> Plain {
    let check = |text: &str| {
        let (host, port) = split_port(text);
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        require(port.is_some_and(is_port), "it has no port, such as `:11211`")?;
        require(is_host(host), "its host is neither a name nor an IP address")
    };
    Plain { what: "a server, such as `\"10.0.0.5:11211\"`", check }
}

pub(super) fn bucket_name() -> Plain {
    let check = |text: &str| {
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        require(
            text.bytes().all(is_allowed),
            "it has characters other than a-z, 0-9, `.` and `-`",
        )?;
        require((3..=63).contains(&text.len()), "it has not 3 to 63 characters")?;
        require(
            !text.starts_with(['.', '-']) && !text.ends_with(['.', '-']),
            "a letter or digit must stand at both ends",
        )
    };
    Plain { what: "the name of a bucket, such as `\"shop-media\"`", check }
}

pub(super) fn region() -> Plain {
    Plain { what: "a region, such as `\"eu-central-1\"`", check: |text| only(text, 64, "-_") }
}

pub(super) fn object_prefix() -> Plain {
    let check = |text: &str| {
        if text.is_empty() {
            return Ok(());
        }
        only(text, 200, "/._-")?;
        require(text.ends_with('/'), "it does not end with `/`")?;
        let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
        let inner = text.strip_suffix('/').unwrap_or(text);
        require(inner.split('/').all(is_part), "a part of it is empty, `.` or `..`")
    };
    Plain { what: "`\"\"` or the beginning of names, such as `\"shop/uploads/\"`", check }
}

pub(super) fn key_id() -> Plain {
    Plain { what: "the name of a key", check: |text| only(text, 128, "-_") }
}

pub(super) fn secret_key() -> Text<Token> {
    let parse = |text: &str| {
        require(text.len() <= 256, "it has more than 256 characters")?;
        Ok(Token::new(text.to_owned()))
    };
    let reveal = |token: &Token| token.reveal().to_owned();
    Text { what: "a secret key", parse, reveal, redact: |_token| "***".to_owned() }
}

/// Limits: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Limits.html>
pub(super) fn dynamodb_table() -> Plain {
    let check = |text: &str| {
        only(text, 255, "_.-")?;
        require(text.len() >= 3, "it has fewer than 3 characters")
    };
    Plain { what: "the name of a DynamoDB table, such as `\"shop-sessions\"`", check }
}

pub(super) fn aws_region() -> Plain {
    let check = |text: &str| {
        only(text, 40, "-")?;
        let has_capitals = text.bytes().any(|byte| byte.is_ascii_uppercase());
        require(!has_capitals && text.contains('-'), "AWS has no such names")
    };
    Plain { what: "a region of AWS, such as `\"eu-central-1\"`", check }
}

pub(super) fn socket_address() -> Text<SocketAddr> {
    let parse = |text: &str| {
        text.parse().map_err(|_error: AddrParseError| {
            "write an IP address, `:` and a port; an IPv6 address stands in `[ ]`".to_owned()
        })
    };
    let what = "an address to listen on, such as `\"127.0.0.1:8080\"`";
    Text { what, parse, reveal: SocketAddr::to_string, redact: SocketAddr::to_string }
}

fn checked_text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    let text = value.as_str().ok_or_else(|| wrong_type(value))?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!(", at most {TEXT_BYTES_MAX} bytes long"));
    }
    if text.chars().any(char::is_control) {
        return Err(", without line breaks and other control characters".to_owned());
    }
    Ok(text)
}

/// Reads an address and takes the slash from its end.
fn parse_web_address(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no `https://` before it")?;
    require(matches!(scheme, "http" | "https"), "it begins with neither `http` nor `https`")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    require(!authority.contains('@'), "it has a user or password in it")?;
    require(!authority.contains(['/', '?', '#']), "it has a path")?;
    check_authority(authority)?;
    Ok(format!("{scheme}://{authority}"))
}

/// Checks `host` or `host:port`.
pub(super) fn check_authority(authority: &str) -> Result<(), String> {
    let (host, port) = split_port(authority);
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    require(!host.is_empty(), "it has no host name")?;
    require(is_host(host), "its host name has characters that none may have")?;
    require(port.is_none_or(is_port), "its port is not a number from 1 to 65535")
}

/// Splits `host:port`; the colons of an IPv6 address in brackets stay in the host.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether it is a host name, an IPv4 address or an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    only(host, 253, ".-_").is_ok() && !host.starts_with(['-', '.'])
}

/// Fails with the reason when the condition does not hold.
pub(super) fn require(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.to_owned()) }
}

/// Checks that a text has ASCII letters, digits and the other characters only, and its length.
pub(super) fn only(text: &str, length_max: usize, others: &str) -> Result<(), String> {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || others.contains(letter);
    require(!text.is_empty(), "it is empty")?;
    if text.chars().all(is_allowed) {
        require(text.len() <= length_max, &format!("it has more than {length_max} characters"))
    } else {
        let others: Vec<String> = others.chars().map(|one| format!("`{one}`")).collect();
        Err(format!("it has characters other than A-Z, a-z, 0-9 and {}", others.join(" ")))
    }
}

#[expect(clippy::ptr_arg, reason = "it is used where a function of the value's own type is due")]
fn show_path(path: &PathBuf) -> String {
    path.display().to_string()
}
