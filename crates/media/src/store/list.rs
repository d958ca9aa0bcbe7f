//! Listings.

use http::Method;
use serde::Deserialize;

use super::client::Store;
use super::error::StoreError;
use super::key::decode_listed;
use super::object::unquoted;
use super::send::Ask;

/// How many keys come with one answer.
const KEYS_PER_PAGE: u32 = 1000;

/// A part of a listing; names are relative to the prefix of all keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Page {
    /// The objects, in the order of their keys.
    pub(crate) objects: Vec<Listed>,
    /// What begins all keys of a directory, with a slash at the end.
    pub(crate) directories: Vec<String>,
    /// Asks for the next part.
    pub(crate) next: Option<String>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
}

/// How deep a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only what is directly below.
    Entries,
    /// All that is below.
    Everything,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "EncodingType", default)]
    encoding: String,
    #[serde(rename = "NextContinuationToken", default)]
    next: Option<String>,
    #[serde(rename = "IsTruncated", default)]
    is_truncated: bool,
    #[serde(rename = "Contents", default)]
    contents: Vec<Content>,
    #[serde(rename = "CommonPrefixes", default)]
    prefixes: Vec<CommonPrefix>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Size", default)]
    size: u64,
    #[serde(rename = "ETag", default)]
    etag: String,
}

#[derive(Deserialize)]
struct CommonPrefix {
    #[serde(rename = "Prefix")]
    prefix: String,
}

impl Store {
    /// Lists what begins with `inside`, from a page on; `keys_max` of 0 takes full pages.
    pub(crate) async fn list(
        &self,
        inside: &str,
        depth: Depth,
        keys_max: u32,
        from: Option<&str>,
    ) -> Result<Page, StoreError> {
        let prefix = format!("{}{inside}", self.inner.prefix);
        let keys = if keys_max == 0 { KEYS_PER_PAGE } else { keys_max };
        let mut ask = Ask::new(Method::GET, None);
        ask.query = vec![("encoding-type", "url".to_owned()), ("list-type", "2".to_owned())];
        if let Some(token) = from {
            ask.query.push(("continuation-token", token.to_owned()));
        }
        if depth == Depth::Entries {
            ask.query.push(("delimiter", "/".to_owned()));
        }
        ask.query.push(("max-keys", keys.to_string()));
        ask.query.push(("prefix", prefix));
        let document: Document = match self.send_and_parse(&ask).await {
            // There is nothing else that could be missing.
            Err(StoreError::NotFound(_)) => {
                return Err(StoreError::NoBucket(self.inner.bucket.clone()));
            }
            outcome => outcome?,
        };
        Ok(self.page(document))
    }

    /// Returns whether any key begins with this.
    pub(crate) async fn has_any(&self, inside: &str) -> Result<bool, StoreError> {
        let page = self.list(inside, Depth::Everything, 1, None).await?;
        Ok(!page.objects.is_empty())
    }

    fn page(&self, document: Document) -> Page {
        let is_encoded = document.encoding == "url";
        let relative = |key: &str| {
            let key = if is_encoded { decode_listed(key)? } else { key.to_owned() };
            key.strip_prefix(&self.inner.prefix).map(str::to_owned)
        };
        let objects = document.contents.iter().filter_map(|content| {
            let key = relative(&content.key)?;
            Some(Listed { key, size: content.size, etag: unquoted(&content.etag) })
        });
        Page {
            objects: objects.collect(),
            directories: document
                .prefixes
                .iter()
                .filter_map(|directory| relative(&directory.prefix))
                .collect(),
            next: document.next.filter(|token| document.is_truncated && !token.is_empty()),
        }
    }
}
