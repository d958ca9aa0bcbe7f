//! Sending one request: signed, bounded, tried again, its refusal understood.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flotilla_host::http::distrust;
use http::{HeaderMap, Method, header};
use reqwest::Response;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::breaker::{Leave, QUESTION_TIMEOUT};
use super::client::Store;
use super::error::{Refusal, StoreError};
use super::key::encode_query;

/// How often a request is sent at most.
const ATTEMPTS_MAX: u32 = 4;
/// When this has passed since the first attempt, there is no further one.
const RETRY_WINDOW: Duration = Duration::from_secs(4);
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// How long a server may take to answer, besides what the body takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a copy within the server may take.
pub(super) const COPY_TIMEOUT: Duration = Duration::from_secs(120);
/// The slowest connection that we wait for, in bytes per second.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;
/// How large an answer may be that is not an object's content.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request to be sent.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// `None` asks about the bucket.
    pub(super) key: Option<&'a str>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The body's digest, where it is known already.
    pub(super) digest: Option<String>,
    /// How long the answer may take besides the time that the body takes.
    pub(super) timeout: Duration,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, key: Option<&'a str>) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            digest: None,
            timeout: ANSWER_TIMEOUT,
        }
    }

    fn described(&self) -> String {
        match self.key {
            Some(key) => format!("{} `{key}`", self.method),
            None => format!("{} of the bucket", self.method),
        }
    }

    fn time_limit(&self) -> Duration {
        let bytes = u64::try_from(self.body.len()).unwrap_or(u64::MAX);
        self.timeout + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
    }
}

