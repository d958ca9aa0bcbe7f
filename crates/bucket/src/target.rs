//! What a request names: the bucket, the key and the parameters, with their encoding undone.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::fault::{Code, Fault};
use crate::key::Key;

/// What signatures and S3's listings leave as it is, besides letters and digits.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// Writes bytes as they stand in a signed query or a listing.
pub(crate) fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

/// Writes bytes as they stand in a signed path: the slashes stay.
pub(crate) fn encode_path(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED_IN_PATH).to_string()
}

/// What a request names. Only paths name buckets here (`/bucket/key`), never host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The path, decoded.
    pub(crate) path: Vec<u8>,
    /// The parameters, decoded.
    pub(crate) query: Query,
}

impl Target {
    /// Reads the address of a request.
    ///
    /// # Errors
    /// A parameter is not UTF-8.
    pub(crate) fn read(uri: &Uri) -> Result<Self, Fault> {
        let path = percent_decode_str(uri.path()).collect();
        Ok(Self { path, query: Query::read(uri.query().unwrap_or_default())? })
    }

    /// Returns the name of the bucket; `None` when the path names none.
    pub(crate) fn bucket(&self) -> Option<&[u8]> {
        let name = self.path.strip_prefix(b"/")?.split(|byte| *byte == b'/').next()?;
        (!name.is_empty()).then_some(name)
    }

    /// Returns the key; `None` when the path names only a bucket.
    ///
    /// # Errors
    /// It is no valid key.
    pub(crate) fn key(&self) -> Result<Option<Key>, Fault> {
        let Some(rest) = self.path.strip_prefix(b"/") else { return Ok(None) };
        let Some(slash) = rest.iter().position(|byte| *byte == b'/') else { return Ok(None) };
        let key = rest.get(slash + 1..).unwrap_or_default();
        if key.is_empty() { Ok(None) } else { Key::new(key).map(Some) }
    }
}

/// The parameters of a request, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn read(text: &str) -> Result<Self, Fault> {
        let decode = |text: &str| {
            // S3 reads a plus as a blank, as forms write it.
            let text = text.replace('+', " ");
            let decoded = percent_decode_str(&text).decode_utf8().map(|text| text.into_owned());
            decoded.map_err(|_error| Fault::new(Code::InvalidUri, "a parameter is not valid UTF-8"))
        };
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self { pairs })
    }

    /// Returns the first value of a parameter; a parameter without one has an empty value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is such a parameter.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns a parameter that is a number.
    ///
    /// # Errors
    /// It is no number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let message = || format!("`{name}` is not a number this store can take: `{text}`");
        text.parse().map(Some).map_err(|_error| Fault::new(Code::InvalidArgument, message()))
    }

    /// Writes the parameters as a signature covers them: encoded, then sorted.
    pub(crate) fn canonical(&self) -> String {
        let mut encoded: Vec<(String, String)> = self
            .pairs
            .iter()
            .filter(|(name, _)| name != "X-Amz-Signature")
            .map(|(name, value)| (encode(name.as_bytes()), encode(value.as_bytes())))
            .collect();
        encoded.sort();
        let pairs: Vec<String> =
            encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn target(uri: &str) -> Target {
        Target::read(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_key_is_all_that_follows_the_bucket() {
        for (uri, bucket, key) in [
            ("/", None, None),
            ("/b", Some("b"), None),
            ("/b/", Some("b"), None),
            ("/b/k", Some("b"), Some("k")),
            ("/b//k", Some("b"), Some("/k")),
            ("/b/../../etc/passwd", Some("b"), Some("../../etc/passwd")),
            ("/b/a%2Fb%20c/%C3%BC", Some("b"), Some("a/b c/ü")),
            ("/b/a+b", Some("b"), Some("a+b")),
            ("/b/a/", Some("b"), Some("a/")),
        ] {
            let target = target(uri);
            assert_eq!(target.bucket(), bucket.map(str::as_bytes), "{uri}");
            assert_eq!(target.key().unwrap().as_ref().map(crate::key::Key::as_str), key, "{uri}");
        }
    }

    #[test]
    fn keys_that_s3_does_not_know_are_refused() {
        assert!(target("/b/%FF").key().is_err());
        assert!(target(&format!("/b/{}", "k".repeat(1_025))).key().is_err());
        assert!(target(&format!("/b/{}", "k".repeat(1_024))).key().is_ok());
    }

    #[test]
    fn a_signature_covers_parameters_in_one_order_and_spelling() {
        let target = target("/b?prefix=a%2fb+c&list-type=2&X-Amz-Signature=x&acl&a=2&a=1");
        assert_eq!(target.query.canonical(), "a=1&a=2&acl=&list-type=2&prefix=a%2Fb%20c");
    }
}
