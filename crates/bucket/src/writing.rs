//! PUT, copy and DELETE of objects.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderName;

use crate::answer::{Answer, document, empty, quoted, set, set_etag};
use crate::call::Call;
use crate::checksum::{Algorithm, hex};
use crate::condition::{ReadConditions, Reading, WriteConditions};
use crate::copy_source;
use crate::fault::{Code, Fault};
use crate::index::{Headers, NewObject, delete_object, find_object, put_object, share_object};
use crate::key::Key;
use crate::object_headers::{self, checksum_of, keep_checksum};
use crate::reading::no_such_key;
use crate::timestamp::Timestamp;
use crate::xml::{LocalName, Xml, child_text, read_document};

/// Keys that one request may delete, as with S3.
const DELETED_MAX: usize = 1_000;

/// Puts an object.
///
/// # Errors
/// A condition does not hold, the body is not what was said of it, or the disk failed.
pub(crate) async fn put(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let conditions = WriteConditions::read(&call.head.headers)?;
    let mut headers = object_headers::read(&call.head.headers)?;
    check_early(call, &key, &conditions).await?;
    let (received, blob) = call.receive().await?;
    keep_checksum(&mut headers, received.checksum.as_ref());
    let etag = hex(&received.md5);
    let (size, now) = (received.size, Timestamp::now());
    let object = NewObject { key, size, etag: etag.clone(), headers, now };
    let change =
        call.store.index.change(move |change| put_object(change, &object, blob, &conditions));
    change.await?;
    let mut answer = empty(StatusCode::OK);
    set_etag(answer.headers_mut(), &etag);
    send_checksum(&mut answer, received.checksum.as_ref());
    Ok(answer)
}

/// Sends back the checksum of what was stored.
pub(crate) fn send_checksum(answer: &mut Answer, checksum: Option<&(Algorithm, String)>) {
    if let Some((algorithm, value)) = checksum {
        let name = HeaderName::from_static(algorithm.header());
        set(answer.headers_mut(), &name, value);
    }
}

/// Refuses before the body is sent what would be refused after it, too.
async fn check_early(call: &Call, key: &Key, conditions: &WriteConditions) -> Result<(), Fault> {
    if *conditions == WriteConditions::default() {
        return Ok(());
    }
    let (key, conditions) = (key.clone(), conditions.clone());
    let work = move |store: &crate::store::Store| {
        let object = store.index.read(|connection| find_object(connection, &key))?;
        conditions.check(object.as_ref().map(|object| object.etag.as_str()))
    };
    call.blocking(work).await
}

/// Copies an object; both share the bytes, so it costs the same whatever the size.
///
/// # Errors
/// There is no source, a condition does not hold, or the index failed.
pub(crate) async fn copy(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let source = copy_source::read(call)?;
    let conditions = WriteConditions::read(&call.head.headers)?;
    let source_conditions = ReadConditions::of_copy_source(&call.head.headers);
    let described = object_headers::read(&call.head.headers)?;
    let headers = match call.header("x-amz-metadata-directive").unwrap_or("COPY") {
        "COPY" if source == key => {
            let message = "an object is copied to itself only to replace its metadata";
            return Err(Fault::new(Code::InvalidRequest, message));
        }
        "COPY" => None,
        "REPLACE" => Some(described),
        other => {
            let message = format!("`{other}` is no metadata directive; there are COPY and REPLACE");
            return Err(Fault::new(Code::InvalidArgument, message));
        }
    };
    let now = Timestamp::now();
    let (etag, headers) = call
        .store
        .index
        .change(move |change| {
            let found = find_object(change.connection, &source)?.ok_or_else(no_such_key)?;
            check_source(&source_conditions, &found)?;
            let headers = headers_of_copy(headers, found.headers);
            let (size, etag) = (found.size, found.etag);
            let object = NewObject { key, size, etag, headers, now };
            share_object(change, &object, found.content, &conditions)?;
            Ok((object.etag, object.headers))
        })
        .await?;
    Ok(document(Xml::document("CopyObjectResult", |xml| {
        xml.text("LastModified", &now.iso());
        xml.text("ETag", &quoted(&etag));
        if let Some((algorithm, value)) = checksum_of(&headers) {
            xml.text(&algorithm.element(), value);
        }
    })))
}

