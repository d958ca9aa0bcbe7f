//! Sending a request to an upstream, and to another one when that is safe.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use flotilla_core::table::{HELD_HEADER, HOLD_HEADER};
use flotilla_host::open_files::is_local_shortage;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use crate::admission::{Applicant, InFlight, Need};
use crate::connection::Visitor;
use crate::exchange::{Exchange, SendError};
use crate::headers::strip_hop_by_hop;
use crate::lane::Lane;
use crate::metrics::count;
use crate::page::Page;
use crate::paths;
use crate::proxy::page_of;
use crate::record::Record;
use crate::request_body::RequestBody;
use crate::request_head::is_repeatable;
use crate::response_body::UpstreamBody;
use crate::upgrade::Tunnel;
use crate::workshop::{self, Standing};

/// What an upstream answered; without a body when the connection leaves HTTP.
pub(crate) type Answer = Response<Option<UpstreamBody>>;

/// An attempt without a response.
struct Failed {
    /// What to answer when nothing else is tried.
    page: Page,
    /// The request, when not one byte of it was sent.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether it is the upstream's fault, so that another one may do better.
    is_upstream_at_fault: bool,
    /// Whether a copy may be sent, should the method allow it.
    may_repeat: bool,
}

/// A connection that could not be made.
struct NotConnected {
    /// What to answer when nothing else is tried.
    page: Page,
    /// Whether it is the upstream's fault, and not this machine's.
    is_upstream_at_fault: bool,
}

/// Sends a request and returns the head of its response.
pub(crate) async fn forward(
    lane: &Rc<Lane>,
    visitor: &Visitor,
    mut request: Request<RequestBody>,
    upgrade: Option<HeaderValue>,
    record: &mut Record,
) -> Result<Answer, Page> {
    lane.budget.borrow_mut().note_request(record.began);
    let is_upgrade = upgrade.is_some();
    if let Some(protocol) = upgrade {
        ask_to_upgrade(&mut request, protocol);
    }
    let is_repeatable = is_repeatable(request.method()) && !is_upgrade;
    let standing = standing_of(lane, &request);
    let mut applicant = Applicant {
        lane,
        visitor,
        need: need_of(&request, is_repeatable),
        is_for_workshop: standing == Standing::Known,
        avoided: Vec::new(),
        held: Duration::ZERO,
        held_since: None,
    };
    loop {
        let admitted = applicant.admit().await;
        record.held = applicant.held;
        let in_flight = admitted.inspect_err(|page| count_refusal(lane, *page))?;
        visitor.take_place(&in_flight.place);
        record.upstream = Some(Arc::clone(&in_flight.upstream.state));
        record.release = in_flight.release().cloned();
        let is_under_hold = mark_hold(&mut request, &in_flight);
        let has_more = record.retries < lane.shared.options.retries.attempts_max;
        let is_offered = may_hand_back(lane, standing, &applicant, &request);
        workshop::offer(&mut request, is_offered);
        let is_copied = is_offered || (is_repeatable && (has_more || is_under_hold));
        let copy = if is_copied { copy(&request) } else { None };
        // The other kept connections may be as dead as the one that broke.
        let may_reuse = is_repeatable && record.retries == 0;
        let failed = match attempt(lane, visitor, &in_flight, request, may_reuse).await {
            Ok((response, _)) if is_under_hold && is_held(&response) => {
                // No file answers it, so it waits with the others.
                applicant.need = Need::Worker;
                request = copy.ok_or(Page::Held)?;
                continue;
            }
            Ok((response, _)) if is_offered && workshop::is_wanted(&response) => {
                applicant.is_for_workshop = true;
                request = copy.ok_or(Page::BadGateway)?;
                continue;
            }
            Ok((response, exchange)) => {
                if applicant.need == Need::File {
                    in_flight.place.give_back();
                }
                return finish(response, exchange, in_flight, visitor, is_upgrade).await;
            }
            Err(failed) => failed,
        };
        if failed.is_upstream_at_fault {
            in_flight.note_failure();
        }
        if failed.may_repeat {
            applicant.avoided.push(Rc::clone(&in_flight.upstream));
        }
        let next = match failed.unsent {
            Some(unsent) => Some(*unsent),
            None => copy.filter(|_| failed.may_repeat && is_repeatable),
        };
        match next {
            Some(next) if has_more && take_retry(lane) => request = next,
            _ => {
                count_none(&in_flight, failed.page);
                return Err(failed.page);
            }
        }
        record.retries += 1;
    }
}

