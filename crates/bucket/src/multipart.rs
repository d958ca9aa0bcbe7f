//! Uploads in parts.

use std::io::{self, Write};
use std::sync::Arc;

use http::StatusCode;
use md5::{Digest, Md5};

use crate::answer::{Answer, document, empty, quoted, set_etag};
use crate::blobs::NewBlob;
use crate::call::Call;
use crate::checksum::{Algorithm, Hasher, hex};
use crate::condition::{ReadConditions, WriteConditions};
use crate::copy_source;
use crate::fault::{Code, Fault};
use crate::index::{
    CHECKSUM_ALGORITHM, Part, PartChoice, Upload, UploadId, abort_upload, begin_upload,
    complete_upload, find_object, find_upload, list_parts, pieces, put_part,
};
use crate::key::Key;
use crate::listings::{read_count, write_owner};
use crate::object_headers::{self, checksum_of};
use crate::outlet::ObjectReader;
use crate::payload::Received;
use crate::range::{ByteRange, Wanted, read as read_range};
use crate::reading::no_such_key;
use crate::store::Store;
use crate::target::Query;
use crate::timestamp::Timestamp;
use crate::writing::{check_source, send_checksum};
use crate::xml::{LocalName, Xml, child_text, read_document};

/// Parts of an upload at most, as with S3.
const PARTS_MAX: u16 = 10_000;

/// Begins an upload.
///
/// # Errors
/// A header asks for something that this store does not do, or the index failed.
pub(crate) async fn begin(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let mut headers = object_headers::read(&call.head.headers)?;
    if let Some(name) = call.header(CHECKSUM_ALGORITHM) {
        let algorithm = Algorithm::named(name).ok_or_else(|| {
            Fault::new(Code::InvalidRequest, format!("`{name}` is no checksum of S3"))
        })?;
        let kind = call.header("x-amz-checksum-type");
        let is_whole = kind.map_or(algorithm == Algorithm::Crc64Nvme, |kind| kind == "FULL_OBJECT");
        if is_whole {
            return Err(Fault::left_out("the checksum of a whole object that comes in parts"));
        }
        headers.0.insert(CHECKSUM_ALGORITHM.to_owned(), algorithm.name().to_owned());
    }
    let id = UploadId::draw()?;
    let (name, wanted, now) = (id.clone(), key.clone(), Timestamp::now());
    let begin = move |change: &mut crate::index::Change<'_>| {
        begin_upload(change, &name, &wanted, &headers, now)
    };
    call.store.index.change(begin).await?;
    Ok(document(Xml::document("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", &call.store.bucket);
        xml.text("Key", key.as_str());
        xml.text("UploadId", &id.0);
    })))
}

/// Takes a part.
///
/// # Errors
/// There is no such upload, the body is not what was said of it, or the disk failed.
pub(crate) async fn put(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let (id, number) = (upload_id(&call.target.query), part_number(&call.target.query)?);
    find(call, &id, &key).await?;
    let (received, blob) = call.receive().await?;
    let checksum = received.checksum.clone();
    let part = keep(call, id, key, number, received, blob).await?;
    let mut answer = empty(StatusCode::OK);
    set_etag(answer.headers_mut(), &part.etag);
    send_checksum(&mut answer, checksum.as_ref());
    Ok(answer)
}

/// Takes a part from an object that is there.
///
/// # Errors
/// There is no such upload or source, a condition does not hold, or the disk failed.
pub(crate) async fn copy(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let (id, number) = (upload_id(&call.target.query), part_number(&call.target.query)?);
    let source = copy_source::read(call)?;
    let conditions = ReadConditions::of_copy_source(&call.head.headers);
    let range = call.header("x-amz-copy-source-range").map(str::to_owned);
    let upload = find(call, &id, &key).await?;
    let algorithm = upload.algorithm();
    let (received, blob) = call
        .blocking(move |store| copy_bytes(store, &source, &conditions, range.as_deref(), algorithm))
        .await?;
    let part = keep(call, id, key, number, received, blob).await?;
    Ok(document(Xml::document("CopyPartResult", |xml| {
        xml.text("LastModified", &part.modified.iso());
        xml.text("ETag", &quoted(&part.etag));
        if let Some((algorithm, value)) = algorithm.zip(part.checksum.as_deref()) {
            xml.text(&algorithm.element(), value);
        }
    })))
}

