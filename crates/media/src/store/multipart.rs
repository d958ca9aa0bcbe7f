//! Objects that are stored in parts: what is too large for one request, or mostly there already.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderName, Method};
use serde::Deserialize;

use super::client::Store;
use super::error::StoreError;
use super::metadata::Metadata;
use super::object::{
    Wanted, insert_condition, insert_source, insert_type, random_text, read_etag, unquoted,
};
use super::send::{Ask, COPY_TIMEOUT};

const COPY_SOURCE_RANGE: HeaderName = HeaderName::from_static("x-amz-copy-source-range");
/// The smallest part but the last, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub(crate) const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// The largest part, and the largest object that one request copies.
pub(crate) const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// How many parts an object may have.
pub(crate) const PARTS_MAX: u64 = 10_000;

/// An object that is being put together. It is not there before [`Upload::complete`].
#[derive(Debug)]
pub(crate) struct Upload {
    store: Store,
    key: String,
    id: String,
    metadata: Metadata,
}

/// A part that has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) number: u32,
    etag: String,
}

impl Store {
    /// Begins an object of parts.
    pub(crate) async fn begin_upload(
        &self,
        key: &str,
        metadata: &Metadata,
        content_type: &str,
    ) -> Result<Upload, StoreError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "UploadId")]
            id: String,
        }
        let mut metadata = metadata.clone();
        metadata.write = Some(random_text());
        let mut ask = Ask::new(Method::POST, Some(key));
        ask.query = vec![("uploads", String::new())];
        metadata.write_to(&mut ask.headers);
        insert_type(&mut ask.headers, content_type);
        let document: Document = self.send_and_parse(&ask).await?;
        Ok(Upload { store: self.clone(), key: key.to_owned(), id: document.id, metadata })
    }
}

impl Upload {
    /// Sends a part; the first has number 1.
    pub(crate) async fn send(&self, number: u32, body: Bytes) -> Result<Part, StoreError> {
        let mut ask = self.ask(Method::PUT);
        ask.query = vec![("partNumber", number.to_string()), ("uploadId", self.id.clone())];
        ask.body = body;
        let (headers, _) = self.store.send_and_read(&ask).await?;
        let etag = read_etag(&headers)
            .ok_or_else(|| self.store.garbled(&ask, "it has no ETag".to_owned()))?;
        Ok(Part { number, etag })
    }

    /// Takes a part from a version of an object that is there.
    pub(crate) async fn copy(
        &self,
        number: u32,
        from: &str,
        from_etag: &str,
        range: Range<u64>,
    ) -> Result<Part, StoreError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "ETag")]
            etag: String,
        }
        let mut ask = self.ask(Method::PUT);
        ask.timeout = COPY_TIMEOUT;
        ask.query = vec![("partNumber", number.to_string()), ("uploadId", self.id.clone())];
        insert_source(&mut ask.headers, &self.store.copy_source(from), Some(from_etag))?;
        if let Ok(range) = format!("bytes={}-{}", range.start, range.end.saturating_sub(1)).parse()
        {
            ask.headers.insert(COPY_SOURCE_RANGE, range);
        }
        let document: Document = self.store.send_and_parse(&ask).await?;
        Ok(Part { number, etag: unquoted(&document.etag) })
    }

    /// Makes the object of its parts; returns its version.
    pub(crate) async fn complete(
        &self,
        mut parts: Vec<Part>,
        wanted: &Wanted,
    ) -> Result<String, StoreError> {
        use std::fmt::Write;
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "ETag")]
            etag: String,
        }
        parts.sort_by_key(|part| part.number);
        let mut body = String::from("<CompleteMultipartUpload>");
        for Part { number, etag } in &parts {
            let part = format_args!(
                "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>"
            );
            // Writing to a string cannot fail.
            let _ = write!(body, "{part}");
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut ask = self.ask(Method::POST);
        ask.timeout = COPY_TIMEOUT;
        ask.query = vec![("uploadId", self.id.clone())];
        ask.body = Bytes::from(body);
        insert_condition(&mut ask.headers, wanted)?;
        match self.store.send_and_parse::<Document>(&ask).await {
            Ok(document) => Ok(unquoted(&document.etag)),
            // When an answer is lost, the upload is gone when it is asked for again.
            Err(StoreError::Changed(_) | StoreError::NotFound(_)) => {
                self.store.own_write(&self.key, &self.metadata).await
            }
            Err(error) => Err(error),
        }
    }

    /// Throws the parts away.
    pub(crate) async fn abort(&self) {
        let mut ask = self.ask(Method::DELETE);
        ask.query = vec![("uploadId", self.id.clone())];
        if let Err(error) = self.store.send_and_read(&ask).await {
            tracing::warn!(key = self.key, %error, "Parts of an unfinished object stay in the media bucket");
        }
    }

    fn ask(&self, method: Method) -> Ask<'_> {
        Ask::new(method, Some(&self.key))
    }
}
