//! The arithmetic of AWS Signature Version 4: the key of a day, and what is signed with it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::checksum::{hex, unhex};
use crate::fault::{Code, Fault};

/// The one algorithm that is understood; its asymmetric sibling is not.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "s3";
const TERMINATOR: &str = "aws4_request";

/// What a signature is valid for: a day, a region, this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The day, as `20261125`.
    pub(crate) day: String,
    /// The region; this store has none, so any is right.
    pub(crate) region: String,
}

impl Scope {
    /// Reads a credential: an access key and a scope.
    ///
    /// It is read from its end, because an access key may have slashes in it.
    pub(crate) fn read(credential: &str) -> Option<(&str, Self)> {
        let mut parts = credential.rsplitn(5, '/');
        let (terminator, service) = (parts.next()?, parts.next()?);
        let (region, day, access_key) = (parts.next()?, parts.next()?, parts.next()?);
        let is_ours = terminator == TERMINATOR && service == SERVICE;
        is_ours.then(|| (access_key, Self { day: day.to_owned(), region: region.to_owned() }))
    }

    fn text(&self) -> String {
        format!("{}/{}/{SERVICE}/{TERMINATOR}", self.day, self.region)
    }
}

/// Signs with the key of a day and region, for one point in time.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; 32],
    time: String,
    scope: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signer").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Signer {
    /// Derives the key; `time` is that of the request, as `20261125T220000Z`.
    pub(crate) fn new(secret_key: &str, scope: &Scope, time: &str) -> Self {
        let mut key = mac(format!("AWS4{secret_key}").as_bytes(), scope.day.as_bytes());
        for step in [scope.region.as_str(), SERVICE, TERMINATOR] {
            key = mac(&key, step.as_bytes());
        }
        Self { key, time: time.to_owned(), scope: scope.text() }
    }

    /// Checks the signature of a request.
    ///
    /// # Errors
    /// It was made of another request, or with another key.
    pub(crate) fn check_request(&self, canonical: &str, signature: &str) -> Result<(), Fault> {
        let digest = hex(&Sha256::digest(canonical.as_bytes()));
        self.check(ALGORITHM, &[&digest], signature)
    }

    /// Checks the signature of a piece of a body, which builds on that of the piece before.
    ///
    /// # Errors
    /// It was made of another piece.
    pub(crate) fn check_chunk(
        &self,
        previous: &str,
        content: Sha256,
        signature: &str,
    ) -> Result<(), Fault> {
        let (nothing, content) = (hex(&Sha256::digest(b"")), hex(&content.finalize()));
        self.check("AWS4-HMAC-SHA256-PAYLOAD", &[previous, &nothing, &content], signature)
    }

    /// Checks the signature of the lines after a body.
    ///
    /// # Errors
    /// It was made of other lines.
    pub(crate) fn check_trailer(
        &self,
        previous: &str,
        lines: &str,
        signature: &str,
    ) -> Result<(), Fault> {
        let digest = hex(&Sha256::digest(lines.as_bytes()));
        self.check("AWS4-HMAC-SHA256-TRAILER", &[previous, &digest], signature)
    }

    fn check(&self, kind: &str, rest: &[&str], signature: &str) -> Result<(), Fault> {
        let text = format!("{kind}\n{}\n{}\n{}", self.time, self.scope, rest.join("\n"));
        let claimed = unhex(signature).unwrap_or_default();
        // This comparison takes as long for a good guess as for a bad one.
        begin(&self.key).chain_update(text.as_bytes()).verify_slice(&claimed).map_err(|_error| {
            Fault::new(
                Code::SignatureDoesNotMatch,
                "the signature does not match the request; check the secret key",
            )
        })
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    begin(key).chain_update(text).finalize().into_bytes().into()
}

fn begin(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "see the message")]
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::{Scope, Signer};

    /// The GET of an object in Amazon's documentation of Signature Version 4 for S3.
    #[test]
    fn the_example_of_the_documentation_is_accepted() {
        let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let (access_key, scope) = Scope::read(credential).unwrap();
        assert_eq!(access_key, "AKIAIOSFODNN7EXAMPLE");
        let secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let signer = Signer::new(secret_key, &scope, "20130524T000000Z");
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let canonical = format!(
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n\
             x-amz-content-sha256:{nothing}\nx-amz-date:20130524T000000Z\n\n\
             host;range;x-amz-content-sha256;x-amz-date\n{nothing}"
        );
        let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signer.check_request(&canonical, signature), Ok(()));
        let other = signature.replace('f', "e");
        assert!(signer.check_request(&canonical, &other).is_err());
        assert!(signer.check_request(&canonical, "").is_err());
        assert!(signer.check_request("GET", signature).is_err());
    }

    #[test]
    fn credentials_of_other_services_are_refused() {
        assert_eq!(Scope::read("KEY/20130524/us-east-1/sqs/aws4_request"), None);
        assert_eq!(Scope::read("KEY"), None);
        let (access_key, _) = Scope::read("A/B/20130524/x/s3/aws4_request").unwrap();
        assert_eq!(access_key, "A/B");
    }
}