fn copy_bytes(
    store: &Store,
    source: &Key,
    conditions: &ReadConditions,
    range: Option<&str>,
    algorithm: Option<Algorithm>,
) -> Result<(Received, Option<NewBlob>), Fault> {
    let reading = store.index.epochs().enter();
    let (object, pieces) = store.index.read(|connection| {
        let object = find_object(connection, source)?.ok_or_else(no_such_key)?;
        let pieces = pieces(connection, object.content)?;
        Ok((object, pieces))
    })?;
    check_source(conditions, &object)?;
    let part = match read_range(range, object.size) {
        Wanted::Part(part) => part,
        Wanted::Whole if range.is_none() => ByteRange { start: 0, length: object.size },
        Wanted::Whole | Wanted::Nothing => {
            let message = "the source of the copy has no such range";
            return Err(Fault::new(Code::InvalidArgument, message));
        }
    };
    store.check_room(part.length)?;
    let mut reader = ObjectReader::new(Arc::clone(&store.blobs), reading, &pieces, part);
    let mut copy = || -> io::Result<(Received, Option<NewBlob>)> {
        let (mut md5, mut hasher) = (Md5::new(), algorithm.map(Hasher::new));
        let mut file = None;
        loop {
            let piece = reader.read()?;
            if piece.is_empty() {
                break;
            }
            md5.update(&piece);
            hasher.iter_mut().for_each(|hasher| hasher.update(&piece));
            let (_, open) = match &mut file {
                Some(open) => open,
                None => file.insert(store.blobs.begin()?),
            };
            open.write_all(&piece)?;
        }
        let checksum = algorithm.zip(hasher.map(Hasher::finish));
        let received = Received { size: part.length, md5: md5.finalize().into(), checksum };
        let Some((blob, file)) = file else { return Ok((received, None)) };
        file.sync_data()?;
        Ok((received, Some(blob)))
    };
    copy().map_err(|error| Fault::of_disk("copy", &error))
}

async fn keep(
    call: &Call,
    id: UploadId,
    key: Key,
    number: u16,
    received: Received,
    blob: Option<NewBlob>,
) -> Result<Part, Fault> {
    let part = Part {
        number,
        size: received.size,
        etag: hex(&received.md5),
        checksum: received.checksum.map(|(_, value)| value),
        modified: Timestamp::now(),
    };
    let kept = part.clone();
    let index = &call.store.index;
    index.change(move |change| put_part(change, &id, &key, &kept, blob)).await?;
    Ok(part)
}

/// Makes an object of the parts.
///
/// # Errors
/// A part is missing or too small, a condition does not hold, or the index failed.
pub(crate) async fn complete(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let id = upload_id(&call.target.query);
    let conditions = WriteConditions::read(&call.head.headers)?;
    let text = call.receive_document().await?;
    let choices = read_choices(&text)?;
    let (now, wanted) = (Timestamp::now(), key.clone());
    let complete = move |change: &mut crate::index::Change<'_>| {
        complete_upload(change, &id, &wanted, &choices, &conditions, now)
    };
    let (etag, headers) = call.store.index.change(complete).await?;
    Ok(document(Xml::document("CompleteMultipartUploadResult", |xml| {
        xml.text("Location", call.head.uri.path());
        xml.text("Bucket", &call.store.bucket);
        xml.text("Key", key.as_str());
        xml.text("ETag", &quoted(&etag));
        if let Some((algorithm, value)) = checksum_of(&headers) {
            xml.text(&algorithm.element(), value);
            xml.text("ChecksumType", "COMPOSITE");
        }
    })))
}

