//! Serves the site's repository to git clients, by `git http-backend` as a CGI program.
//!
//! It authenticates nobody: a layer above puts an [`Identity`] on each request. Operators read and
//! write, agents read. Bodies stream in both directions; a request that ends early ends its git.

use flotilla_core::error::chain;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use flotilla_host::command::{Command, CommandError, Running};
use flotilla_host::git::Git;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::process::ChildStdin;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::auth::Identity;

/// The path of the repository's URL.
pub const PATH: &str = "/git/site.git";
/// The largest body that a client may send: a push of a whole site.
const BODY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
const HEADING_BYTES_MAX: usize = 16 * 1024;
const TIME_LIMIT: Duration = Duration::from_secs(900);
const BUFFER_BYTES: usize = 256 * 1024;

const SETTINGS: &[(&str, &str)] = &[
    ("http.getanyfile", "false"),
    ("http.receivepack", "true"),
    ("receive.advertisePushOptions", "false"),
    ("receive.denyNonFastForwards", "true"),
    ("receive.fsckObjects", "true"),
    // Old histories have these, and they harm nobody.
    ("receive.fsck.badTimezone", "warn"),
    ("receive.fsck.missingSpaceBeforeDate", "warn"),
    ("receive.fsck.missingSpaceBeforeEmail", "warn"),
    ("receive.fsck.zeroPaddedFilemode", "warn"),
    ("receive.maxInputSize", "2147483648"),
    ("transfer.hideRefs", "refs/flotilla"),
    // An instance that cannot use a bundle fetches the one commit it needs.
    ("uploadpack.allowAnySHA1InWant", "true"),
];

/// Says why a client gets no answer of git.
#[derive(Debug, thiserror::Error)]
enum BridgeError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("the request could not be read")]
    Request(#[source] axum::Error),
    #[error("the request is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("git or the client went away")]
    Pipe(#[from] std::io::Error),
    #[error("git answered without headers")]
    Heading,
}

#[derive(Debug, Clone)]
struct Bridge {
    git_dir: PathBuf,
    pushed: Arc<Notify>,
}

/// Returns the routes below [`PATH`]; `pushed` is told after each push.
pub fn router(git_dir: &Path, pushed: Arc<Notify>) -> Router {
    let bridge = Bridge { git_dir: git_dir.to_owned(), pushed };
    Router::new().route(&format!("{PATH}/{{*path}}"), get(serve).post(serve)).with_state(bridge)
}

async fn serve(
    State(bridge): State<Bridge>,
    Extension(identity): Extension<Identity>,
    UrlPath(path): UrlPath<String>,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let is_write = match (path.as_str(), query) {
        ("info/refs", "service=git-upload-pack") | ("git-upload-pack", _) => false,
        ("info/refs", "service=git-receive-pack") | ("git-receive-pack", _) => true,
        ("info/refs", _) => {
            return refuse(StatusCode::FORBIDDEN, "this needs git's smart protocol");
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let may = match identity {
        Identity::Operator => true,
        Identity::Agent(_) => !is_write,
        _ => false,
    };
    if !may {
        return refuse(StatusCode::FORBIDDEN, "this token may not do that");
    }
    let is_push = path == "git-receive-pack";
    match bridge.answer(&path, request, is_push).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(path, error = chain(&error), "Git could not answer");
            refuse(StatusCode::SERVICE_UNAVAILABLE, "git could not answer")
        }
    }
}

impl Bridge {
    async fn answer(
        &self,
        path: &str,
        request: Request,
        is_push: bool,
    ) -> Result<Response, BridgeError> {
        let (parts, body) = request.into_parts();
        let mut running = self.command(path, &parts).start()?;
        let stdin = running.take_stdin();
        let (heading_sender, heading) = oneshot::channel();
        let (writer, reader) = tokio::io::duplex(BUFFER_BYTES);
        let pushed = is_push.then(|| Arc::clone(&self.pushed));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let fed = feed(body, stdin);
            let drained = drain(running, writer, heading_sender);
            match tokio::try_join!(fed, drained) {
                Ok(_) => pushed.iter().for_each(|pushed| pushed.notify_one()),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "A git request failed");
                }
            }
        });
        let Ok((status, headers)) = heading.await else { return Err(BridgeError::Heading) };
        let body = Answer { reader, _tasks: tasks };
        let stream = tokio_util::io::ReaderStream::with_capacity(body, BUFFER_BYTES);
        Ok((status, headers, Body::from_stream(stream)).into_response())
    }

    /// Says what RFC 3875 (CGI) calls the request.
    fn command(&self, path: &str, request: &Parts) -> Command {
        let name = self.git_dir.file_name().unwrap_or_default().to_string_lossy();
        let root = self.git_dir.parent().unwrap_or(Path::new("/"));
        let mut command = Git::new(&self.git_dir)
            .command("http-backend")
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("GIT_PROJECT_ROOT", root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", format!("/{name}/{path}"))
            .env("QUERY_STRING", request.uri.query().unwrap_or_default())
            .env("REMOTE_USER", "git")
            .env("REQUEST_METHOD", request.method.as_str())
            .env("GIT_CONFIG_COUNT", SETTINGS.len().to_string())
            .open_stdin()
            .time_limit(TIME_LIMIT);
        for (number, (key, value)) in SETTINGS.iter().enumerate() {
            command = command
                .env(format!("GIT_CONFIG_KEY_{number}"), key)
                .env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let passed = [
            (header::CONTENT_TYPE.as_str(), "CONTENT_TYPE"),
            (header::CONTENT_LENGTH.as_str(), "CONTENT_LENGTH"),
            (header::CONTENT_ENCODING.as_str(), "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ];
        for (header, variable) in passed {
            let value = request.headers.get(header).and_then(|value| value.to_str().ok());
            if let Some(value) = value {
                command = command.env(variable, value);
            }
        }
        command
    }
}

/// Hands the request's body to git.
async fn feed(mut body: Body, stdin: Option<ChildStdin>) -> Result<(), BridgeError> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    let mut left = BODY_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(BridgeError::Request)?.into_data() else { continue };
        left = left.checked_sub(bytes.len() as u64).ok_or(BridgeError::TooLarge)?;
        match stdin.write_all(&bytes).await {
            // Git reads no further; it says why in its answer.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

/// Hands git's answer to the client, the headers apart.
async fn drain(
    mut running: Running,
    mut writer: DuplexStream,
    heading: oneshot::Sender<(StatusCode, HeaderMap)>,
) -> Result<(), BridgeError> {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > HEADING_BYTES_MAX || running.read(&mut buffer).await? == 0 {
            running.finish().await?;
            return Err(BridgeError::Heading);
        }
    };
    let parsed = parse_heading(buffer.get(..end).unwrap_or_default());
    if heading.send(parsed).is_err() {
        return Ok(());
    }
    buffer.drain(..end + 4);
    loop {
        writer.write_all(&buffer).await?;
        buffer.clear();
        if running.read(&mut buffer).await? == 0 {
            break;
        }
    }
    running.finish().await?;
    Ok(())
}

fn parse_heading(heading: &[u8]) -> (StatusCode, HeaderMap) {
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(heading).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            status = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        {
            headers.append(name, value);
        }
    }
    (status, headers)
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, why).into_response()
}

/// The answer's body. It owns the task that fills it: dropped with it, the task ends and git with it.
#[derive(Debug)]
struct Answer {
    reader: DuplexStream,
    _tasks: JoinSet<()>,
}

impl AsyncRead for Answer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}