fn ask_to_upgrade(request: &mut Request<RequestBody>, protocol: HeaderValue) {
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, protocol);
}

fn standing_of(lane: &Lane, request: &Request<RequestBody>) -> Standing {
    lane.shared.options.workshop.as_ref().map_or(Standing::Anybody, |options| {
        workshop::standing(options, request.headers(), request.uri().path())
    })
}

/// Whether a slot may hand a request back for the workshop: it is all here, and the workshop answers.
fn may_hand_back(
    lane: &Lane,
    standing: Standing,
    applicant: &Applicant<'_>,
    request: &Request<RequestBody>,
) -> bool {
    standing == Standing::Possible
        && !applicant.is_for_workshop
        && request.body().is_whole()
        && lane.workshop.as_ref().is_some_and(|workshop| workshop.state.is_usable())
}

fn need_of(request: &Request<RequestBody>, is_repeatable: bool) -> Need {
    if !request.body().is_whole() {
        Need::Upload
    } else if is_repeatable && paths::is_static(request.uri().path()) {
        Need::File
    } else {
        Need::Worker
    }
}

/// Tells the slot when there is a hold; returns whether there is.
fn mark_hold(request: &mut Request<RequestBody>, in_flight: &InFlight) -> bool {
    let is_under_hold = in_flight.routes.routes.hold().is_some();
    if is_under_hold {
        request.headers_mut().insert(HOLD_HEADER, HeaderValue::from_static("1"));
    } else {
        request.headers_mut().remove(HOLD_HEADER);
    }
    is_under_hold
}

/// Returns whether the slot did not run PHP because of the hold.
fn is_held(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::SERVICE_UNAVAILABLE
        && response.headers().contains_key(HELD_HEADER)
}

/// A request that a full fleet turned away is an error of the release that made it full.
fn count_refusal(lane: &Lane, page: Page) {
    if page == Page::Unavailable
        && let Some(release) = &lane.routes().routes.release
    {
        release.count_none();
    }
}

/// A request that failed for good is an error of the release; other pages are the visitor's fault or
/// this machine's.
fn count_none(in_flight: &InFlight, page: Page) {
    if matches!(page, Page::BadGateway | Page::GatewayTimeout)
        && let Some(release) = in_flight.release()
    {
        release.count_none();
    }
}

fn take_retry(lane: &Lane) -> bool {
    let is_allowed = lane.budget.borrow_mut().take();
    count(if is_allowed { &lane.metrics.retries } else { &lane.metrics.retries_refused });
    is_allowed
}

fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Sends the request to one upstream.
///
/// What must not be sent twice goes over a fresh connection: one that was idle may be closed by the
/// upstream in the instant in which the request is on its way, and nobody could tell what became
/// of it.
async fn attempt(
    lane: &Lane,
    visitor: &Visitor,
    in_flight: &InFlight,
    mut request: Request<RequestBody>,
    may_reuse: bool,
) -> Result<(Response<Incoming>, Box<Exchange>), Failed> {
    let upstream = &in_flight.upstream;
    upstream.state.requests_total.fetch_add(1, Ordering::Relaxed);
    loop {
        let idle = match may_reuse {
            true => poll_fn(|context| Poll::Ready(upstream.take_idle(context))).await,
            false => None,
        };
        let mut exchange = match idle {
            Some(exchange) => exchange,
            None => match connect(lane, visitor, in_flight).await {
                Ok(exchange) => exchange,
                Err(NotConnected { page, is_upstream_at_fault }) => {
                    let unsent = Some(Box::new(request));
                    return Err(Failed { page, unsent, is_upstream_at_fault, may_repeat: true });
                }
            },
        };
        let limit = lane.shared.options.timeouts.response_head;
        let is_fresh = !exchange.is_reused;
        match visitor.within_idle(limit, exchange.send(request)).await {
            Ok(Ok(response)) => {
                upstream.state.note_answer();
                return Ok((response, exchange));
            }
            Ok(Err(SendError::Unsent(unsent, error))) => {
                tracing::debug!(%error, "A connection was closed before a request was sent");
                if is_fresh {
                    let page = Page::BadGateway;
                    return Err(Failed {
                        page,
                        unsent: Some(unsent),
                        is_upstream_at_fault: true,
                        may_repeat: true,
                    });
                }
                request = *unsent;
            }
            Ok(Err(SendError::Broken(error))) => {
                tracing::debug!(%error, "A request got no response");
                return Err(broken(visitor, is_fresh));
            }
            Err(_elapsed) => {
                let is_coming = visitor.is_body_coming();
                return Err(Failed {
                    page: if is_coming { Page::RequestTimeout } else { Page::GatewayTimeout },
                    unsent: None,
                    is_upstream_at_fault: false,
                    may_repeat: false,
                });
            }
        }
    }
}

/// Tells what to do about a connection that broke after something was sent.
fn broken(visitor: &Visitor, is_fresh: bool) -> Failed {
    match visitor.body_failure.take() {
        Some(failure) => Failed {
            page: page_of(failure),
            unsent: None,
            is_upstream_at_fault: false,
            may_repeat: false,
        },
        None => Failed {
            page: Page::BadGateway,
            unsent: None,
            is_upstream_at_fault: is_fresh,
            may_repeat: true,
        },
    }
}

async fn connect(
    lane: &Lane,
    visitor: &Visitor,
    in_flight: &InFlight,
) -> Result<Box<Exchange>, NotConnected> {
    let address = in_flight.upstream.state.address;
    let limit = lane.shared.options.timeouts.connect;
    let failed = |page| NotConnected { page, is_upstream_at_fault: true };
    let socket = lane.open_upstream_socket();
    let mut outcome = visitor.within(limit, TcpStream::connect(address)).await;
    if let Ok(Err(error)) = &outcome
        && is_local_shortage(error)
    {
        lane.close_idle();
        outcome = visitor.within(limit, TcpStream::connect(address)).await;
    }
    match outcome {
        Ok(Ok(stream)) => {
            count(&lane.metrics.upstream_connections);
            let exchange = Exchange::begin(stream, socket).await;
            exchange.map(Box::new).map_err(|_error| failed(Page::BadGateway))
        }
        Ok(Err(error)) if is_local_shortage(&error) => {
            lane.note_shortage(&error);
            Err(NotConnected { page: Page::Unavailable, is_upstream_at_fault: false })
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, %address, "Connecting to an upstream failed");
            Err(failed(Page::BadGateway))
        }
        Err(_elapsed) => Err(failed(Page::GatewayTimeout)),
    }
}

/// Turns what the upstream sent into what the visitor gets.
async fn finish(
    response: Response<Incoming>,
    exchange: Box<Exchange>,
    in_flight: InFlight,
    visitor: &Visitor,
    is_upgrade: bool,
) -> Result<Answer, Page> {
    let (mut head, incoming) = response.into_parts();
    if let Some(release) = in_flight.release() {
        release.count_response(head.status);
    }
    let protocol = head.headers.get(UPGRADE).cloned();
    strip_hop_by_hop(&mut head.headers);
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let (true, Some(protocol)) = (is_upgrade, protocol) else { return Err(Page::BadGateway) };
        let (stream, read_ahead, socket) = exchange.into_stream().ok_or(Page::BadGateway)?;
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
        visitor.tunnel.replace(Some(Tunnel { stream, socket, read_ahead, in_flight }));
        return Ok(Response::from_parts(head, None));
    }
    let mut body = UpstreamBody::new(incoming, exchange, in_flight);
    poll_fn(|context| {
        body.finish_if_empty(context);
        Poll::Ready(())
    })
    .await;
    Ok(Response::from_parts(head, Some(body)))
}
