//! Who asks: the check of signatures, in the header of a request or in its address.
//!
//! Nothing is public here. There is one pair of keys, and whoever has it may do everything.

use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};
use http::request::Parts;

use crate::chunked::ChunkSignatures;
use crate::fault::{Code, Fault};
use crate::payload::{Protection, read_hash};
use crate::signature::{ALGORITHM, Scope, Signer};
use crate::target::{Target, encode_path};
use crate::timestamp::Timestamp;

/// How far the clock of a client may be off, as with S3.
const SKEW_SECONDS_MAX: u64 = 15 * 60;
/// How long an address may stay signed, as with S3: a week.
const EXPIRY_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The keys of those who may use the store.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// Names the pair; no secret.
    pub(crate) access_key: String,
    /// Signs; never logged.
    pub(crate) secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// A signature as it came with a request.
#[derive(Debug)]
struct Claim<'a> {
    access_key: &'a str,
    scope: Scope,
    signed_headers: &'a str,
    signature: &'a str,
    time_text: &'a str,
    time: Timestamp,
}

/// Checks who asks, and returns how the body of the request is protected.
///
/// # Errors
/// The request is not signed, or not well, or at another time.
pub(crate) fn check(
    request: &Parts,
    target: &Target,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Protection, Fault> {
    let header = request.headers.get(AUTHORIZATION);
    match (header, target.query.has("X-Amz-Algorithm")) {
        (Some(_), true) => {
            let message = "the request is signed twice, in its header and in its address";
            Err(Fault::new(Code::InvalidArgument, message))
        }
        (Some(header), false) => {
            let text = header.to_str().map_err(|_error| malformed("it is not text"))?;
            check_header(request, target, text, credentials, now)
        }
        (None, true) => check_address(request, target, credentials, now),
        (None, false) if target.query.has("Signature") => Err(other_algorithm()),
        (None, false) => Err(Fault::new(Code::AccessDenied, "the request is not signed")),
    }
}

fn check_header(
    request: &Parts,
    target: &Target,
    text: &str,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Protection, Fault> {
    let claim = read_header(&request.headers, text)?;
    check_access_key(&claim, credentials)?;
    if claim.time.seconds().abs_diff(now.seconds()) > SKEW_SECONDS_MAX {
        let message = format!(
            "the clocks differ by more than {} minutes: here it is {}",
            SKEW_SECONDS_MAX / 60,
            now.iso()
        );
        return Err(Fault::new(Code::RequestTimeTooSkewed, message));
    }
    let payload = text_of(&request.headers, "x-amz-content-sha256").ok_or_else(|| {
        Fault::new(Code::InvalidRequest, "the header `x-amz-content-sha256` is missing")
    })?;
    let signer = Signer::new(&credentials.secret_key, &claim.scope, claim.time_text);
    let canonical = canonical_request(request, target, claim.signed_headers, payload)?;
    signer.check_request(&canonical, claim.signature)?;
    protection(payload, signer, claim.signature)
}

fn check_address(
    request: &Parts,
    target: &Target,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Protection, Fault> {
    let claim = read_address(target)?;
    check_access_key(&claim, credentials)?;
    let expires = target.query.number::<u64>("X-Amz-Expires")?.unwrap_or_default();
    if expires == 0 || expires > EXPIRY_SECONDS_MAX {
        let message = format!("`X-Amz-Expires` must be from 1 to {EXPIRY_SECONDS_MAX} seconds");
        return Err(Fault::new(Code::AuthorizationQueryParameters, message));
    }
    if claim.time.seconds() > now.seconds() + SKEW_SECONDS_MAX {
        return Err(Fault::new(Code::AccessDenied, "the signed address is not valid yet"));
    }
    if now.seconds() > claim.time.seconds() + expires {
        return Err(Fault::new(Code::AccessDenied, "the signed address has expired"));
    }
    let payload = target.query.get("X-Amz-Content-Sha256");
    let payload = payload.or_else(|| text_of(&request.headers, "x-amz-content-sha256"));
    let payload = payload.unwrap_or(UNSIGNED);
    let signer = Signer::new(&credentials.secret_key, &claim.scope, claim.time_text);
    let canonical = canonical_request(request, target, claim.signed_headers, payload)?;
    signer.check_request(&canonical, claim.signature)?;
    protection(payload, signer, claim.signature)
}

fn read_header<'a>(headers: &'a HeaderMap, text: &'a str) -> Result<Claim<'a>, Fault> {
    let Some(rest) = text.trim().strip_prefix(ALGORITHM) else { return Err(other_algorithm()) };
    let field = |name: &str| {
        let mut fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
        fields.find(|(one, _)| *one == name).map(|(_, value)| value)
    };
    let credential = field("Credential").ok_or_else(|| malformed("`Credential` is missing"))?;
    let scope = Scope::read(credential).ok_or_else(|| malformed("`Credential` is not for S3"))?;
    let signed_headers =
        field("SignedHeaders").ok_or_else(|| malformed("`SignedHeaders` is missing"))?;
    let signature = field("Signature").ok_or_else(|| malformed("`Signature` is missing"))?;
    let time_text = text_of(headers, "x-amz-date").or_else(|| text_of(headers, DATE.as_str()));
    let time_text = time_text.unwrap_or_default();
    let time = Timestamp::from_signature(time_text).ok_or_else(|| {
        Fault::new(Code::AccessDenied, "a signed request needs a valid `x-amz-date`")
    })?;
    let (access_key, scope) = scope;
    check_day(&scope, time_text).map_err(malformed)?;
    Ok(Claim { access_key, scope, signed_headers, signature, time_text, time })
}

fn read_address(target: &Target) -> Result<Claim<'_>, Fault> {
    let wrong = |why: &str| {
        Fault::new(Code::AuthorizationQueryParameters, format!("the signed address: {why}"))
    };
    let field =
        |name: &str| target.query.get(name).ok_or_else(|| wrong(&format!("`{name}` is missing")));
    if field("X-Amz-Algorithm")? != ALGORITHM {
        return Err(other_algorithm());
    }
    let (access_key, scope) = Scope::read(field("X-Amz-Credential")?)
        .ok_or_else(|| wrong("`X-Amz-Credential` is not for S3"))?;
    let time_text = field("X-Amz-Date")?;
    let time =
        Timestamp::from_signature(time_text).ok_or_else(|| wrong("`X-Amz-Date` is not a time"))?;
    check_day(&scope, time_text).map_err(wrong)?;
    let (signed_headers, signature) = (field("X-Amz-SignedHeaders")?, field("X-Amz-Signature")?);
    Ok(Claim { access_key, scope, signed_headers, signature, time_text, time })
}

fn check_day(scope: &Scope, time: &str) -> Result<(), &'static str> {
    let is_same = time.get(..8) == Some(scope.day.as_str());
    if is_same { Ok(()) } else { Err("the credential is of another day than the request") }
}

fn check_access_key(claim: &Claim<'_>, credentials: &Credentials) -> Result<(), Fault> {
    if claim.access_key == credentials.access_key {
        return Ok(());
    }
    Err(Fault::new(Code::InvalidAccessKeyId, "the store does not know this access key"))
}

/// Writes a request as its signature covers it.
fn canonical_request(
    request: &Parts,
    target: &Target,
    signed_headers: &str,
    payload: &str,
) -> Result<String, Fault> {
    let mut names = signed_headers.split(';');
    if !names.clone().any(|name| name == "host") {
        return Err(Fault::new(Code::AccessDenied, "the signature does not cover `host`"));
    }
    let is_signed = |name: &str| signed_headers.split(';').any(|one| one == name);
    let mut amazon = request.headers.keys().map(http::HeaderName::as_str);
    if let Some(name) = amazon.find(|name| name.starts_with("x-amz-") && !is_signed(name)) {
        let message = format!("the signature does not cover `{name}`");
        return Err(Fault::new(Code::AccessDenied, message));
    }
    let mut headers = String::new();
    names.try_for_each(|name| canonical_header(request, name, &mut headers))?;
    let path = encode_path(&target.path);
    let (method, query) = (&request.method, target.query.canonical());
    Ok(format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{payload}"))
}

fn canonical_header(request: &Parts, name: &str, headers: &mut String) -> Result<(), Fault> {
    headers.extend([name, ":"]);
    for (index, value) in request.headers.get_all(name).iter().enumerate() {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_error| {
            Fault::new(Code::InvalidRequest, format!("the header `{name}` is not UTF-8"))
        })?;
        if index > 0 {
            headers.push(',');
        }
        let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
        headers.push_str(words.join(" ").trim());
    }
    headers.push('\n');
    Ok(())
}

fn protection(payload: &str, signer: Signer, signature: &str) -> Result<Protection, Fault> {
    let signatures = || Some(ChunkSignatures { signer, previous: signature.to_owned() });
    match payload {
        UNSIGNED => Ok(Protection::Unsigned),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => {
            Ok(Protection::Chunked { signatures: None, has_trailer: true })
        }
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => {
            Ok(Protection::Chunked { signatures: signatures(), has_trailer: false })
        }
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Ok(Protection::Chunked { signatures: signatures(), has_trailer: true })
        }
        streaming if streaming.starts_with("STREAMING-") => Err(Fault::left_out(streaming)),
        hash => read_hash(hash).map(Protection::Hash).ok_or_else(|| {
            Fault::new(Code::InvalidRequest, "`x-amz-content-sha256` is not a SHA-256")
        }),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn malformed(why: &str) -> Fault {
    Fault::new(Code::AuthorizationHeaderMalformed, format!("the `Authorization` header: {why}"))
}

fn other_algorithm() -> Fault {
    let message = "the request must be signed with AWS4-HMAC-SHA256 (signature version 4)";
    Fault::new(Code::InvalidRequest, message)
}
