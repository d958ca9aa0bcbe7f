//! The agent's side of the foreman's interface.

use std::path::Path;
use std::time::Duration;

use flotilla_core::api::{
    BUNDLES_PATH, GIT_PATH, JOIN_PATH, JoinReply, JoinRequest, SETTINGS_PATH, SHA256_HEADER,
    SYNC_PATH, SlotSettings, SyncReply, SyncRequest,
};
use flotilla_core::error::Failure;
use flotilla_core::id::{InstanceName, Revision, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

/// How long the foreman may take for an answer, besides the time it was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A download that stands still for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Says what the foreman did not do.
#[derive(Debug, thiserror::Error)]
pub enum ForemanError {
    /// It does not answer, or the answer broke off.
    #[error("the foreman does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// It does not know this token.
    #[error("the foreman does not know this instance's token")]
    Stranger,
    /// It answered no.
    #[error("the foreman refused: {0}")]
    Refused(Failure),
    /// It answered with a status and no reason.
    #[error("the foreman answered {0}")]
    Status(u16),
    /// What it sent is not what it promised.
    #[error("what the foreman sent does not have the checksum that it sent with it")]
    Damaged,
    /// What it sent cannot be stored.
    #[error("cannot store what the foreman sent")]
    Store(#[source] std::io::Error),
}

/// A foreman, as one agent sees it.
#[derive(Debug, Clone)]
pub struct Foreman {
    base: String,
    token: Token,
    client: reqwest::Client,
}

impl Foreman {
    /// Names a foreman by its base URL, without a slash at the end.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(base: String, token: Token) -> Result<Self, ForemanError> {
        let client = flotilla_host::http::client_builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STALL_TIMEOUT.max(ANSWER_TIMEOUT))
            .build()
            .map_err(ForemanError::Unreachable)?;
        Ok(Self { base, token, client })
    }

    /// Trades a join token for the agent's own.
    ///
    /// # Errors
    /// The token is not good (any more), or the foreman does not answer.
    pub async fn join(&self, instance: &InstanceName) -> Result<Token, ForemanError> {
        let request = JoinRequest { instance: instance.clone() };
        let reply: JoinReply = self.post(JOIN_PATH, &request, ANSWER_TIMEOUT).await?;
        Ok(reply.token)
    }

    /// Reports and waits for news.
    ///
    /// # Errors
    /// The foreman refuses or does not answer.
    pub async fn sync(&self, request: &SyncRequest) -> Result<SyncReply, ForemanError> {
        let limit = ANSWER_TIMEOUT + Duration::from_millis(request.wait_millis);
        self.post(SYNC_PATH, request, limit).await
    }

    /// Fetches what slots need to run besides the code.
    ///
    /// # Errors
    /// The foreman refuses or does not answer.
    pub async fn settings(&self) -> Result<SlotSettings, ForemanError> {
        let request = self.client.get(self.url(SETTINGS_PATH)).timeout(ANSWER_TIMEOUT);
        decode(self.send(request).await?).await
    }

    /// Downloads the bundle that leads from one revision to another into a file.
    ///
    /// # Errors
    /// The foreman refuses or does not answer, the bytes are damaged, or the file cannot be written.
    pub async fn download_bundle(
        &self,
        from: Option<&Revision>,
        to: &Revision,
        file: &Path,
    ) -> Result<(), ForemanError> {
        let bundle = format!("{}/{to}", self.url(BUNDLES_PATH));
        let url = match from {
            Some(from) => format!("{bundle}?from={from}"),
            None => bundle,
        };
        let mut response = self.send(self.client.get(url)).await?;
        let promised = response.headers().get(SHA256_HEADER).cloned();
        let mut output = tokio::fs::File::create(file).await.map_err(ForemanError::Store)?;
        let mut hash = Sha256::new();
        while let Some(chunk) = response.chunk().await.map_err(ForemanError::Unreachable)? {
            hash.update(&chunk);
            output.write_all(&chunk).await.map_err(ForemanError::Store)?;
        }
        output.flush().await.map_err(ForemanError::Store)?;
        let sum: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if promised.is_some_and(|promised| promised.as_bytes() == sum.as_bytes()) {
            return Ok(());
        }
        Err(ForemanError::Damaged)
    }

    /// Returns the URL of the repository, and the header that git must send with it.
    #[must_use]
    pub fn repository(&self) -> (String, String) {
        (self.url(GIT_PATH), format!("Authorization: Bearer {}", self.token.reveal()))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, ForemanError> {
        let request = self.client.post(self.url(path)).json(body).timeout(limit);
        decode(self.send(request).await?).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ForemanError> {
        let request = request.bearer_auth(self.token.reveal());
        let response = request.send().await.map_err(ForemanError::Unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Err(ForemanError::Stranger);
        }
        match response.json::<Failure>().await {
            Ok(failure) => Err(ForemanError::Refused(failure)),
            Err(_no_reason) => Err(ForemanError::Status(status.as_u16())),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

async fn decode<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, ForemanError> {
    response.json().await.map_err(ForemanError::Unreachable)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these headers and the body `bundle`.
    async fn answer(listener: &TcpListener, headers: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n";
        let answer = format!("{head}{headers}\r\nbundle");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_bundle_is_taken_only_with_the_checksum_that_came_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let foreman = Foreman::new(base, Token::new("agent".to_owned())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.bundle");
        let revision: Revision = "a".repeat(40).parse().unwrap();
        let sum: String =
            Sha256::digest("bundle").iter().map(|byte| format!("{byte:02x}")).collect();
        let wrong = "0".repeat(64);
        for (header, is_good) in [
            (format!("{SHA256_HEADER}: {sum}\r\n"), true),
            (format!("{SHA256_HEADER}: {wrong}\r\n"), false),
            (String::new(), false),
        ] {
            let (outcome, ()) = tokio::join!(
                foreman.download_bundle(None, &revision, &file),
                answer(&listener, &header)
            );
            match outcome {
                Ok(()) => assert!(is_good, "{header}"),
                Err(ForemanError::Damaged) => assert!(!is_good, "{header}"),
                Err(error) => panic!("{header}: {error:?}"),
            }
        }
    }
}
