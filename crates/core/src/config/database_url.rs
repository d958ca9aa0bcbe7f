//! The address of a database of one's own, with its password.

use std::fmt::Write as _;
use std::str::FromStr;

use super::text::{is_host, only, require, split_port};
use crate::id::Token;

const PORT: u16 = 3306;
const REDACTED: &str = "***";

/// How to reach a MySQL or MariaDB server: `mysql://user:password@host:port/name`.
///
/// `Debug` does not show the password, and there is no `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// The user.
    pub user: String,
    /// The password; may be empty.
    pub password: Token,
    /// A host name or an IP address; an IPv6 address is in brackets.
    pub host: String,
    /// The port, 3306 when the address names none.
    pub port: u16,
    /// The name of the database.
    pub name: String,
}

impl DatabaseUrl {
    /// Writes the address with its password.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.write(&encode(self.password.reveal()))
    }

    /// Writes the address with `***` for the password.
    #[must_use]
    pub fn redacted(&self) -> String {
        self.write(if self.password.reveal().is_empty() { "" } else { REDACTED })
    }

    fn write(&self, password: &str) -> String {
        let Self { user, host, port, name, .. } = self;
        let colon = if password.is_empty() { "" } else { ":" };
        format!("mysql://{}{colon}{password}@{host}:{port}/{name}", encode(user))
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    /// The errors show no part of the text, because any part may be the password.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("mysql://").ok_or("it does not begin with `mysql://`")?;
        let (account, server) = rest.rsplit_once('@').ok_or("it has no user and `@`")?;
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        let (authority, name) = server.split_once('/').ok_or("it has no `/name` at its end")?;
        let (host, port) = split_port(authority);
        require(is_host(host), "its host is not valid")?;
        let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0));
        only(name, 64, "_-$").map_err(|reason| format!("the name of the database: {reason}"))?;
        let user = decode(user)?;
        require((1..=80).contains(&user.len()), "its user is empty or too long")?;
        Ok(Self {
            user,
            password: Token::new(decode(password)?),
            host: host.to_owned(),
            port: port.ok_or("its port is not a number from 1 to 65535")?,
            name: name.to_owned(),
        })
    }
}

/// Writes what has a meaning in an address as `%` and two digits.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).unwrap_or_default();
        let byte = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.len() == 2 && digits.bytes().all(|one| one.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or("a `%` stands before two hexadecimal digits; write `%` itself as `%25`")?;
        bytes.push(byte);
        rest = tail;
    }
    let decoded = String::from_utf8(bytes).map_err(|_error| "it is not UTF-8".to_owned())?;
    require(!decoded.chars().any(char::is_control), "it has a control character")?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let url: DatabaseUrl = "mysql://shop:p%40ss:w/rd@db.example/wp".parse().unwrap();
        assert_eq!((url.user.as_str(), url.password.reveal()), ("shop", "p@ss:w/rd"));
        assert_eq!((url.host.as_str(), url.port, url.name.as_str()), ("db.example", 3306, "wp"));
        assert_eq!(url.reveal(), "mysql://shop:p%40ss%3Aw%2Frd@db.example:3306/wp");
        assert_eq!(url.redacted(), "mysql://shop:***@db.example:3306/wp");
        assert_eq!(url.reveal().parse(), Ok(url));
        let url: DatabaseUrl = "mysql://shop@[::1]:3307/wp".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 3307));
        assert_eq!(url.reveal(), "mysql://shop@[::1]:3307/wp");
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let url: DatabaseUrl = "mysql://shop:hunter2@db/wp".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }

    #[test]
    fn an_error_shows_no_part_of_the_address() {
        for bad in [
            "hunter2",
            "postgres://u:hunter2@h/n",
            "mysql://u:hunter2",
            "mysql://u:hunter2@h",
            "mysql://u:hunter2@h/",
            "mysql://u:hunter2@/n",
            "mysql://u:hunter2@h:0/n",
            "mysql://u:hunter2@h:hunter2/n",
            "mysql://:hunter2@h/n",
            "mysql://u:hunter2%zz@h/n",
            "mysql://u:hunter2%é@h/n",
            "mysql://u:hunter2%ff@h/n",
            "mysql://u:x@h/n?hunter2",
        ] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err();
            assert!(!error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