/// Checks what a copy asks of its source.
///
/// # Errors
/// It is not so.
pub(crate) fn check_source(
    conditions: &ReadConditions,
    source: &crate::index::Object,
) -> Result<(), Fault> {
    match conditions.check(source.present())? {
        Reading::Object => Ok(()),
        Reading::NotModified => {
            let message = "a condition about the source of the copy does not hold";
            Err(Fault::new(Code::PreconditionFailed, message))
        }
    }
}

/// Takes new headers, or those of the source; the checksum is that of the bytes, which are the same.
fn headers_of_copy(replaced: Option<Headers>, of_source: Headers) -> Headers {
    let Some(mut headers) = replaced else { return of_source };
    let checksum = checksum_of(&of_source).map(|(one, value)| (one, value.to_owned()));
    keep_checksum(&mut headers, checksum.as_ref());
    headers
}

/// Deletes an object; that there is none is no fault.
///
/// # Errors
/// A condition does not hold, or the index failed.
pub(crate) async fn delete(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let conditions = WriteConditions::read(&call.head.headers)?;
    let index = &call.store.index;
    index.change(move |change| delete_object(change, &key, &conditions)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// An object to be deleted, as a document names it.
struct Deletion {
    key: String,
    etag: Option<String>,
}

/// Deletes many objects; what happened to each is in the answer.
///
/// # Errors
/// The document is broken, or the index failed.
pub(crate) async fn delete_many(call: &mut Call) -> Result<Answer, Fault> {
    let text = call.receive_document().await?;
    let (deletions, is_quiet) = read_deletions(&text)?;
    let deletions = Arc::new(deletions);
    let wanted = Arc::clone(&deletions);
    let outcomes = call
        .store
        .index
        .change(move |change| {
            let mut outcomes = Vec::with_capacity(wanted.len());
            for deletion in wanted.iter() {
                let conditions = WriteConditions::of_etag(deletion.etag.as_deref());
                let outcome = Key::new(deletion.key.as_bytes())
                    .and_then(|key| delete_object(change, &key, &conditions));
                match outcome {
                    // Then nothing is deleted, and the client may try again.
                    Err(fault) if fault.code.status().is_server_error() => return Err(fault),
                    outcome => outcomes.push(outcome),
                }
            }
            Ok(outcomes)
        })
        .await?;
    Ok(document(Xml::document("DeleteResult", |xml| {
        for (deletion, outcome) in deletions.iter().zip(outcomes) {
            match outcome {
                Ok(()) if is_quiet => {}
                Ok(()) => xml.element("Deleted", |xml| xml.text("Key", &deletion.key)),
                Err(fault) => xml.element("Error", |xml| {
                    xml.text("Key", &deletion.key);
                    xml.text("Code", fault.code.name());
                    xml.text("Message", &fault.message);
                }),
            }
        }
    })))
}

fn read_deletions(text: &[u8]) -> Result<(Vec<Deletion>, bool), Fault> {
    read_document(text, "Delete", |root| {
        let is_quiet = child_text(root, "Quiet").is_some_and(|text| text.trim() == "true");
        let mut deletions = Vec::new();
        for node in root.children().filter(|node| node.has_local_name("Object")) {
            if child_text(node, "VersionId").is_some() {
                return Err(Fault::left_out("versioning"));
            }
            let key = child_text(node, "Key").unwrap_or_default().to_owned();
            let etag = child_text(node, "ETag").map(str::to_owned);
            deletions.push(Deletion { key, etag });
        }
        if deletions.is_empty() || deletions.len() > DELETED_MAX {
            let message = format!("a request deletes from 1 to {DELETED_MAX} objects");
            return Err(Fault::new(Code::MalformedXml, message));
        }
        Ok((deletions, is_quiet))
    })
}
