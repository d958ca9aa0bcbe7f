//! GET and HEAD of an object.

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::answer::{Answer, empty, set, set_etag, set_length};
use crate::call::Call;
use crate::condition::{ReadConditions, Reading, permits_range};
use crate::fault::{Code, Fault};
use crate::index::{Object, find_object, pieces};
use crate::key::Key;
use crate::object_headers;
use crate::outlet::{ObjectReader, Outlet};
use crate::range::{ByteRange, Wanted, read as read_range};
use crate::store::Store;

/// What was found for a reader.
enum Found {
    /// The object, or a part of it.
    Object { object: Object, part: Option<ByteRange>, body: Option<(ObjectReader, Bytes)> },
    /// It is what the reader has already.
    NotModified(Object),
    /// It has no such part.
    NoSuchPart(Object),
}

/// Answers with an object, or a part of it.
///
/// # Errors
/// There is none, or a condition does not hold.
pub(crate) async fn get(call: &Call, key: Key) -> Result<Answer, Fault> {
    answer(call, key, true).await
}

/// Answers with what is known of an object.
///
/// # Errors
/// There is none, or a condition does not hold.
pub(crate) async fn head(call: &Call, key: Key) -> Result<Answer, Fault> {
    answer(call, key, false).await
}

/// Answers who may do what with an object.
///
/// # Errors
/// There is none.
pub(crate) async fn acl(call: &Call, key: Key) -> Result<Answer, Fault> {
    let find = move |store: &Store| store.index.read(|connection| find_object(connection, &key));
    call.blocking(find).await?.ok_or_else(no_such_key)?;
    Ok(crate::bucket::acl())
}

async fn answer(call: &Call, key: Key, has_body: bool) -> Result<Answer, Fault> {
    let asked = call.head.headers.clone();
    match call.blocking(move |store| find(store, &key, &asked, has_body)).await? {
        Found::NotModified(object) => {
            let mut answer = empty(StatusCode::NOT_MODIFIED);
            describe(&object, answer.headers_mut());
            if let Some(value) = object.headers.0.get("cache-control") {
                set(answer.headers_mut(), &http::header::CACHE_CONTROL, value);
            }
            Ok(answer)
        }
        Found::NoSuchPart(object) => {
            let fault = Fault::new(Code::InvalidRange, "the object has no such range");
            let mut answer = crate::answer::fault(&fault, call.head.uri.path(), "");
            let range = format!("bytes */{}", object.size);
            set(answer.headers_mut(), &CONTENT_RANGE, &range);
            Ok(answer)
        }
        Found::Object { object, part, body } => Ok(whole_or_part(call, &object, part, body)),
    }
}

fn whole_or_part(
    call: &Call,
    object: &Object,
    part: Option<ByteRange>,
    body: Option<(ObjectReader, Bytes)>,
) -> Answer {
    let length = part.map_or(object.size, |part| part.length);
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    object_headers::send(&object.headers, &call.head.headers, &call.target.query, headers);
    describe(object, headers);
    set_length(headers, length);
    if let Some(part) = part {
        // The checksum is that of the whole.
        for algorithm in crate::checksum::Algorithm::ALL {
            headers.remove(algorithm.header());
        }
        let last = part.start + part.length - 1;
        set(headers, &CONTENT_RANGE, &format!("bytes {}-{last}/{}", part.start, object.size));
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if let Some((reader, first)) = body {
        *answer.body_mut() = Outlet::object(reader, first, length);
    }
    answer
}

fn describe(object: &Object, headers: &mut HeaderMap) {
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set(headers, &LAST_MODIFIED, &object.modified.http());
    set_etag(headers, &object.etag);
}

fn find(store: &Store, key: &Key, asked: &HeaderMap, has_body: bool) -> Result<Found, Fault> {
    // Before the index is asked, so that the files stay until they are read.
    let reading = store.index.epochs().enter();
    let found = store.index.read(|connection| {
        let Some(object) = find_object(connection, key)? else { return Ok(None) };
        let pieces = if has_body { pieces(connection, object.content)? } else { Vec::new() };
        Ok(Some((object, pieces)))
    })?;
    let (object, pieces) = found.ok_or_else(no_such_key)?;
    if ReadConditions::of_reader(asked).check(object.present())? == Reading::NotModified {
        return Ok(Found::NotModified(object));
    }
    let range = asked.get(RANGE).and_then(|range| range.to_str().ok());
    let range = range.filter(|_| permits_range(asked, object.present()));
    let part = match read_range(range, object.size) {
        Wanted::Whole => None,
        Wanted::Part(part) => Some(part),
        Wanted::Nothing => return Ok(Found::NoSuchPart(object)),
    };
    if !has_body || object.size == 0 {
        return Ok(Found::Object { object, part, body: None });
    }
    let range = part.unwrap_or(ByteRange { start: 0, length: object.size });
    let mut reader = ObjectReader::new(store.blobs.clone(), reading, &pieces, range);
    let first = reader.read().map_err(|error| Fault::of_disk("read", &error))?;
    Ok(Found::Object { object, part, body: Some((reader, first)) })
}

/// Says that there is no such object.
pub(crate) fn no_such_key() -> Fault {
    Fault::new(Code::NoSuchKey, "there is no object with this key")
}
