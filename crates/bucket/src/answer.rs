//! Answers: their statuses, headers and bodies.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::fault::Fault;
use crate::outlet::Outlet;
use crate::xml::Xml;

/// An answer.
pub(crate) type Answer = Response<Outlet>;

/// Makes an answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Outlet::Text(None));
    *answer.status_mut() = status;
    answer
}

/// Makes an answer that is an XML document.
pub(crate) fn document(text: String) -> Answer {
    let mut answer = Response::new(Outlet::text(text));
    let xml = HeaderValue::from_static("application/xml");
    answer.headers_mut().insert(CONTENT_TYPE, xml);
    answer
}

/// Makes the answer that a request was refused or failed.
pub(crate) fn fault(fault: &Fault, resource: &str, request_id: &str) -> Answer {
    let text = Xml::plain_document("Error", |xml| {
        xml.text("Code", fault.code.name());
        xml.text("Message", &fault.message);
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
    });
    let mut answer = document(text);
    *answer.status_mut() = fault.code.status();
    answer
}

/// Writes an `ETag` as headers and documents have it.
pub(crate) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Sets the `ETag`.
pub(crate) fn set_etag(headers: &mut HeaderMap, etag: &str) {
    set(headers, &ETAG, &quoted(etag));
}

/// Sets the length of a body that is not sent.
pub(crate) fn set_length(headers: &mut HeaderMap, length: u64) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// Sets a header; a value that HTTP does not allow is left out, and the log says so.
pub(crate) fn set(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    match HeaderValue::from_bytes(value.as_bytes()) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(error) => tracing::warn!(%name, %error, "A header of an object cannot be sent"),
    }
}
