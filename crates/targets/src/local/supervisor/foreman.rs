//! What the supervisor asks of the foreman: which instances shall exist, and tokens for new ones.

use std::time::Duration;

use flotilla_core::api::{
    INVENTORY_PATH, Inventory, JOIN_TOKENS_PATH, JoinReply, JoinTokenRequest,
};
use flotilla_core::id::{InstanceName, Token};
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use crate::local::live::Live;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The foreman, as its operator speaks to it.
#[derive(Debug, Clone)]
pub(super) struct Foreman {
    client: Client,
    address: String,
    token: Live<Token>,
}

impl Foreman {
    pub(super) fn new(port: u16, token: Live<Token>) -> Result<Self, reqwest::Error> {
        let client =
            flotilla_host::http::client_builder().no_proxy().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { client, address: format!("http://127.0.0.1:{port}"), token })
    }

    pub(super) async fn inventory(&self) -> Result<Inventory, reqwest::Error> {
        self.answer(self.client.get(format!("{}{INVENTORY_PATH}", self.address))).await
    }

    pub(super) async fn join_token(
        &self,
        instance: &InstanceName,
    ) -> Result<Token, reqwest::Error> {
        let request = JoinTokenRequest { instance: instance.clone() };
        let post = self.client.post(format!("{}{JOIN_TOKENS_PATH}", self.address));
        let reply: JoinReply = self.answer(post.json(&request)).await?;
        Ok(reply.token)
    }

    async fn answer<T: DeserializeOwned>(&self, ask: RequestBuilder) -> Result<T, reqwest::Error> {
        ask.bearer_auth(self.token.now().reveal()).send().await?.error_for_status()?.json().await
    }
}
