//! Who is asking: a bearer token for programs, Basic with the token as password for git.

use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::id::{InstanceName, Token};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use crate::store::{Role, Store, StoreError};

/// Somebody whose token is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// May do everything.
    Operator,
    /// May report and receive as this instance.
    Agent(InstanceName),
    /// May join as this instance, once.
    Joiner(InstanceName),
}

impl Identity {
    /// Lets only the operator pass.
    ///
    /// # Errors
    /// Refused for anybody else.
    pub fn operator(&self) -> Result<(), Failure> {
        match self {
            Self::Operator => Ok(()),
            _ => Err(Failure::new(ErrorKind::Refused, "this needs the operator's token")),
        }
    }

    /// Lets those pass who may read the site's code: the operator and agents.
    ///
    /// # Errors
    /// Refused for anybody else.
    pub fn reader(&self) -> Result<(), Failure> {
        match self {
            Self::Operator | Self::Agent(_) => Ok(()),
            Self::Joiner(_) => Err(Failure::new(
                ErrorKind::Refused,
                "a join token does not let its holder read the site's code",
            )),
        }
    }

    /// Lets only an agent pass, and says which.
    ///
    /// # Errors
    /// Refused for anybody else.
    pub fn agent(&self) -> Result<&InstanceName, Failure> {
        match self {
            Self::Agent(instance) => Ok(instance),
            _ => Err(Failure::new(ErrorKind::Refused, "this needs an agent's token")),
        }
    }
}

/// Knows all tokens by their digests.
#[derive(Debug, Clone)]
pub struct Doorman {
    operator_digest: String,
    store: Store,
}

impl Doorman {
    /// Knows the operator by this token and everybody else by the store.
    #[must_use]
    pub fn new(operator: &Token, store: Store) -> Self {
        Self { operator_digest: digest(operator), store }
    }

    /// Says who sent these headers; `None` for a stranger. Tokens are compared by their digests, so
    /// that the time it takes tells nothing about them.
    ///
    /// # Errors
    /// The store failed.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, StoreError> {
        let Some(token) = token_of(headers) else { return Ok(None) };
        let digest = digest(&token);
        if digest == self.operator_digest {
            return Ok(Some(Identity::Operator));
        }
        Ok(self.store.role(digest).await?.map(|role| match role {
            Role::Agent(instance) => Identity::Agent(instance),
            Role::Join(instance) => Identity::Joiner(instance),
        }))
    }
}

/// Returns the digest under which a token is known.
#[must_use]
pub fn digest(token: &Token) -> String {
    Sha256::digest(token.reveal()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn token_of(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Token::new(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(base64(rest.trim())?).ok()?;
    let (_user, password) = decoded.split_once(':')?;
    Some(Token::new(password.to_owned()))
}

/// Decodes standard base64 (RFC 4648, section 4); `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count) = (0_u32, 0_u8);
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_password_of_basic() {
        let cases = [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            ("Basic Z2l0OnNlY3JldA==", Some("secret")),
            ("Basic Z2l0", None),
            ("Basic %%%", None),
            ("Digest abc", None),
            ("abc", None),
        ];
        for (header, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            let token = token_of(&headers);
            assert_eq!(token.as_ref().map(Token::reveal), expected, "{header}");
        }
    }
}
