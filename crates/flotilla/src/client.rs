//! The operator's side of the foreman's interface.

use std::net::SocketAddr;
use std::time::Duration;

use flotilla_core::api::{
    BLAME_PATH, BlameLine, CAPTURES_PATH, CaptureItem, CaptureVerdict, DEPLOYS_PATH, DeployRecord,
    DeployReply, DeployRequest, HISTORY_PATH, HistoryItem, Inventory, ROLLBACK_PATH,
    ROTATIONS_PATH, Resize, RollbackRequest, RotateRequest, RotationStatus, SIZE_PATH, STATUS_PATH,
    Status, Verdict,
};
use flotilla_core::capture::CaptureNumber;
use flotilla_core::error::Failure;
use flotilla_core::id::{DeployId, Token};
use serde::de::DeserializeOwned;

use crate::failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const DEPLOY_WAIT: Duration = Duration::from_millis(500);

/// A foreman, as the operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    token: Token,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: Token) -> anyhow::Result<Self> {
        let http = flotilla_host::http::client_builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        Ok(Self { address, token, http })
    }

    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        self.send(self.http.get(self.url(STATUS_PATH))).await
    }

    pub(crate) async fn deploy(&self, request: &DeployRequest) -> Result<DeployReply, Failure> {
        self.send(self.http.post(self.url(DEPLOYS_PATH)).json(request)).await
    }

    pub(crate) async fn roll_back(
        &self,
        request: &RollbackRequest,
    ) -> Result<DeployReply, Failure> {
        self.send(self.http.post(self.url(ROLLBACK_PATH)).json(request)).await
    }

    pub(crate) async fn deploys(&self, limit: u32) -> Result<Vec<DeployRecord>, Failure> {
        self.send(self.http.get(format!("{}?limit={limit}", self.url(DEPLOYS_PATH)))).await
    }

    /// Returns a deploy once it is over, or as it is after a short while.
    pub(crate) async fn wait_for_deploy(&self, id: DeployId) -> Result<DeployRecord, Failure> {
        let wait = DEPLOY_WAIT.as_millis();
        self.send(self.http.get(format!("{}/{id}?wait_millis={wait}", self.url(DEPLOYS_PATH))))
            .await
    }

    pub(crate) async fn resize(&self, instances: u16) -> Result<Inventory, Failure> {
        self.send(self.http.put(self.url(SIZE_PATH)).json(&Resize { instances })).await
    }

    pub(crate) async fn rotate(&self, request: &RotateRequest) -> Result<RotationStatus, Failure> {
        self.send(self.http.post(self.url(ROTATIONS_PATH)).json(request)).await
    }

    pub(crate) async fn rotation(&self) -> Result<RotationStatus, Failure> {
        self.send(self.http.get(self.url(ROTATIONS_PATH))).await
    }

    pub(crate) async fn captures(&self, limit: u32) -> Result<Vec<CaptureItem>, Failure> {
        self.send(self.http.get(format!("{}?limit={limit}", self.url(CAPTURES_PATH)))).await
    }

    /// Approves or reverts a capture.
    pub(crate) async fn decide(
        &self,
        number: CaptureNumber,
        verdict: Verdict,
        by: &CaptureVerdict,
    ) -> Result<CaptureItem, Failure> {
        let url = format!("{}/{number}/{}", self.url(CAPTURES_PATH), verdict.as_str());
        self.send(self.http.post(url).json(by)).await
    }

    pub(crate) async fn history(
        &self,
        limit: usize,
        path: Option<&str>,
        has_patch: bool,
    ) -> Result<Vec<HistoryItem>, Failure> {
        let (limit, patch) = (limit.to_string(), has_patch.to_string());
        let mut query = vec![("limit", limit.as_str()), ("patch", patch.as_str())];
        query.extend(path.map(|path| ("path", path)));
        self.send(self.http.get(self.url_with(HISTORY_PATH, &query)?)).await
    }

    pub(crate) async fn blame(&self, path: &str) -> Result<Vec<BlameLine>, Failure> {
        self.send(self.http.get(self.url_with(BLAME_PATH, &[("path", path)])?)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let silent = |error: reqwest::Error| {
            failure::unavailable(format!(
                "the foreman does not answer on {}: {error}",
                self.address
            ))
            .with_hint(
                "is the fleet up? `flotilla up` starts it; `flotilla logs foreman` tells more",
            )
        };
        let response = request.bearer_auth(self.token.reveal()).send().await.map_err(silent)?;
        let status = response.status();
        if status.is_success() {
            return response.json().await.map_err(silent);
        }
        let no_reason = failure::unavailable(format!("the foreman answered {status}"));
        Err(response.json::<Failure>().await.unwrap_or(no_reason))
    }

    fn url_with(&self, path: &str, query: &[(&str, &str)]) -> Result<reqwest::Url, Failure> {
        let url = reqwest::Url::parse_with_params(&self.url(path), query);
        url.map_err(|error| failure::configuration(format!("cannot ask the foreman: {error}")))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
