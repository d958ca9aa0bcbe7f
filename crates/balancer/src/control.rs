//! The control interface: the foreman puts tables, whoever may reads the status and the metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_core::table::{STATUS_PATH, TABLE_PATH, Table};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::shared::Shared;
use crate::state_file::{self, Saved};

const METRICS_PATH: &str = "/metrics";
const TABLE_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECTIONS_MAX: usize = 64;
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the connections of the control interface share.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    /// Held while a table is saved and published, so that there is one order of tables.
    publishing: Mutex<()>,
    is_loopback: bool,
}

impl Control {
    /// Makes the interface; on a loopback address the metrics need no token.
    pub(crate) fn new(shared: Arc<Shared>, is_loopback: bool) -> Self {
        Self { shared, publishing: Mutex::new(()), is_loopback }
    }

    /// Serves until told to stop.
    pub(crate) async fn serve(self, listener: TcpListener, stopping: CancellationToken) {
        let control = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(serve_connection(Arc::clone(&control), stream));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "Accepting on the control interface failed");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "A control connection panicked");
                    }
                }
            }
        }
        connections.shutdown().await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == METRICS_PATH && self.is_loopback && request.method() == Method::GET {
            return self.show_metrics();
        }
        if !self.is_authorized(request.headers()) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        match (request.method(), path) {
            (&Method::PUT, TABLE_PATH) => self.put_table(request).await,
            (&Method::GET, TABLE_PATH) => {
                json_response(StatusCode::OK, &self.shared.routes().table)
            }
            (&Method::GET, STATUS_PATH) => json_response(StatusCode::OK, &self.shared.status()),
            (&Method::GET, METRICS_PATH) => self.show_metrics(),
            (_, TABLE_PATH | STATUS_PATH | METRICS_PATH) => empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    fn show_metrics(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(metrics::render(&self.shared)));
        let format = HeaderValue::from_static("text/plain; version=0.0.4");
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        let tokens = self.shared.control_tokens.load();
        tokens.iter().any(|expected| is_same(given, expected.reveal().as_bytes()))
    }

    async fn put_table(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = Limited::new(request.into_body(), TABLE_BYTES_MAX).collect();
        let body = match timeout(READ_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(_elapsed) => return problem(StatusCode::REQUEST_TIMEOUT, "the table did not come"),
        };
        let table: Table = match serde_json::from_slice(&body) {
            Ok(table) => table,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let _guard = self.publishing.lock().await;
        let routes = self.shared.routes();
        if table == routes.table {
            return json_response(StatusCode::OK, &self.shared.status());
        }
        if table.version <= routes.table.version {
            let present = routes.table.version;
            let message = format!("table `{}` is not newer than `{present}`", table.version);
            let body = json!({ "error": message, "version": present });
            return json_response(StatusCode::CONFLICT, &body);
        }
        match self.save(table.clone()).await {
            Ok(()) => {
                self.shared.publish(table, None);
                self.report();
                json_response(StatusCode::OK, &self.shared.status())
            }
            Err(message) => {
                tracing::error!(error = message, "A table could not be saved and is not used");
                problem(StatusCode::INTERNAL_SERVER_ERROR, &message)
            }
        }
    }

    async fn save(&self, table: Table) -> Result<(), String> {
        let since_version = self.shared.since_version_of(&table);
        let path = self.shared.options.state_file.clone();
        let saved = Saved { table, since_version };
        let written = tokio::task::spawn_blocking(move || state_file::save(&path, &saved)).await;
        let path = self.shared.options.state_file.display();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("cannot write `{path}`: {error}")),
            Err(error) => Err(format!("cannot write `{path}`: {error}")),
        }
    }

    fn report(&self) {
        let routes = self.shared.routes();
        let table = &routes.table;
        let revision = table.revision.as_ref().map(|one| one.short().to_owned());
        tracing::info!(
            version = table.version,
            revision,
            upstreams = table.upstreams.len(),
            is_holding = table.hold.is_some(),
            "A new table is in service"
        );
    }
}

async fn serve_connection(control: Arc<Control>, stream: TcpStream) {
    let service = service_fn(|request| {
        let control = Arc::clone(&control);
        async move { Ok::<_, Infallible>(control.answer(request).await) }
    });
    let served = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(60))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A control connection ended");
    }
}

/// Compares in a time that depends on the lengths only.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let differences = given
        .iter()
        .zip(expected)
        .fold(0_u8, |differences, (one, other)| differences | (one ^ other));
    std::hint::black_box(differences) == 0 && given.len() == expected.len()
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn problem(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    json_response(status, &json!({ "error": message }))
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let Ok(text) = serde_json::to_vec(body) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let format = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_accepted() {
        assert!(is_same(b"secret", b"secret"));
        for given in [&b""[..], b"secre", b"secret2", b"Secret"] {
            assert!(!is_same(given, b"secret"));
        }
    }
}