impl Store {
    /// Sends a request until it is answered or it is clear that it will not be.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response, StoreError> {
        let started_at = Instant::now();
        if self.inner.breaker.check(started_at)? == Leave::AskFirst {
            self.ask_whether_it_answers().await?;
        }
        let digest = match &ask.digest {
            Some(digest) => digest.clone(),
            None => payload_digest(&ask.body).await,
        };
        let mut pause = PAUSE_FIRST;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let outcome = self.send_once(ask, &digest).await;
            let error = match outcome {
                Ok(response) => {
                    self.inner.breaker.answered();
                    return Ok(response);
                }
                Err(error) => error,
            };
            let is_last = attempt == ATTEMPTS_MAX
                || started_at.elapsed() + pause > RETRY_WINDOW
                || !error.is_worth_retrying();
            if is_last {
                match error {
                    StoreError::Unreachable { .. } => {
                        self.inner.breaker.failed(&error, Instant::now());
                    }
                    StoreError::NoCredentials { .. } | StoreError::Untrusted { .. } => {}
                    _ => self.inner.breaker.answered(),
                }
                return Err(error);
            }
            tracing::debug!(%error, attempt, "A request to the media bucket is tried again");
            tokio::time::sleep(pause + jitter(pause)).await;
            pause *= 2;
        }
    }

    /// Finds out with a small request whether a server that did not answer does again.
    async fn ask_whether_it_answers(&self) -> Result<(), StoreError> {
        let mut ask = Ask::new(Method::HEAD, None);
        ask.timeout = QUESTION_TIMEOUT;
        let digest = payload_digest(&ask.body).await;
        match self.send_once(&ask, &digest).await {
            Err(error @ StoreError::Unreachable { .. }) => {
                self.inner.breaker.failed(&error, Instant::now());
                Err(error)
            }
            // Any answer is one.
            _ => {
                self.inner.breaker.answered();
                Ok(())
            }
        }
    }

    /// Sends a request and reads the whole of a small answer.
    pub(super) async fn send_and_read(
        &self,
        ask: &Ask<'_>,
    ) -> Result<(HeaderMap, Bytes), StoreError> {
        let response = self.send(ask).await?;
        let headers = response.headers().clone();
        let body = self.read_small(response, ask).await?;
        Ok((headers, body))
    }

    /// Sends a request whose answer is a document. Some errors come with a good status.
    pub(super) async fn send_and_parse<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
    ) -> Result<T, StoreError> {
        let (headers, body) = self.send_and_read(ask).await?;
        let text = String::from_utf8_lossy(&body);
        let code = error_code(&text);
        if !code.is_empty() {
            return Err(self.refusal(ask, http::StatusCode::OK, &code, &headers));
        }
        quick_xml::de::from_str(&text).map_err(|error| self.garbled(ask, error.to_string()))
    }

    async fn send_once(&self, ask: &Ask<'_>, digest: &str) -> Result<Response, StoreError> {
        let request = self.signed(ask, digest).await?;
        let _permit = self.inner.requests.acquire().await;
        let answer = tokio::time::timeout(ask.time_limit(), self.inner.http.execute(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.unanswered(&error)),
            Err(_) => {
                let seconds = ask.time_limit().as_secs();
                return Err(self.unreachable(format!("no answer within {seconds} s")));
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let body = self.read_small(response, ask).await.unwrap_or_default();
        let code = error_code(&String::from_utf8_lossy(&body));
        Err(self.refusal(ask, status, &code, &headers))
    }

    async fn signed(&self, ask: &Ask<'_>, digest: &str) -> Result<reqwest::Request, StoreError> {
        let mut address = self.address(ask.key);
        for (index, (name, value)) in ask.query.iter().enumerate() {
            address.push(if index == 0 { '?' } else { '&' });
            address.push_str(name);
            address.push('=');
            address.push_str(&encode_query(value));
        }
        let mut request = http::Request::builder()
            .method(ask.method.clone())
            .uri(address)
            .body(ask.body.clone())
            .map_err(|error| self.garbled(ask, error.to_string()))?;
        *request.headers_mut() = ask.headers.clone();
        // Servers want to know that nothing follows.
        let may_have_body = ask.method == Method::PUT || ask.method == Method::POST;
        if may_have_body && ask.body.is_empty() {
            request.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from(0));
        }
        if let Ok(digest) = digest.parse() {
            request.headers_mut().insert("x-amz-content-sha256", digest);
        }
        let (mut parts, body) = request.into_parts();
        self.inner.signer.sign(&mut parts, None).await.map_err(|error| {
            StoreError::NoCredentials {
                bucket: self.inner.bucket.clone(),
                reason: flotilla_core::error::chain(&error),
            }
        })?;
        reqwest::Request::try_from(http::Request::from_parts(parts, body))
            .map_err(|error| self.garbled(ask, error.to_string()))
    }

    async fn read_small(&self, mut response: Response, ask: &Ask<'_>) -> Result<Bytes, StoreError> {
        let mut body = bytes::BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body.freeze()),
                Err(error) => {
                    return Err(self.unreachable(flotilla_core::error::chain(&error)));
                }
            }
            if body.len() > ANSWER_BYTES_MAX {
                return Err(self.garbled(ask, "the answer is too long".to_owned()));
            }
        }
    }

    fn refusal(
        &self,
        ask: &Ask<'_>,
        status: http::StatusCode,
        code: &str,
        headers: &HeaderMap,
    ) -> StoreError {
        #[expect(clippy::disallowed_methods, reason = "compared with the server's clock")]
        let now = SystemTime::now();
        Refusal {
            bucket: &self.inner.bucket,
            key: ask.key.unwrap_or_default(),
            action: &ask.described(),
            status,
            code,
            server_time: read_date(headers, &header::DATE),
            now,
        }
        .meaning()
    }

    fn unanswered(&self, error: &reqwest::Error) -> StoreError {
        match distrust(error) {
            Some(reason) => StoreError::Untrusted {
                bucket: self.inner.bucket.clone(),
                address: self.inner.base.clone(),
                reason,
            },
            None => self.unreachable(flotilla_core::error::chain(error)),
        }
    }

    pub(super) fn unreachable(&self, reason: String) -> StoreError {
        StoreError::Unreachable {
            bucket: self.inner.bucket.clone(),
            address: self.inner.base.clone(),
            reason,
        }
    }

    /// Says that an object's content did not arrive as a whole.
    pub(crate) fn cut_short(&self, reason: &str) -> StoreError {
        self.unreachable(format!("a transfer was cut short: {reason}"))
    }

    pub(super) fn garbled(&self, ask: &Ask<'_>, reason: String) -> StoreError {
        StoreError::Garbled { bucket: self.inner.bucket.clone(), action: ask.described(), reason }
    }
}

pub(super) fn read_date(headers: &HeaderMap, name: &header::HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Returns the digest by which the server knows that the body has arrived as it was sent.
pub(super) async fn payload_digest(body: &Bytes) -> String {
    const SMALL_BYTES: usize = 64 * 1024;
    let digest = |body: &Bytes| hexadecimal(&Sha256::digest(body));
    if body.len() <= SMALL_BYTES {
        return digest(body);
    }
    let shared = body.clone();
    let computed = tokio::task::spawn_blocking(move || hexadecimal(&Sha256::digest(&shared))).await;
    computed.unwrap_or_else(|_| digest(body))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the code of an error document; empty when it is none.
fn error_code(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(rename = "Code", default)]
        code: String,
    }
    if !text.contains("<Error") {
        return String::new();
    }
    quick_xml::de::from_str::<Document>(text).map(|document| document.code).unwrap_or_default()
}

/// Returns up to `span`, at random, so that clients do not come back all at once.
fn jitter(span: Duration) -> Duration {
    span.mul_f64(f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_document_tells_its_code() {
        let text = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Key>a</Key></Error>";
        assert_eq!(error_code(text), "NoSuchKey");
        assert_eq!(error_code("<CopyObjectResult><ETag>1</ETag></CopyObjectResult>"), "");
        assert_eq!(error_code("<Error><broken"), "");
    }
}
