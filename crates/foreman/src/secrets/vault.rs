//! The file that the secrets lie in, encrypted with a key that lies elsewhere.
//!
//! What that is good for: a copy of the file (a backup, a copied directory, a lost disk) tells
//! nothing without the key. It is no protection from root on this machine, who can read both.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use flotilla_host::files::{Access, FileError, read_json, write_json};
use serde::{Deserialize, Serialize};

use super::Secrets;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Bound to the ciphertext, so that a file of another format is not taken for this one.
const FORMAT: &str = "flotilla secrets 1";

/// Says why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel gives no randomness.
    #[error("the kernel gives no random bytes")]
    Random,
    /// The key is not there, but what it opens is.
    #[error(
        "the key `{0}` is missing, and without it the site's secrets cannot be read; put it back, \
         or name its place with `secrets.key_file` in flotilla.toml"
    )]
    NoKey(PathBuf),
    /// The key is not one.
    #[error("`{0}` holds no key: 64 hexadecimal digits are expected")]
    BadKey(PathBuf),
    /// Everybody may read the key.
    #[error(
        "every user of this machine may read the key `{0}`; `chmod 600` it, then rotate all secrets"
    )]
    OpenKey(PathBuf),
    /// The key does not open the file.
    #[error(
        "the key `{key}` does not open `{sealed}`: it is another site's, or the file was changed"
    )]
    WrongKey {
        /// The key.
        key: PathBuf,
        /// The secrets.
        sealed: PathBuf,
    },
}

/// Where the secrets of a site lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// The encrypted secrets.
    pub sealed: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// Where an older version kept them in clear; what is found there is moved.
    pub plain: PathBuf,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Sealed {
    format: String,
    /// Hexadecimal; the cipher is XChaCha20-Poly1305, RFC 8439 with a nonce of 192 bits.
    nonce: String,
    /// Hexadecimal.
    content: String,
}

impl Vault {
    /// Returns whether the site has secrets.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.sealed.exists() || self.plain.exists()
    }

    /// Reads the secrets of a site, or makes them when it has none. Of two processes that make them
    /// at the same time, both get those of the first.
    ///
    /// # Errors
    /// A file cannot be read or written, or the key does not fit.
    pub fn load_or_make(&self) -> Result<Secrets, SecretsError> {
        if let Some(mut secrets) = self.load()? {
            if secrets.complete()? {
                self.store(&secrets)?;
            }
            return Ok(secrets);
        }
        let found: Option<Secrets> = read_json(&self.plain)?;
        let secrets = match found {
            Some(mut secrets) => {
                secrets.complete()?;
                secrets
            }
            None => Secrets::make()?,
        };
        self.make_key()?;
        let text = serde_json::to_vec_pretty(&self.seal(&secrets)?).unwrap_or_default();
        create_once(&self.sealed, &text)?;
        let secrets = self.load()?.ok_or_else(|| SecretsError::NoKey(self.key.clone()))?;
        self.remove_plain()?;
        Ok(secrets)
    }

    /// Reads the secrets; `None` when the site has none that are encrypted.
    ///
    /// # Errors
    /// The file cannot be read, or the key does not open it.
    pub fn load(&self) -> Result<Option<Secrets>, SecretsError> {
        let Some(sealed) = read_json::<Sealed>(&self.sealed)? else { return Ok(None) };
        let wrong =
            || SecretsError::WrongKey { key: self.key.clone(), sealed: self.sealed.clone() };
        let key = self.read_key()?.ok_or_else(|| SecretsError::NoKey(self.key.clone()))?;
        let nonce: [u8; NONCE_BYTES] = unhex(&sealed.nonce).ok_or_else(wrong)?;
        let content = unhex_all(&sealed.content).ok_or_else(wrong)?;
        let payload = Payload { msg: &content, aad: FORMAT.as_bytes() };
        let text = XChaCha20Poly1305::new(&key.into())
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_forged| wrong())?;
        let secrets = serde_json::from_slice(&text)
            .map_err(|source| FileError::Damaged { path: self.sealed.clone(), source })?;
        // A move that was cut off after its first half.
        self.remove_plain()?;
        Ok(Some(secrets))
    }

    /// Replaces the secrets; after a crash the file has the old or the new ones.
    ///
    /// # Errors
    /// The file cannot be written, or there is no key.
    pub fn store(&self, secrets: &Secrets) -> Result<(), SecretsError> {
        Ok(write_json(&self.sealed, &self.seal(secrets)?, Access::Private)?)
    }

    fn seal(&self, secrets: &Secrets) -> Result<Sealed, SecretsError> {
        let key = self.read_key()?.ok_or_else(|| SecretsError::NoKey(self.key.clone()))?;
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_error| SecretsError::Random)?;
        let text = serde_json::to_vec(secrets)
            .map_err(|source| FileError::Damaged { path: self.sealed.clone(), source })?;
        let payload = Payload { msg: &text, aad: FORMAT.as_bytes() };
        let content = XChaCha20Poly1305::new(&key.into())
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_too_long| SecretsError::BadKey(self.key.clone()))?;
        Ok(Sealed { format: FORMAT.to_owned(), nonce: hex(&nonce), content: hex(&content) })
    }

    fn read_key(&self) -> Result<Option<[u8; KEY_BYTES]>, SecretsError> {
        let read_error = |source| FileError::Read { path: self.key.clone(), source };
        let text = match fs::read_to_string(&self.key) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(read_error(source).into()),
        };
        let mode = fs::metadata(&self.key).map_err(read_error)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(SecretsError::OpenKey(self.key.clone()));
        }
        unhex(text.trim()).map(Some).ok_or_else(|| SecretsError::BadKey(self.key.clone()))
    }

    fn make_key(&self) -> Result<(), SecretsError> {
        if self.read_key()?.is_some() {
            return Ok(());
        }
        let mut key = [0_u8; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|_error| SecretsError::Random)?;
        create_once(&self.key, format!("{}\n", hex(&key)).as_bytes())?;
        Ok(())
    }

    fn remove_plain(&self) -> Result<(), FileError> {
        match fs::remove_file(&self.plain) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::Write { path: self.plain.clone(), source: error })
            }
            _ => Ok(()),
        }
    }
}

