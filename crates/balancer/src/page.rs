//! The short pages that the balancer answers when there is nothing better to show.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

/// Why the balancer answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// The request is malformed.
    BadRequest,
    /// There is nothing for visitors.
    NotFound,
    /// The method is not passed on.
    MethodNotAllowed,
    /// The body stopped coming.
    RequestTimeout,
    /// The body is too large.
    BodyTooLarge,
    /// An upstream failed without an answer.
    BadGateway,
    /// No upstream, or no room on any.
    Unavailable,
    /// The site is being changed.
    Held,
    /// An upstream took too long.
    GatewayTimeout,
}

impl Page {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable | Self::Held => StatusCode::SERVICE_UNAVAILABLE,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "The request could not be understood.",
            Self::NotFound => "There is nothing here.",
            Self::MethodNotAllowed => "This method is not allowed.",
            Self::RequestTimeout => "The request took too long to arrive.",
            Self::BodyTooLarge => "What was sent is too large.",
            Self::BadGateway => "The server did not answer. Whether it did what was asked is open.",
            Self::Unavailable => "The site is busy. Try again in a moment.",
            Self::Held => "The site is being updated. Try again in a moment.",
            Self::GatewayTimeout => "The server took too long to answer.",
        }
    }

    /// Makes the answer.
    pub(crate) fn response(self, request_id: &HeaderValue) -> Response<Bytes> {
        let status = self.status();
        let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Error"));
        let text = self.text();
        // An id from a trusted proxy was checked to be plain when it was taken over.
        let id = request_id.to_str().unwrap_or_default();
        let html = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <h1>{title}</h1><p>{text}</p><p><small>Request {id}</small></p></html>\n"
        );
        let mut response = Response::new(Bytes::from(html));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Unavailable | Self::Held => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
            }
            _ => {}
        }
        response
    }
}
