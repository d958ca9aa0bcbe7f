//! Answers that list: objects, buckets, uploads, and what is known of the bucket.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::answer::{Answer, document, quoted};
use crate::call::Call;
use crate::fault::{Code, Fault};
use crate::index::{Listed, ListingPage, ListingRequest, list, list_uploads};
use crate::target::{Query, encode_path};
use crate::xml::Xml;

/// Lines in a listing at most, as with S3.
const COUNT_MAX: usize = 1_000;
/// The owner of everything.
const OWNER: &str = "flotilla";

/// How names stand in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Plain,
    Encoded,
}

impl Spelling {
    fn read(query: &Query) -> Result<Self, Fault> {
        match query.get("encoding-type") {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Encoded),
            Some(_) => Err(Fault::new(Code::InvalidArgument, "the one encoding type is `url`")),
        }
    }

    fn write(self, xml: &mut Xml, element: &str, name: &str) {
        match self {
            Self::Plain => xml.text(element, name),
            Self::Encoded => xml.text(element, &encode_path(name.as_bytes())),
        }
    }
}

/// Reads how many lines are wanted.
///
/// # Errors
/// It is no number.
pub(crate) fn read_count(query: &Query, name: &str) -> Result<usize, Fault> {
    Ok(query
        .number::<u32>(name)?
        .map_or(COUNT_MAX, |count| usize::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX)))
}

/// Lists objects, in the newer form.
///
/// # Errors
/// A parameter is wrong, or the index failed.
pub(crate) async fn list_objects_v2(call: &Call) -> Result<Answer, Fault> {
    let query = &call.target.query;
    let token = query.get("continuation-token").filter(|token| !token.is_empty());
    let start_after = query.get("start-after").unwrap_or_default();
    let after = token.map_or_else(|| Ok(start_after.to_owned()), read_token)?;
    let (request, page) = list_page(call, after).await?;
    let spelling = Spelling::read(query)?;
    let shows_owner = query.get("fetch-owner") == Some("true");
    Ok(document(Xml::document("ListBucketResult", |xml| {
        write_request(xml, call, &request, spelling);
        xml.text("KeyCount", &page.entries.len().to_string());
        if !start_after.is_empty() {
            spelling.write(xml, "StartAfter", start_after);
        }
        if let Some(token) = token {
            xml.text("ContinuationToken", token);
        }
        if let Some(last) = page.entries.last().filter(|_| page.is_truncated) {
            xml.text("NextContinuationToken", &URL_SAFE_NO_PAD.encode(last.name()));
        }
        write_page(xml, &page, spelling, shows_owner);
    })))
}

/// Lists objects, in the older form.
///
/// # Errors
/// A parameter is wrong, or the index failed.
pub(crate) async fn list_objects(call: &Call) -> Result<Answer, Fault> {
    let query = &call.target.query;
    let marker = query.get("marker").unwrap_or_default();
    let (request, page) = list_page(call, marker.to_owned()).await?;
    let spelling = Spelling::read(query)?;
    Ok(document(Xml::document("ListBucketResult", |xml| {
        write_request(xml, call, &request, spelling);
        spelling.write(xml, "Marker", marker);
        if let Some(last) = page.entries.last().filter(|_| page.is_truncated) {
            spelling.write(xml, "NextMarker", last.name());
        }
        write_page(xml, &page, spelling, true);
    })))
}

async fn list_page(call: &Call, after: String) -> Result<(ListingRequest, ListingPage), Fault> {
    let query = &call.target.query;
    let request = ListingRequest {
        prefix: query.get("prefix").unwrap_or_default().to_owned(),
        delimiter: query.get("delimiter").unwrap_or_default().to_owned(),
        after,
        count_max: read_count(query, "max-keys")?,
    };
    call.blocking(move |store| {
        let page = store.index.read(|connection| list(connection, &request))?;
        Ok((request, page))
    })
    .await
}

fn read_token(token: &str) -> Result<String, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        Fault::new(Code::InvalidArgument, "the continuation token is not one of this store")
    })
}

fn write_request(xml: &mut Xml, call: &Call, request: &ListingRequest, spelling: Spelling) {
    xml.text("Name", &call.store.bucket);
    spelling.write(xml, "Prefix", &request.prefix);
    if !request.delimiter.is_empty() {
        spelling.write(xml, "Delimiter", &request.delimiter);
    }
    xml.text("MaxKeys", &request.count_max.to_string());
    if spelling == Spelling::Encoded {
        xml.text("EncodingType", "url");
    }
}

fn write_page(xml: &mut Xml, page: &ListingPage, spelling: Spelling, shows_owner: bool) {
    xml.text("IsTruncated", if page.is_truncated { "true" } else { "false" });
    for entry in &page.entries {
        match entry {
            Listed::Prefix(prefix) => xml.element("CommonPrefixes", |xml| {
                spelling.write(xml, "Prefix", prefix);
            }),
            Listed::Object { key, size, etag, modified } => xml.element("Contents", |xml| {
                spelling.write(xml, "Key", key);
                xml.text("LastModified", &modified.iso());
                xml.text("ETag", &quoted(etag));
                xml.text("Size", &size.to_string());
                if shows_owner {
                    write_owner(xml, "Owner");
                }
                xml.text("StorageClass", "STANDARD");
            }),
        }
    }
}

/// Writes who owns something: always the same.
pub(crate) fn write_owner(xml: &mut Xml, element: &str) {
    xml.element(element, |xml| {
        xml.text("ID", OWNER);
        xml.text("DisplayName", OWNER);
    });
}

/// Lists the uploads that were begun.
///
/// # Errors
/// A parameter is wrong, or the index failed.
pub(crate) async fn list_unfinished(call: &Call) -> Result<Answer, Fault> {
    let query = &call.target.query;
    if query.get("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(Fault::left_out("folding a listing of uploads"));
    }
    let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let (prefix, key_marker, id_marker) =
        (text("prefix"), text("key-marker"), text("upload-id-marker"));
    let count_max = read_count(query, "max-uploads")?;
    let spelling = Spelling::read(query)?;
    let (after_key, after_id) = (key_marker.clone(), id_marker.clone());
    let wanted = prefix.clone();
    let mut uploads = call
        .blocking(move |store| {
            store.index.read(|connection| {
                list_uploads(connection, &wanted, (&after_key, &after_id), count_max + 1)
            })
        })
        .await?;
    let is_truncated = uploads.len() > count_max;
    uploads.truncate(count_max);
    Ok(document(Xml::document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", &call.store.bucket);
        spelling.write(xml, "KeyMarker", &key_marker);
        xml.text("UploadIdMarker", &id_marker);
        spelling.write(xml, "Prefix", &prefix);
        xml.text("MaxUploads", &count_max.to_string());
        xml.text("IsTruncated", if is_truncated { "true" } else { "false" });
        if let Some(last) = uploads.last().filter(|_| is_truncated) {
            spelling.write(xml, "NextKeyMarker", &last.key);
            xml.text("NextUploadIdMarker", &last.id.0);
        }
        for upload in &uploads {
            xml.element("Upload", |xml| {
                spelling.write(xml, "Key", &upload.key);
                xml.text("UploadId", &upload.id.0);
                write_owner(xml, "Initiator");
                write_owner(xml, "Owner");
                xml.text("StorageClass", "STANDARD");
                xml.text("Initiated", &upload.started.iso());
            });
        }
    })))
}
