//! What is noted of a request while it runs; when it is dropped, the request is over.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;

use crate::access_log::Entry;
use crate::clock::WallTime;
use crate::connection::Visitor;
use crate::lane::Lane;
use crate::metrics::add;
use crate::routes::{Release, UpstreamState};

/// The record; it lives as long as the response body, or as the visitor waits for one.
#[derive(Debug)]
pub(crate) struct Record {
    lane: Rc<Lane>,
    visitor: Rc<Visitor>,
    began_wall: WallTime,
    /// When the request head was complete.
    pub(crate) began: Instant,
    /// The request's id.
    pub(crate) request_id: HeaderValue,
    /// Who asked; the other end of the connection, or whom a trusted proxy names.
    pub(crate) client: IpAddr,
    method: Method,
    uri: Uri,
    /// The status of the answer.
    pub(crate) status: Option<StatusCode>,
    /// Bytes of the response body that were handed on.
    pub(crate) bytes: u64,
    /// Who answered.
    pub(crate) upstream: Option<Arc<UpstreamState>>,
    /// The release that answered.
    pub(crate) release: Option<Arc<Release>>,
    /// Attempts after the first.
    pub(crate) retries: u32,
    /// How long a hold stopped it.
    pub(crate) held: Duration,
}

impl Record {
    /// Begins the record of a request.
    pub(crate) fn begin(lane: Rc<Lane>, visitor: Rc<Visitor>, method: Method, uri: Uri) -> Self {
        Self {
            client: visitor.peer,
            lane,
            visitor,
            began_wall: WallTime::now(),
            began: Instant::now(),
            request_id: HeaderValue::from_static(""),
            method,
            uri,
            status: None,
            bytes: 0,
            upstream: None,
            release: None,
            retries: 0,
            held: Duration::ZERO,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        let shared = &self.lane.shared;
        self.lane.metrics.count_request(self.status, took);
        add(&self.lane.metrics.response_bytes, self.bytes);
        self.visitor.begin_idle(now, &shared.options.timeouts);
        if !shared.access_log.is_on() {
            return;
        }
        shared.access_log.note(Entry {
            began: self.began_wall,
            request_id: self.request_id.clone(),
            client: self.client,
            method: self.method.clone(),
            uri: self.uri.clone(),
            status: self.status,
            bytes: self.bytes,
            took,
            upstream: self.upstream.take(),
            release: self.release.take(),
            retries: self.retries,
            held: self.held,
        });
    }
}
