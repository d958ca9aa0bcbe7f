//! What happens to a request: who asks, what for, and the answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{CONNECTION, EXPECT, HeaderName, SERVER};
use http::{HeaderValue, Request};
use hyper::body::{Body, Incoming};

use crate::answer::{self, Answer, set};
use crate::auth;
use crate::call::Call;
use crate::fault::{Code, Fault};
use crate::intake::drain;
use crate::key::Key;
use crate::operation::{self, BucketOperation, ObjectOperation, Operation};
use crate::store::Store;
use crate::target::Target;
use crate::timestamp::Timestamp;
use crate::{bucket, listings, multipart, reading, writing};

static REQUESTS: AtomicU64 = AtomicU64::new(1);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// Answers a request.
pub(crate) async fn serve(
    store: Arc<Store>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let request_id = format!("{:016X}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut answer = match attempt(store, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let Refusal { fault, is_body_left } = refusal;
            tracing::debug!(%method, path = uri.path(), %fault, request_id, "A request was refused");
            let mut answer = answer::fault(&fault, uri.path(), &request_id);
            if is_body_left {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    };
    set(answer.headers_mut(), &REQUEST_ID, &request_id);
    answer.headers_mut().insert(SERVER, HeaderValue::from_static("flotilla-bucket"));
    Ok(answer)
}

/// A fault, and what is left of the request.
struct Refusal {
    fault: Fault,
    /// Some of the body was not read, so the connection cannot go on.
    is_body_left: bool,
}

async fn attempt(store: Arc<Store>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (head, mut body) = request.into_parts();
    let limit = store.limits.body_idle_timeout;
    // Who asks first whether to send a body does not send it when the answer is no.
    let is_body_coming = !head.headers.contains_key(EXPECT);
    let checked = Target::read(&head.uri).and_then(|target| {
        let protection = auth::check(&head, &target, &store.credentials, Timestamp::now())?;
        Ok((operation::of(&head.method, &target, &head.headers)?, target, protection))
    });
    let fault = match checked {
        Err(fault) => fault,
        Ok((operation, target, protection)) => {
            let mut call = Call { store, head, target, protection, body };
            match perform(&mut call, operation).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => {
                    body = call.body;
                    fault
                }
            }
        }
    };
    if is_body_coming && !body.is_end_stream() {
        drain(&mut body, limit).await;
    }
    Err(Refusal { fault, is_body_left: !body.is_end_stream() })
}

async fn perform(call: &mut Call, operation: Operation) -> Result<Answer, Fault> {
    if call.target.bucket().is_some_and(|bucket| bucket != call.store.bucket.as_bytes()) {
        let message = format!("there is no such bucket; the one here is `{}`", call.store.bucket);
        return Err(Fault::new(Code::NoSuchBucket, message));
    }
    match operation {
        Operation::ListBuckets => Ok(bucket::list_buckets(call)),
        Operation::Bucket(operation) => on_bucket(call, operation).await,
        Operation::Object(operation, key) => on_object(call, operation, key).await,
    }
}

async fn on_bucket(call: &mut Call, operation: BucketOperation) -> Result<Answer, Fault> {
    match operation {
        BucketOperation::Head => Ok(bucket::head()),
        BucketOperation::Create => bucket::create(),
        BucketOperation::Location => Ok(bucket::location()),
        BucketOperation::Versioning => Ok(bucket::versioning()),
        BucketOperation::ReadAcl => Ok(bucket::acl()),
        BucketOperation::ListObjects => listings::list_objects(call).await,
        BucketOperation::ListObjectsV2 => listings::list_objects_v2(call).await,
        BucketOperation::ListUploads => listings::list_unfinished(call).await,
        BucketOperation::DeleteObjects => writing::delete_many(call).await,
    }
}

async fn on_object(call: &mut Call, operation: ObjectOperation, key: Key) -> Result<Answer, Fault> {
    match operation {
        ObjectOperation::Get => reading::get(call, key).await,
        ObjectOperation::Head => reading::head(call, key).await,
        ObjectOperation::Put => writing::put(call, key).await,
        ObjectOperation::Copy => writing::copy(call, key).await,
        ObjectOperation::Delete => writing::delete(call, key).await,
        ObjectOperation::ReadAcl => reading::acl(call, key).await,
        ObjectOperation::BeginUpload => multipart::begin(call, key).await,
        ObjectOperation::PutPart => multipart::put(call, key).await,
        ObjectOperation::CopyPart => multipart::copy(call, key).await,
        ObjectOperation::CompleteUpload => multipart::complete(call, key).await,
        ObjectOperation::AbortUpload => multipart::abort(call, key).await,
        ObjectOperation::ListParts => multipart::list(call, key).await,
    }
}
