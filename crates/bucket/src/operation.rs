//! Which operation of the S3 interface a request is.

use http::{HeaderMap, Method};

use crate::fault::{Code, Fault};
use crate::key::Key;
use crate::target::{Query, Target};

/// An operation on the store, its bucket, or one of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    ListBuckets,
    Bucket(BucketOperation),
    Object(ObjectOperation, Key),
}

/// An operation on a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketOperation {
    Head,
    Create,
    Location,
    Versioning,
    ReadAcl,
    ListObjects,
    ListObjectsV2,
    ListUploads,
    DeleteObjects,
}

/// An operation on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectOperation {
    Get,
    Head,
    Put,
    Copy,
    Delete,
    ReadAcl,
    BeginUpload,
    PutPart,
    CopyPart,
    CompleteUpload,
    AbortUpload,
    ListParts,
}

/// Parameters that ask for a part of S3 which this store leaves out, and what that part is.
const LEFT_OUT: [(&str, &str); 26] = [
    ("accelerate", "acceleration"),
    ("analytics", "analytics"),
    ("attributes", "GetObjectAttributes"),
    ("cors", "CORS"),
    ("encryption", "encryption"),
    ("intelligent-tiering", "tiering"),
    ("inventory", "inventory"),
    ("legal-hold", "legal hold"),
    ("lifecycle", "a lifecycle"),
    ("logging", "access logging"),
    ("metrics", "metrics"),
    ("notification", "notification"),
    ("object-lock", "object lock"),
    ("ownershipControls", "ownership controls"),
    ("partNumber", "reading one part of an object"),
    ("policy", "a bucket policy"),
    ("policyStatus", "a bucket policy"),
    ("publicAccessBlock", "a public access block"),
    ("replication", "replication"),
    ("requestPayment", "request payment"),
    ("restore", "restoring"),
    ("retention", "retention"),
    ("select", "SelectObjectContent"),
    ("tagging", "tagging"),
    ("torrent", "BitTorrent"),
    ("website", "a website"),
];

/// Finds out which operation a request is.
///
/// # Errors
/// It is none, or one that this store leaves out.
pub(crate) fn of(
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
) -> Result<Operation, Fault> {
    let query = &target.query;
    if target.bucket().is_none() {
        return match *method {
            Method::GET => Ok(Operation::ListBuckets),
            _ => Err(not_allowed(method)),
        };
    }
    if query.has("versionId") || query.has("versions") {
        return Err(Fault::left_out("versioning"));
    }
    if let Some(key) = target.key()? {
        return Ok(Operation::Object(of_object(method, query, headers)?, key));
    }
    Ok(Operation::Bucket(of_bucket(method, query)?))
}

fn of_bucket(method: &Method, query: &Query) -> Result<BucketOperation, Fault> {
    check_left_out(query, &[])?;
    match *method {
        Method::HEAD => Ok(BucketOperation::Head),
        Method::GET if query.has("location") => Ok(BucketOperation::Location),
        Method::GET if query.has("versioning") => Ok(BucketOperation::Versioning),
        Method::GET if query.has("acl") => Ok(BucketOperation::ReadAcl),
        Method::GET if query.has("uploads") => Ok(BucketOperation::ListUploads),
        Method::GET if query.get("list-type") == Some("2") => Ok(BucketOperation::ListObjectsV2),
        Method::GET => Ok(BucketOperation::ListObjects),
        Method::PUT if query.has("acl") => Err(no_acl()),
        Method::PUT if query.has("versioning") => Err(Fault::left_out("versioning")),
        Method::PUT => Ok(BucketOperation::Create),
        Method::POST if query.has("delete") => Ok(BucketOperation::DeleteObjects),
        Method::POST => Err(Fault::left_out("uploading by a form")),
        Method::DELETE => Err(Fault::left_out("deleting the bucket")),
        _ => Err(not_allowed(method)),
    }
}

fn of_object(
    method: &Method,
    query: &Query,
    headers: &HeaderMap,
) -> Result<ObjectOperation, Fault> {
    let is_part = query.has("uploadId");
    check_left_out(query, if is_part { &["partNumber"] } else { &[] })?;
    let is_copy = headers.contains_key("x-amz-copy-source");
    match *method {
        Method::HEAD => Ok(ObjectOperation::Head),
        Method::GET if is_part => Ok(ObjectOperation::ListParts),
        Method::GET if query.has("acl") => Ok(ObjectOperation::ReadAcl),
        Method::GET => Ok(ObjectOperation::Get),
        Method::PUT if query.has("acl") => Err(no_acl()),
        Method::PUT if is_part && is_copy => Ok(ObjectOperation::CopyPart),
        Method::PUT if is_part => Ok(ObjectOperation::PutPart),
        Method::PUT if is_copy => Ok(ObjectOperation::Copy),
        Method::PUT => Ok(ObjectOperation::Put),
        Method::POST if query.has("uploads") => Ok(ObjectOperation::BeginUpload),
        Method::POST if is_part => Ok(ObjectOperation::CompleteUpload),
        Method::DELETE if is_part => Ok(ObjectOperation::AbortUpload),
        Method::DELETE => Ok(ObjectOperation::Delete),
        _ => Err(not_allowed(method)),
    }
}

