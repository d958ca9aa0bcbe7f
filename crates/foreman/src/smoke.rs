//! Smoke requests: asks a few URLs of a release that was just brought into service.

use flotilla_core::error::chain;
use std::net::SocketAddr;
use std::time::Duration;

/// How to ask.
#[derive(Debug, Clone)]
pub struct Smoke {
    /// Where visitors are served: the balancer.
    pub balancer: SocketAddr,
    /// The host that visitors use.
    pub site_host: String,
    /// `http` or `https`, as visitors use it.
    pub site_scheme: String,
    /// The paths to ask for.
    pub paths: Vec<String>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// The client; it follows no redirects.
    pub client: reqwest::Client,
}

impl Smoke {
    /// Asks for every path. One that the old release answers no better is not held against the new.
    ///
    /// # Errors
    /// Says which path failed and how.
    pub async fn run(&self, old: &[SocketAddr]) -> Result<(), String> {
        for path in &self.paths {
            let Err(fault) = self.ask(self.balancer, path).await else { continue };
            let mut was_better = true;
            if let Some(address) = old.first() {
                was_better = self.ask(*address, path).await.is_ok();
            }
            if was_better {
                return Err(format!("smoke request for `{path}` {fault}"));
            }
            tracing::warn!(path, fault, "A smoke request fails on the old release too");
        }
        Ok(())
    }

    async fn ask(&self, address: SocketAddr, path: &str) -> Result<(), String> {
        let request = self
            .client
            .get(format!("http://{address}{path}"))
            .header("host", &self.site_host)
            .header("x-forwarded-proto", &self.site_scheme)
            .timeout(self.timeout);
        match request.send().await {
            Ok(response) if response.status().as_u16() < 400 => Ok(()),
            Ok(response) => Err(format!("answered {}", response.status().as_u16())),
            Err(error) if error.is_timeout() => Err(format!("took longer than {:?}", self.timeout)),
            Err(error) => Err(format!("failed: {}", chain(&error))),
        }
    }
}