/// Makes a private file with its content at once, unless it is there by then.
fn create_once(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let attempt = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = directory.join(format!(".{name}.{}.made", std::process::id()));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        let linked = match fs::hard_link(&aside, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        };
        fs::remove_file(&aside)?;
        linked?;
        fs::File::open(directory)?.sync_all()
    };
    attempt().map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    unhex_all(text)?.try_into().ok()
}

fn unhex_all(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(directory: &Path) -> Vault {
        Vault {
            sealed: directory.join("secrets.sealed"),
            key: directory.join("secrets.key"),
            plain: directory.join("secrets.json"),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_made_once_private_and_unreadable_without_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        let made = vault.load_or_make().unwrap();
        assert_eq!(vault.load_or_make().unwrap(), made);
        assert_eq!((mode(&vault.sealed), mode(&vault.key)), (0o600, 0o600));
        let file = fs::read_to_string(&vault.sealed).unwrap();
        assert!(made.named().iter().all(|(_, _, secret)| !file.contains(secret.reveal())));
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "{names:?}");

        fs::rename(&vault.key, directory.path().join("away")).unwrap();
        assert!(matches!(vault.load_or_make(), Err(SecretsError::NoKey(_))));
        let mut other = vault.clone();
        other.sealed = directory.path().join("other.sealed");
        other.load_or_make().unwrap();
        assert!(matches!(vault.load_or_make(), Err(SecretsError::WrongKey { .. })));
    }

    #[test]
    fn what_is_changed_in_the_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        vault.load_or_make().unwrap();
        let text = fs::read_to_string(&vault.sealed).unwrap();
        let at = text.find("\"content\": \"").unwrap() + 20;
        let flipped = if &text[at..=at] == "0" { "1" } else { "0" };
        fs::write(&vault.sealed, format!("{}{flipped}{}", &text[..at], &text[at + 1..])).unwrap();
        assert!(matches!(vault.load(), Err(SecretsError::WrongKey { .. })));
    }

    #[test]
    fn secrets_in_clear_are_moved_also_after_a_move_that_was_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        let old = Secrets::make().unwrap();
        let mut text = serde_json::to_value(&old).unwrap();
        // As the version wrote it that kept them in clear.
        text.as_object_mut()
            .unwrap()
            .retain(|key, _| !["pending", "rotated_at", "bucket_key"].contains(&key.as_str()));
        write_json(&vault.plain, &text, Access::Private).unwrap();
        let moved = vault.load_or_make().unwrap();
        assert!(!moved.bucket_key.reveal().is_empty(), "what it did not have is made");
        assert_eq!(Secrets { bucket_key: old.bucket_key.clone(), ..moved.clone() }, old);
        assert!(!vault.plain.exists());

        write_json(&vault.plain, &text, Access::Private).unwrap();
        assert_eq!(vault.load().unwrap(), Some(moved));
        assert!(!vault.plain.exists(), "the file in clear must not stay");
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        vault.load_or_make().unwrap();
        fs::set_permissions(&vault.key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(vault.load(), Err(SecretsError::OpenKey(_))));
    }
}
