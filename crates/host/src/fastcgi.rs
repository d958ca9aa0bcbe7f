//! Asking a php-fpm directly: warm-up and status do not pass through nginx.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use fastcgi_client::{Client, Params, Request};
use tokio::net::UnixStream;

/// What to ask of php-fpm.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The socket file of the pool.
    pub socket: &'a Path,
    /// The script's path as php-fpm sees it, or the status path.
    pub script: &'a str,
    /// The query, without `?`.
    pub query: &'a str,
    /// The request body.
    pub body: &'a [u8],
    /// How long it may take in all.
    pub time_limit: Duration,
}

/// Says why php-fpm gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum FastCgiError {
    /// The socket does not take connections.
    #[error("php-fpm does not answer on `{socket}`")]
    Connect {
        /// The socket file.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("php-fpm took longer than {0:?}")]
    TimedOut(Duration),
    /// The protocol broke.
    #[error("php-fpm broke the connection")]
    Protocol(#[source] fastcgi_client::ClientError),
    /// The script failed.
    #[error("`{script}` answered {status}: {detail}")]
    Script {
        /// The script.
        script: String,
        /// The HTTP status.
        status: u16,
        /// What it printed, shortened.
        detail: String,
    },
}

/// Runs a script in the pool and returns the body of its answer.
///
/// # Errors
/// php-fpm does not answer in time, or the script's status is not 200.
pub async fn call(call: Call<'_>) -> Result<Vec<u8>, FastCgiError> {
    match tokio::time::timeout(call.time_limit, exchange(call)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(FastCgiError::TimedOut(call.time_limit)),
    }
}

async fn exchange(call: Call<'_>) -> Result<Vec<u8>, FastCgiError> {
    let stream = connect(call.socket).await.map_err(|source| FastCgiError::Connect {
        socket: call.socket.display().to_string(),
        source,
    })?;
    let method = if call.body.is_empty() { "GET" } else { "POST" };
    let params = Params::default()
        .request_method(method)
        .script_name(call.script)
        .script_filename(call.script)
        .request_uri(call.script)
        .document_root(flotilla_core::layout::SITE)
        .query_string(call.query)
        .remote_addr("127.0.0.1")
        .server_name("localhost")
        .server_port(80)
        .server_protocol("HTTP/1.1")
        .content_type("application/json")
        .content_length(call.body.len());
    let client = Client::new_tokio(stream);
    let request = Request::new_tokio(params, call.body);
    let response = client.execute_once(request).await.map_err(FastCgiError::Protocol)?;
    let output = response.stdout.unwrap_or_default();
    let (status, body) = split(&output);
    if status == 200 {
        return Ok(body.to_vec());
    }
    let errors = response.stderr.unwrap_or_default();
    let detail = if errors.is_empty() { body } else { &errors };
    Err(FastCgiError::Script {
        script: call.script.to_owned(),
        status,
        detail: String::from_utf8_lossy(detail).chars().take(300).collect(),
    })
}

/// Connects to a socket file of any path length: the kernel takes 107 bytes, a site's path may be longer.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let directory = std::fs::File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())).await
}

/// Splits CGI output into status and body; without a `Status` header it is 200.
fn split(output: &[u8]) -> (u16, &[u8]) {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = match end {
        Some(at) => {
            (output.get(..at).unwrap_or_default(), output.get(at + 4..).unwrap_or_default())
        }
        None => (output, &[][..]),
    };
    let head = String::from_utf8_lossy(head);
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .and_then(|value| value.split(' ').next())
        .and_then(|code| code.parse().ok())
        .unwrap_or(200);
    (status, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_header_is_read_and_its_absence_means_200() {
        let cases: [(&[u8], u16, &[u8]); 3] = [
            (b"Content-Type: text/plain\r\n\r\nhello", 200, b"hello"),
            (b"Status: 500 Internal Server Error\r\nX: y\r\n\r\noops", 500, b"oops"),
            (b"no head at all", 200, b""),
        ];
        for (output, status, body) in cases {
            assert_eq!(split(output), (status, body));
        }
    }
}
