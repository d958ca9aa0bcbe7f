//! Operations on one object.

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::Response;
use serde::Deserialize;

use super::client::Store;
use super::error::StoreError;
use super::metadata::Metadata;
use super::send::{Ask, COPY_TIMEOUT, payload_digest, read_date};

const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");
const COPY_SOURCE_IF_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-match");
const METADATA_DIRECTIVE: HeaderName = HeaderName::from_static("x-amz-metadata-directive");

/// An object as the store describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Names this version of the content; without quotes.
    pub etag: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored, by the server's clock.
    pub stored_at: Option<SystemTime>,
    /// What it says of its file.
    pub metadata: Metadata,
}

/// When an object may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whatever is there.
    Anything,
    /// Only when nothing is there.
    Absent,
    /// Only when this version is there.
    Version(String),
}

/// What a copy remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyMetadata {
    /// The same as its source.
    Same,
    /// Something else.
    New(Metadata, &'static str),
}

impl Store {
    /// Describes an object; `None` when there is none.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn head(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let ask = Ask::new(Method::HEAD, Some(key));
        match self.send(&ask).await {
            Ok(response) => Ok(Some(self.described(&ask, response.headers())?)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a part of one version of an object; an empty range asks for all.
    pub(crate) async fn get(
        &self,
        key: &str,
        etag: Option<&str>,
        range: Range<u64>,
    ) -> Result<Response, StoreError> {
        let mut ask = Ask::new(Method::GET, Some(key));
        if let Some(etag) = etag {
            ask.headers.insert(header::IF_MATCH, quoted(etag)?);
        }
        if !range.is_empty() {
            let value = format!("bytes={}-{}", range.start, range.end - 1);
            if let Ok(value) = value.parse() {
                ask.headers.insert(header::RANGE, value);
            }
        }
        self.send(&ask).await
    }

    /// Reads the whole of a small object; `None` when there is none.
    pub(crate) async fn get_small(
        &self,
        key: &str,
        bytes_max: usize,
    ) -> Result<Option<(Object, Bytes)>, StoreError> {
        let mut response = match self.get(key, None, 0..0).await {
            Ok(response) => response,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ask = Ask::new(Method::GET, Some(key));
        let object = self.described(&ask, response.headers())?;
        let mut body = bytes::BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(Some((object, body.freeze()))),
                Err(error) => {
                    return Err(self.unreachable(flotilla_core::error::chain(&error)));
                }
            }
            if body.len() > bytes_max {
                return Err(self.garbled(&ask, format!("it is longer than {bytes_max} bytes")));
            }
        }
    }

    /// Stores an object in one request; returns its version.
    pub(crate) async fn put(
        &self,
        key: &str,
        body: Bytes,
        metadata: &Metadata,
        content_type: &str,
        wanted: &Wanted,
    ) -> Result<String, StoreError> {
        let mut metadata = metadata.clone();
        let digest = payload_digest(&body).await;
        metadata.sha256 = Some(digest.clone());
        if *wanted != Wanted::Anything {
            metadata.write = Some(random_text());
        }
        let mut ask = Ask::new(Method::PUT, Some(key));
        ask.body = body;
        ask.digest = Some(digest);
        metadata.write_to(&mut ask.headers);
        insert_type(&mut ask.headers, content_type);
        insert_condition(&mut ask.headers, wanted)?;
        match self.send_and_read(&ask).await {
            Ok((headers, _)) => {
                read_etag(&headers).ok_or_else(|| self.garbled(&ask, "it has no ETag".to_owned()))
            }
            Err(StoreError::Changed(_) | StoreError::NotFound(_))
                if *wanted != Wanted::Anything =>
            {
                self.own_write(key, &metadata).await
            }
            Err(error) => Err(error),
        }
    }

    /// Copies an object within the bucket; returns the copy's version.
    pub(crate) async fn copy(
        &self,
        from: &str,
        from_etag: Option<&str>,
        to: &str,
        metadata: &CopyMetadata,
    ) -> Result<String, StoreError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "ETag")]
            etag: String,
        }
        let mut ask = Ask::new(Method::PUT, Some(to));
        ask.timeout = COPY_TIMEOUT;
        insert_source(&mut ask.headers, &self.copy_source(from), from_etag)?;
        if let CopyMetadata::New(metadata, content_type) = metadata {
            ask.headers.insert(METADATA_DIRECTIVE, HeaderValue::from_static("REPLACE"));
            metadata.write_to(&mut ask.headers);
            insert_type(&mut ask.headers, content_type);
        }
        match self.send_and_parse::<Document>(&ask).await {
            Ok(document) => Ok(unquoted(&document.etag)),
            Err(StoreError::NotFound(_)) => Err(StoreError::NotFound(from.to_owned())),
            Err(StoreError::Changed(_)) => Err(StoreError::Changed(from.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; that there is none is not an error.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.send_and_read(&Ask::new(Method::DELETE, Some(key))).await {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells whether a condition failed because an earlier attempt of this same write, whose answer
    /// was lost, has succeeded.
    pub(super) async fn own_write(
        &self,
        key: &str,
        metadata: &Metadata,
    ) -> Result<String, StoreError> {
        match self.head(key).await? {
            Some(object) if object.metadata.write == metadata.write => Ok(object.etag),
            _ => Err(StoreError::Changed(key.to_owned())),
        }
    }

    pub(super) fn described(
        &self,
        ask: &Ask<'_>,
        headers: &HeaderMap,
    ) -> Result<Object, StoreError> {
        let etag =
            read_etag(headers).ok_or_else(|| self.garbled(ask, "it has no ETag".to_owned()))?;
        let size = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok())
            .ok_or_else(|| self.garbled(ask, "it has no length".to_owned()))?;
        let stored_at = read_date(headers, &header::LAST_MODIFIED);
        Ok(Object { etag, size, stored_at, metadata: Metadata::read(headers) })
    }
}

pub(super) fn random_text() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_default())
}

pub(super) fn insert_condition(headers: &mut HeaderMap, wanted: &Wanted) -> Result<(), StoreError> {
    match wanted {
        Wanted::Anything => {}
        Wanted::Absent => {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        Wanted::Version(etag) => {
            headers.insert(header::IF_MATCH, quoted(etag)?);
        }
    }
    Ok(())
}

pub(super) fn insert_type(headers: &mut HeaderMap, content_type: &str) {
    if let Ok(content_type) = content_type.parse() {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
}

pub(super) fn insert_source(
    headers: &mut HeaderMap,
    source: &str,
    etag: Option<&str>,
) -> Result<(), StoreError> {
    // It is encoded, so it is always a value.
    if let Ok(source) = source.parse() {
        headers.insert(COPY_SOURCE, source);
    }
    if let Some(etag) = etag {
        headers.insert(COPY_SOURCE_IF_MATCH, quoted(etag)?);
    }
    Ok(())
}

pub(super) fn read_etag(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ETAG)?.to_str().ok()?;
    Some(unquoted(text)).filter(|etag| !etag.is_empty())
}

pub(super) fn unquoted(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// An `ETag` comes from the server, so it can always be sent back; one that cannot names nothing.
fn quoted(etag: &str) -> Result<HeaderValue, StoreError> {
    format!("\"{etag}\"").parse().map_err(|_error| StoreError::Changed(etag.to_owned()))
}
