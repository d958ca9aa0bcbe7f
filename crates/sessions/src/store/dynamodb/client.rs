//! Signed requests to DynamoDB, repeated within limits.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_host::http::{client_builder, distrust};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::hash::hex_sha256;
use reqsign_core::{Context, FileRead, HttpSend, OsEnv, Signer};
use serde_json::Value as Json;
use tokio::time::{Instant, sleep, timeout};

/// How long one attempt may take, and all attempts at a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before the first repetition; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The largest answer: an item has 400 KB at most, in base64.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Errors that pass, besides those with a status of 500 and above.
const PASSING: [&str; 4] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TransactionConflictException",
];

/// Says why a call came to nothing.
#[derive(Debug)]
pub(super) enum ClientError {
    /// The condition was not met; with the item that is there, when AWS tells it.
    ConditionFailed(Option<Json>),
    /// AWS answered that it cannot, or whoever answers is not believed to be AWS; asking again
    /// changes nothing.
    Refused(String),
    /// There was no answer, or only "later".
    Unreachable(String),
}

/// Calls operations of DynamoDB.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    signer: Signer<Credential>,
    address: String,
}

impl Client {
    pub(super) fn new(region: &str, endpoint: Option<&str>) -> Result<Self, reqwest::Error> {
        let http = client_builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let context = Context::new()
            .with_env(OsEnv)
            .with_file_read(Files)
            .with_http_send(Plain { http: http.clone() });
        let provider = DefaultCredentialProvider::builder().build();
        let signer = Signer::new(context, provider, RequestSigner::new("dynamodb", region));
        let aws = format!("https://dynamodb.{region}.amazonaws.com");
        let address = format!("{}/", endpoint.unwrap_or(&aws).trim_end_matches('/'));
        Ok(Self { http, signer, address })
    }

    /// Calls an operation, again and again while the error passes and time is left.
    pub(super) async fn call(&self, operation: &str, input: &Json) -> Result<Json, ClientError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut pause = PAUSE_MIN;
        loop {
            let error = match timeout(ATTEMPT_TIMEOUT, self.attempt(operation, input)).await {
                Ok(Err(ClientError::Unreachable(reason))) => reason,
                Ok(outcome) => return outcome,
                Err(_) => format!("no answer for {} ms", ATTEMPT_TIMEOUT.as_millis()),
            };
            if Instant::now() + pause >= deadline {
                return Err(ClientError::Unreachable(error));
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    async fn attempt(&self, operation: &str, input: &Json) -> Result<Json, ClientError> {
        let unreachable = |error: reqwest::Error| match distrust(&error) {
            Some(reason) => {
                ClientError::Refused(format!("`{}` is not trusted: {reason}", self.address))
            }
            None => ClientError::Unreachable(flotilla_core::error::chain(&error)),
        };
        let body = input.to_string().into_bytes();
        let request = http::Request::post(&self.address)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header("x-amz-content-sha256", hex_sha256(&body))
            .body(())
            .map_err(|error| ClientError::Refused(error.to_string()))?;
        let (mut parts, ()) = request.into_parts();
        self.signer.sign(&mut parts, None).await.map_err(|error| {
            ClientError::Refused(format!("no credentials to sign with: {error}"))
        })?;
        let request = http::Request::from_parts(parts, body);
        let request = reqwest::Request::try_from(request).map_err(unreachable)?;
        let response = self.http.execute(request).await.map_err(unreachable)?;
        let status = response.status();
        let body = read(response).await.map_err(unreachable)?;
        // A gateway on the way may answer with something else.
        let output: Json = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(output);
        }
        Err(failure(status, &output))
    }
}

fn failure(status: http::StatusCode, output: &Json) -> ClientError {
    let word = |name: &str| output.get(name).and_then(Json::as_str);
    let kind = word("__type").unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or(kind);
    let message = word("message").or_else(|| word("Message")).unwrap_or_default();
    if kind == "ConditionalCheckFailedException" {
        return ClientError::ConditionFailed(output.get("Item").cloned());
    }
    let text = match kind {
        "" => format!("status {status}"),
        "ResourceNotFoundException" => "there is no such table in this region".to_owned(),
        _ => format!("{kind}: {message}"),
    };
    if status.is_server_error() || PASSING.contains(&kind) {
        ClientError::Unreachable(text)
    } else {
        ClientError::Refused(text)
    }
}

/// Reads an answer, as much of it as can be one.
async fn read(mut response: reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(body.freeze())
}

/// Reads the files that credentials may lie in.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let path = PathBuf::from(path);
        tokio::fs::read(&path).await.map_err(|error| {
            let text = format!("cannot read `{}`", path.display());
            reqsign_core::Error::config_invalid(text).with_source(error)
        })
    }
}

/// Asks the instance's metadata service, and AWS, for credentials.
#[derive(Debug)]
struct Plain {
    http: reqwest::Client,
}

impl HttpSend for Plain {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |error: reqwest::Error| {
            reqsign_core::Error::unexpected("cannot ask for credentials").with_source(error)
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let response = self.http.execute(request).await.map_err(failed)?;
        let mut answer = http::Response::new(Bytes::new());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        *answer.body_mut() = read(response).await.map_err(failed)?;
        Ok(answer)
    }
}
