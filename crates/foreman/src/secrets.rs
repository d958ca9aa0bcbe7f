//! The site's secrets: made once, the same for the whole fleet, never in the repository.
//!
//! What a rotation has still to do is a part of them, so that one write moves both.

pub mod rotate;
pub mod routes;
mod vault;

use std::collections::BTreeMap;

use flotilla_core::id::{Millis, Token};
use flotilla_core::rotation::{Kind, Open};
use serde::{Deserialize, Serialize};

pub use vault::{SecretsError, Vault};

const TOKEN_BYTES: usize = 32;
const PASSWORD_LENGTH: usize = 20;
/// No letters that look alike, nothing that a shell or a form would change.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567ACE";

/// All secrets of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// What the operator's command line authenticates with.
    pub operator_token: Token,
    /// What the foreman authenticates with at the balancer.
    pub balancer_token: Token,
    /// The password of WordPress' database user.
    pub database_password: Token,
    /// What the embedded store of media is opened with.
    #[serde(default = "no_token")]
    pub bucket_key: Token,
    /// What the cookie is signed with that leads people to the workshop. It lets nobody in.
    #[serde(default = "no_token")]
    pub workshop_key: Token,
    /// The password of the first WordPress administrator.
    pub admin_password: Token,
    /// WordPress' four keys and four salts, in the order of its documentation.
    pub salts: [Token; 8],
    /// What a rotation has still to do.
    #[serde(default)]
    pub pending: Pending,
    /// When each kind was replaced last.
    #[serde(default)]
    pub rotated_at: BTreeMap<Kind, Millis>,
}

/// Secrets on their way in or out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Becomes the database's password once the server takes it too.
    pub database_password: Option<Token>,
    /// Was the database's password; the server takes it until no slot uses it.
    pub database_password_former: Option<Token>,
    /// Becomes the operator's token.
    pub operator_token: Option<Token>,
    /// Becomes the balancer's token once the balancer takes it too.
    pub balancer_token: Option<Token>,
    /// Slots must get what was changed.
    pub is_deploy_due: bool,
}

impl Secrets {
    /// Makes new secrets.
    ///
    /// # Errors
    /// The kernel gives no randomness.
    pub fn make() -> Result<Self, SecretsError> {
        Ok(Self {
            operator_token: random_token()?,
            balancer_token: random_token()?,
            database_password: random_token()?,
            bucket_key: random_token()?,
            workshop_key: random_token()?,
            admin_password: random_password()?,
            salts: random_salts()?,
            pending: Pending::default(),
            rotated_at: BTreeMap::new(),
        })
    }

    /// Makes what an older version did not have; says whether there was anything.
    ///
    /// # Errors
    /// The kernel gives no randomness.
    pub(crate) fn complete(&mut self) -> Result<bool, SecretsError> {
        let mut is_missing = false;
        for key in [&mut self.bucket_key, &mut self.workshop_key] {
            if *key == no_token() {
                *key = random_token()?;
                is_missing = true;
            }
        }
        Ok(is_missing)
    }

    /// Begins to replace one kind; [`rotate`] does the rest.
    ///
    /// # Errors
    /// The kernel gives no randomness.
    pub fn begin(&mut self, kind: Kind, now: Millis) -> Result<(), SecretsError> {
        match kind {
            Kind::Salts => {
                self.salts = random_salts()?;
                self.pending.is_deploy_due = true;
            }
            Kind::Database => self.pending.database_password = Some(random_token()?),
            Kind::Tokens => {
                self.pending.operator_token = Some(random_token()?);
                self.pending.balancer_token = Some(random_token()?);
            }
        }
        self.rotated_at.insert(kind, now);
        Ok(())
    }

    /// Says what is still open.
    #[must_use]
    pub const fn open(&self) -> Open {
        let pending = &self.pending;
        Open {
            has_new_password: pending.database_password.is_some(),
            has_former_password: pending.database_password_former.is_some(),
            has_new_tokens: pending.operator_token.is_some() || pending.balancer_token.is_some(),
            is_deploy_due: pending.is_deploy_due,
        }
    }