fn check_left_out(query: &Query, but: &[&str]) -> Result<(), Fault> {
    let mut asked = LEFT_OUT.iter().filter(|(name, _)| !but.contains(name) && query.has(name));
    asked.next().map_or(Ok(()), |(_, what)| Err(Fault::left_out(what)))
}

fn no_acl() -> Fault {
    let message = "everything is private here; access control lists cannot be changed";
    Fault::new(Code::AccessControlListNotSupported, message)
}

fn not_allowed(method: &Method) -> Fault {
    Fault::new(Code::MethodNotAllowed, format!("{method} is not allowed here"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::{BucketOperation, ObjectOperation, Operation, of};
    use crate::fault::{Code, Fault};
    use crate::target::Target;

    fn operation(method: &Method, uri: &str, is_copy: bool) -> Result<Operation, Fault> {
        let mut headers = HeaderMap::new();
        if is_copy {
            headers.insert("x-amz-copy-source", HeaderValue::from_static("/b/k"));
        }
        of(method, &Target::read(&uri.parse().unwrap()).unwrap(), &headers)
    }

    #[test]
    fn parameters_tell_operations_on_objects_apart() {
        use ObjectOperation as Object;
        for (method, uri, is_copy, expected) in [
            (Method::GET, "/b/k", false, Object::Get),
            (Method::GET, "/b/k?uploadId=x", false, Object::ListParts),
            (Method::HEAD, "/b/k", false, Object::Head),
            (Method::PUT, "/b/k", false, Object::Put),
            (Method::PUT, "/b/k", true, Object::Copy),
            (Method::PUT, "/b/k?partNumber=1&uploadId=x", false, Object::PutPart),
            (Method::PUT, "/b/k?partNumber=1&uploadId=x", true, Object::CopyPart),
            (Method::POST, "/b/k?uploads", false, Object::BeginUpload),
            (Method::POST, "/b/k?uploadId=x", false, Object::CompleteUpload),
            (Method::DELETE, "/b/k?uploadId=x", false, Object::AbortUpload),
            (Method::DELETE, "/b/k", false, Object::Delete),
        ] {
            match operation(&method, uri, is_copy).unwrap() {
                Operation::Object(found, key) => {
                    assert_eq!(found, expected, "{method} {uri}");
                    assert_eq!(key.as_str(), "k");
                }
                other => panic!("{method} {uri} is {other:?}"),
            }
        }
    }

    #[test]
    fn parameters_tell_operations_on_buckets_apart() {
        use BucketOperation as Bucket;
        for (method, uri, expected) in [
            (Method::GET, "/b", Bucket::ListObjects),
            (Method::GET, "/b/", Bucket::ListObjects),
            (Method::GET, "/b?list-type=2", Bucket::ListObjectsV2),
            (Method::GET, "/b?uploads", Bucket::ListUploads),
            (Method::GET, "/b?location", Bucket::Location),
            (Method::HEAD, "/b", Bucket::Head),
            (Method::PUT, "/b", Bucket::Create),
            (Method::POST, "/b?delete", Bucket::DeleteObjects),
        ] {
            let found = operation(&method, uri, false).unwrap();
            assert_eq!(found, Operation::Bucket(expected), "{method} {uri}");
        }
        assert_eq!(operation(&Method::GET, "/", false), Ok(Operation::ListBuckets));
    }

    #[test]
    fn what_is_left_out_is_said_and_never_mistaken_for_something_else() {
        for (method, uri, code) in [
            (Method::PUT, "/b/k?tagging", Code::NotImplemented),
            (Method::GET, "/b/k?versionId=1", Code::NotImplemented),
            (Method::GET, "/b/k?partNumber=1", Code::NotImplemented),
            (Method::PUT, "/b?policy", Code::NotImplemented),
            (Method::DELETE, "/b", Code::NotImplemented),
            (Method::PUT, "/b/k?acl", Code::AccessControlListNotSupported),
            (Method::PATCH, "/b/k", Code::MethodNotAllowed),
        ] {
            let fault = operation(&method, uri, false).unwrap_err();
            assert_eq!(fault.code, code, "{method} {uri}");
        }
    }
}