/// Gives an upload up.
///
/// # Errors
/// There is no such upload, or the index failed.
pub(crate) async fn abort(call: &mut Call, key: Key) -> Result<Answer, Fault> {
    let id = upload_id(&call.target.query);
    call.store.index.change(move |change| abort_upload(change, &id, &key)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Lists the parts that have come.
///
/// # Errors
/// There is no such upload, a parameter is wrong, or the index failed.
pub(crate) async fn list(call: &Call, key: Key) -> Result<Answer, Fault> {
    let query = &call.target.query;
    let id = upload_id(query);
    let after = query.number::<u16>("part-number-marker")?.unwrap_or_default();
    let count_max = read_count(query, "max-parts")?;
    let (name, wanted) = (id.clone(), key.clone());
    let (upload, mut parts) = call
        .blocking(move |store| {
            store.index.read(|connection| {
                let upload = find_upload(connection, &name, &wanted)?;
                Ok((upload, list_parts(connection, &name, after, count_max + 1)?))
            })
        })
        .await?;
    let is_truncated = parts.len() > count_max;
    parts.truncate(count_max);
    Ok(document(Xml::document("ListPartsResult", |xml| {
        xml.text("Bucket", &call.store.bucket);
        xml.text("Key", key.as_str());
        xml.text("UploadId", &id.0);
        write_owner(xml, "Initiator");
        write_owner(xml, "Owner");
        xml.text("StorageClass", "STANDARD");
        xml.text("PartNumberMarker", &after.to_string());
        if let Some(last) = parts.last().filter(|_| is_truncated) {
            xml.text("NextPartNumberMarker", &last.number.to_string());
        }
        xml.text("MaxParts", &count_max.to_string());
        xml.text("IsTruncated", if is_truncated { "true" } else { "false" });
        parts.iter().for_each(|part| write_part(xml, part, upload.algorithm()));
    })))
}

fn write_part(xml: &mut Xml, part: &Part, algorithm: Option<Algorithm>) {
    xml.element("Part", |xml| {
        xml.text("PartNumber", &part.number.to_string());
        xml.text("LastModified", &part.modified.iso());
        xml.text("ETag", &quoted(&part.etag));
        xml.text("Size", &part.size.to_string());
        if let Some((algorithm, value)) = algorithm.zip(part.checksum.as_deref()) {
            xml.text(&algorithm.element(), value);
        }
    });
}

async fn find(call: &Call, id: &UploadId, key: &Key) -> Result<Upload, Fault> {
    let (id, key) = (id.clone(), key.clone());
    call.blocking(move |store| store.index.read(|connection| find_upload(connection, &id, &key)))
        .await
}

fn upload_id(query: &Query) -> UploadId {
    UploadId(query.get("uploadId").unwrap_or_default().to_owned())
}

fn part_number(query: &Query) -> Result<u16, Fault> {
    let number = query.number::<u16>("partNumber")?.unwrap_or_default();
    if (1..=PARTS_MAX).contains(&number) {
        return Ok(number);
    }
    let message = format!("the number of a part must be from 1 to {PARTS_MAX}");
    Err(Fault::new(Code::InvalidArgument, message))
}

fn read_choices(text: &[u8]) -> Result<Vec<PartChoice>, Fault> {
    let malformed = |why: &'static str| Fault::new(Code::MalformedXml, why);
    read_document(text, "CompleteMultipartUpload", |root| {
        let mut choices: Vec<PartChoice> = Vec::new();
        for node in root.children().filter(|node| node.has_local_name("Part")) {
            let number = child_text(node, "PartNumber").and_then(|text| text.trim().parse().ok());
            let number = number.ok_or_else(|| malformed("a part has no number"))?;
            let etag = child_text(node, "ETag").ok_or_else(|| malformed("a part has no `ETag`"))?;
            let etag = etag.trim().trim_matches('"').to_owned();
            let checksum =
                Algorithm::ALL.into_iter().find_map(|one| child_text(node, &one.element()));
            if choices.last().is_some_and(|last| last.number >= number) {
                let message = "the parts are not in the order of their numbers";
                return Err(Fault::new(Code::InvalidPartOrder, message));
            }
            choices.push(PartChoice { number, etag, checksum: checksum.map(str::to_owned) });
        }
        if choices.is_empty() || choices.len() > usize::from(PARTS_MAX) {
            return Err(malformed("an upload has from 1 to 10,000 parts"));
        }
        Ok(choices)
    })
}
