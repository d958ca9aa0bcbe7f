//! A request from its head to the head of its response.

use std::convert::Infallible;
use std::rc::Rc;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Request, Response, request};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::connection::Visitor;
use crate::forward::{Answer, forward};
use crate::headers::{Origin, X_REQUEST_ID, prepare_request};
use crate::lane::Lane;
use crate::page::Page;
use crate::record::Record;
use crate::request_body::{BodyFailure, RequestBody};
use crate::request_head::{examine, wants_upgrade};
use crate::response_body::ResponseBody;

/// Answers a request; every failure becomes a page.
pub(crate) async fn answer(
    lane: Rc<Lane>,
    visitor: Rc<Visitor>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    visitor.begin_service();
    let (head, body) = request.into_parts();
    visitor.has_body.set(!body.is_end_stream());
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let mut record = Record::begin(Rc::clone(&lane), Rc::clone(&visitor), method, uri);
    let outcome = pass_on(&lane, &visitor, head, body, &mut record).await;
    let request_id = record.request_id.clone();
    let mut response = match outcome {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            record.status = Some(head.status);
            Response::from_parts(
                head,
                match body {
                    Some(body) => ResponseBody::upstream(body, record),
                    None => ResponseBody::whole(bytes::Bytes::new(), record),
                },
            )
        }
        Err(page) => {
            let (mut head, bytes) = page.response(&request_id).into_parts();
            if visitor.has_body.get() {
                // What is left of the body cannot be told from a next request.
                head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            record.status = Some(head.status);
            Response::from_parts(head, ResponseBody::whole(bytes, record))
        }
    };
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    visitor.begin_response(Instant::now(), lane.shared.options.timeouts.response_body_idle);
    Ok(response)
}

async fn pass_on(
    lane: &Rc<Lane>,
    visitor: &Rc<Visitor>,
    mut head: request::Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Answer, Page> {
    let examined = examine(&mut head);
    let upgrade = upgrade_protocol(&head.headers);
    let options = &lane.shared.options;
    let origin = Origin {
        peer: visitor.peer,
        peer_text: &visitor.peer_text,
        is_trusted: visitor.is_trusted,
        trusted: &options.trusted_proxies,
    };
    let prepared = prepare_request(&mut head.headers, origin, &mut lane.random.borrow_mut());
    record.request_id = prepared.request_id;
    record.client = prepared.client;
    examined?;
    let body = RequestBody::read(body, visitor, &options.limits, &options.timeouts)
        .await
        .map_err(page_of)?;
    frame(&mut head.headers, &body);
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.headers_mut() = head.headers;
    forward(lane, visitor, request, upgrade, record).await
}

/// Returns what to answer when a request body cannot be had.
pub(crate) const fn page_of(failure: BodyFailure) -> Page {
    match failure {
        BodyFailure::TooLarge => Page::BodyTooLarge,
        BodyFailure::TimedOut => Page::RequestTimeout,
        BodyFailure::Broken => Page::BadRequest,
    }
}

/// Only WebSocket is let through; HTTP/2 without TLS would go round every check that is made here.
fn upgrade_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    if !wants_upgrade(headers) {
        return None;
    }
    headers
        .get(UPGRADE)
        .filter(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        .cloned()
}

/// Says in the head how the body is framed, as it is now.
fn frame(headers: &mut HeaderMap, body: &RequestBody) {
    match body {
        RequestBody::Whole(None) => {}
        RequestBody::Whole(Some(_)) | RequestBody::Streaming(_) => match body.length() {
            Some(length) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            None => {
                headers.remove(CONTENT_LENGTH);
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        },
    }
}
