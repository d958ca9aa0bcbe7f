//! The site's secrets: made once, kept in one private file outside the repository.

use std::path::Path;

use flotilla_core::id::Token;
use flotilla_host::files::{Access, FileError, read_json, write_json};
use serde::{Deserialize, Serialize};

const TOKEN_BYTES: usize = 32;
const PASSWORD_LENGTH: usize = 20;
/// No letters that look alike, nothing that a shell or a form would change.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567ACE";

/// Says why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel gives no randomness.
    #[error("the kernel gives no random bytes")]
    Random,
}

/// All secrets of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// What the operator's command line authenticates with.
    pub operator_token: Token,
    /// What the foreman authenticates with at the balancer.
    pub balancer_token: Token,
    /// The password of WordPress' database user.
    pub database_password: Token,
    /// The password of the first WordPress administrator.
    pub admin_password: Token,
    /// WordPress' four keys and four salts, in the order of its documentation.
    pub salts: [Token; 8],
}

impl Secrets {
    /// Reads the secrets of a site, or makes them when it has none.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn load_or_make(path: &Path) -> Result<Self, SecretsError> {
        if let Some(secrets) = read_json(path)? {
            return Ok(secrets);
        }
        let secrets = Self {
            operator_token: random_token()?,
            balancer_token: random_token()?,
            database_password: random_token()?,
            admin_password: random_password()?,
            salts: [
                random_token()?,
                random_token()?,
                random_token()?,
                random_token()?,
                random_token()?,
                random_token()?,
                random_token()?,
                random_token()?,
            ],
        };
        write_json(path, &secrets, Access::Private)?;
        Ok(secrets)
    }
}

/// Makes a token of 256 random bits, in hexadecimal digits.
///
/// # Errors
/// The kernel gives no randomness.
pub fn random_token() -> Result<Token, SecretsError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|_error| SecretsError::Random)?;
    Ok(Token::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Makes a password of 100 random bits that a person can type.
fn random_password() -> Result<Token, SecretsError> {
    let mut bytes = [0_u8; PASSWORD_LENGTH];
    getrandom::fill(&mut bytes).map_err(|_error| SecretsError::Random)?;
    let letter = |byte: &u8| PASSWORD_LETTERS.get(usize::from(byte % 32)).copied().map(char::from);
    Ok(Token::new(bytes.iter().filter_map(letter).collect()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.json");
        let made = Secrets::load_or_make(&path).unwrap();
        assert_eq!(Secrets::load_or_make(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
