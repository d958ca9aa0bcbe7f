//! The headers of an object: kept when it is put, sent when it is got.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES,
};
use http::{HeaderMap, HeaderName};

use crate::answer::set;
use crate::checksum::Algorithm;
use crate::fault::{Code, Fault};
use crate::index::Headers;
use crate::target::Query;

/// The headers that describe an object, besides those that a client makes up.
const KEPT: [HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES];
/// Begins the names of headers that a client makes up.
const META: &str = "x-amz-meta-";
/// S3's limit for those: names and values together.
const META_BYTES_MAX: usize = 2 * 1024;
/// The limit for the others.
const KEPT_BYTES_MAX: usize = 8 * 1024;
/// What an object is when nobody says.
const TYPE_DEFAULT: &str = "binary/octet-stream";
/// Access control lists that mean what is the case anyway.
const ACLS_PRIVATE: [&str; 3] = ["private", "bucket-owner-full-control", "bucket-owner-read"];
/// Headers that ask for a part of S3 which this store leaves out.
const LEFT_OUT: [(&str, &str); 6] = [
    ("x-amz-server-side-encryption", "encryption"),
    ("x-amz-object-lock-", "object lock"),
    ("x-amz-tagging", "tagging"),
    ("x-amz-website-redirect-location", "a redirect"),
    ("x-amz-write-offset-bytes", "appending"),
    ("x-amz-copy-source-server-side-encryption", "encryption"),
];

/// Takes the headers that shall come back with an object.
///
/// # Errors
/// They are too large, are not text, or ask for something that this store does not do.
pub(crate) fn read(headers: &HeaderMap) -> Result<Headers, Fault> {
    check_wishes(headers)?;
    let mut kept = Headers::default();
    let (mut kept_bytes, mut meta_bytes) = (0, 0);
    for (name, value) in headers {
        let is_meta = name.as_str().starts_with(META);
        if !is_meta && !KEPT.contains(name) {
            continue;
        }
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_error| {
            Fault::new(Code::InvalidArgument, format!("the header `{name}` is not UTF-8"))
        })?;
        let text =
            if *name == CONTENT_ENCODING { without_transfer_form(text) } else { text.to_owned() };
        if text.is_empty() && !is_meta {
            continue;
        }
        let bytes = name.as_str().len() + text.len();
        if is_meta {
            meta_bytes += bytes - META.len();
        } else {
            kept_bytes += bytes;
        }
        let joined = kept.0.entry(name.as_str().to_owned()).or_default();
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&text);
    }
    if meta_bytes > META_BYTES_MAX {
        let message = format!("the headers `{META}…` have more than {META_BYTES_MAX} bytes");
        return Err(Fault::new(Code::MetadataTooLarge, message));
    }
    if kept_bytes > KEPT_BYTES_MAX {
        let message = format!("the headers of the object have more than {KEPT_BYTES_MAX} bytes");
        return Err(Fault::new(Code::MetadataTooLarge, message));
    }
    kept.0.entry(CONTENT_TYPE.as_str().to_owned()).or_insert_with(|| TYPE_DEFAULT.to_owned());
    Ok(kept)
}

/// Keeps a checksum with the headers of an object.
pub(crate) fn keep_checksum(headers: &mut Headers, checksum: Option<&(Algorithm, String)>) {
    if let Some((algorithm, value)) = checksum {
        headers.0.insert(algorithm.header().to_owned(), value.clone());
    }
}

/// Finds the checksum that is kept with the headers of an object.
pub(crate) fn checksum_of(headers: &Headers) -> Option<(Algorithm, &str)> {
    let mut all = Algorithm::ALL.into_iter();
    all.find_map(|one| Some((one, headers.0.get(one.header())?.as_str())))
}

/// Sends the headers of an object; its checksum only to those who ask for it.
pub(crate) fn send(headers: &Headers, asked: &HeaderMap, query: &Query, answer: &mut HeaderMap) {
    let mode = asked.get("x-amz-checksum-mode").and_then(|mode| mode.to_str().ok());
    let wants_checksum = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED"));
    for (name, value) in &headers.0 {
        if !wants_checksum && Algorithm::of_header(name).is_some() {
            continue;
        }
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set(answer, &name, value);
        }
    }
    for name in &KEPT {
        if let Some(value) = query.get(&format!("response-{name}")) {
            set(answer, name, value);
        }
    }
}

/// Takes `aws-chunked` out: it is how the body came, not what it is.
fn without_transfer_form(text: &str) -> String {
    let codings = text.split(',').map(str::trim);
    let kept: Vec<&str> = codings.filter(|one| !one.eq_ignore_ascii_case("aws-chunked")).collect();
    kept.join(",")
}

/// Refuses what this store cannot do rather than not doing it in silence.
fn check_wishes(headers: &HeaderMap) -> Result<(), Fault> {
    for name in headers.keys().map(HeaderName::as_str) {
        if let Some((_, what)) = LEFT_OUT.iter().find(|(start, _)| name.starts_with(start)) {
            return Err(Fault::left_out(what));
        }
    }
    let acl = headers.get("x-amz-acl").map(|acl| acl.to_str().unwrap_or_default());
    let is_private = acl.is_none_or(|acl| ACLS_PRIVATE.contains(&acl));
    let has_grant = headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"));
    if is_private && !has_grant {
        return Ok(());
    }
    let message = "everything is private here; access control lists cannot be set";
    Err(Fault::new(Code::AccessControlListNotSupported, message))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::read;
    use crate::fault::Code;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_describes_an_object_is_kept_and_nothing_else() {
        let kept = read(&headers(&[
            ("content-type", "image/png"),
            ("content-encoding", "aws-chunked, gzip"),
            ("x-amz-meta-mtime", "1"),
            ("x-amz-date", "x"),
            ("host", "h"),
        ]));
        let kept: Vec<(String, String)> = kept.unwrap().0.into_iter().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            kept,
            [
                pair("content-encoding", "gzip"),
                pair("content-type", "image/png"),
                pair("x-amz-meta-mtime", "1"),
            ]
        );
    }

    #[test]
    fn wishes_that_cannot_be_granted_are_refused() {
        for (name, value, code) in [
            ("x-amz-acl", "public-read", Code::AccessControlListNotSupported),
            ("x-amz-grant-read", "id=x", Code::AccessControlListNotSupported),
            ("x-amz-server-side-encryption", "AES256", Code::NotImplemented),
            ("x-amz-tagging", "a=b", Code::NotImplemented),
            ("x-amz-meta-a", &"x".repeat(2_050), Code::MetadataTooLarge),
        ] {
            let fault = read(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(fault.code, code, "{name}");
        }
        assert!(read(&headers(&[("x-amz-acl", "private")])).is_ok());
    }
}