    /// Whether what a foreman works with is the same here and there.
    #[must_use]
    pub fn are_in_use(&self, other: &Self) -> bool {
        let used = |one: &Self| {
            let tokens = (one.operator_token.clone(), one.balancer_token.clone());
            (tokens, one.database_password.clone(), one.salts.clone())
        };
        used(self) == used(other)
    }

    /// Returns every password that the database must take now, the one in use first.
    #[must_use]
    pub fn database_passwords(&self) -> Vec<Token> {
        let pending = &self.pending;
        let others = pending.database_password.iter().chain(&pending.database_password_former);
        std::iter::once(&self.database_password).chain(others).cloned().collect()
    }

    /// Returns every token that the balancer must take now, the one in use first.
    #[must_use]
    pub fn balancer_tokens(&self) -> Vec<Token> {
        std::iter::once(&self.balancer_token).chain(&self.pending.balancer_token).cloned().collect()
    }

    /// Uses the new database password; the one of before stays good.
    pub(crate) fn adopt_password(&mut self) {
        if let Some(new) = self.pending.database_password.take() {
            let former = std::mem::replace(&mut self.database_password, new);
            // When an earlier rotation was not over, its former one is used by nobody any more.
            self.pending.database_password_former = Some(former);
            self.pending.is_deploy_due = true;
        }
    }

    /// Uses the new tokens.
    pub(crate) fn adopt_tokens(&mut self) {
        if let Some(new) = self.pending.operator_token.take() {
            self.operator_token = new;
        }
        if let Some(new) = self.pending.balancer_token.take() {
            self.balancer_token = new;
        }
    }

    /// Returns the secrets that can be shown, by name, with what each is for.
    #[must_use]
    pub fn named(&self) -> Vec<(String, &'static str, &Token)> {
        let mut all = vec![
            (
                "operator_token".to_owned(),
                "what the command line and `git push` authenticate with",
                &self.operator_token,
            ),
            (
                "balancer_token".to_owned(),
                "what the foreman authenticates with at the balancer",
                &self.balancer_token,
            ),
            (
                "database_password".to_owned(),
                "WordPress' user of the embedded database",
                &self.database_password,
            ),
            (
                "bucket_key".to_owned(),
                "the embedded store of media, with the key id `flotilla`",
                &self.bucket_key,
            ),
            (
                "workshop_key".to_owned(),
                "signs the cookie that leads people who may change code to the workshop",
                &self.workshop_key,
            ),
            (
                "admin_password".to_owned(),
                "the first WordPress administrator, as installed",
                &self.admin_password,
            ),
        ];
        for (name, salt) in SALT_NAMES.iter().zip(&self.salts) {
            all.push(((*name).to_owned(), "signs WordPress' logins and forms", salt));
        }
        all
    }
}

/// What a version wrote that did not have it.
const fn no_token() -> Token {
    Token::new(String::new())
}

/// WordPress' names of [`Secrets::salts`], in small letters.
pub const SALT_NAMES: [&str; 8] = [
    "auth_key",
    "secure_auth_key",
    "logged_in_key",
    "nonce_key",
    "auth_salt",
    "secure_auth_salt",
    "logged_in_salt",
    "nonce_salt",
];

/// Makes a token of 256 random bits, in hexadecimal digits.
///
/// # Errors
/// The kernel gives no randomness.
pub fn random_token() -> Result<Token, SecretsError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|_error| SecretsError::Random)?;
    Ok(Token::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn random_salts() -> Result<[Token; 8], SecretsError> {
    Ok([
        random_token()?,
        random_token()?,
        random_token()?,
        random_token()?,
        random_token()?,
        random_token()?,
        random_token()?,
        random_token()?,
    ])
}

/// Makes a password of 100 random bits that a person can type.
fn random_password() -> Result<Token, SecretsError> {
    let mut bytes = [0_u8; PASSWORD_LENGTH];
    getrandom::fill(&mut bytes).map_err(|_error| SecretsError::Random)?;
    let letter = |byte: &u8| PASSWORD_LETTERS.get(usize::from(byte % 32)).copied().map(char::from);
    Ok(Token::new(bytes.iter().filter_map(letter).collect()))
}
