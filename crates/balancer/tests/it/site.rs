//! A balancer with its upstreams, as the tests need them.

use std::net::SocketAddr;
use std::time::Duration;

use flotilla_balancer::{Balancer, Options, start};
use flotilla_core::id::Token;
use flotilla_core::slot::SlotName;
use flotilla_core::table::{BalancerStatus, Hold, STATUS_PATH, TABLE_PATH, Table};
use reqwest::{Client, Response};
use tempfile::TempDir;

use crate::upstream::{TestUpstream, revision};

pub(crate) const TOKEN: &str = "control-secret";

/// A balancer with what it needs.
pub(crate) struct Site {
    pub(crate) balancer: Balancer,
    pub(crate) upstreams: Vec<TestUpstream>,
    pub(crate) client: Client,
    pub(crate) directory: TempDir,
}

/// Returns options for a balancer whose files are in the directory.
pub(crate) fn options(directory: &TempDir) -> Options {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let state_file = directory.path().join("table.json");
    let mut options = Options::new(vec![any], any, Token::new(TOKEN.to_owned()), state_file);
    options.threads = Some(2);
    options.health.interval = Duration::from_millis(20);
    options
}

impl Site {
    /// Starts a balancer without a table.
    pub(crate) fn bare(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(&directory);
        change(&mut options);
        let balancer = start(options).unwrap();
        let client = flotilla_host::http::client_builder().no_proxy().build().unwrap();
        Self { balancer, upstreams: Vec::new(), client, directory }
    }

    /// Starts a balancer with a table of so many upstreams, blue, that run revision `a`.
    pub(crate) async fn with(count: u16, change: impl FnOnce(&mut Options)) -> Self {
        let mut site = Self::bare(change);
        for number in 1..=count {
            site.upstreams.push(TestUpstream::start(number, SlotName::Blue, 'a').await);
        }
        let upstreams: Vec<&TestUpstream> = site.upstreams.iter().collect();
        let table = table(1, 'a', &upstreams);
        assert_eq!(site.put(&table).await.status(), 200);
        site
    }

    /// Returns the address of a path for visitors.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.balancer.addresses()[0])
    }

    /// Gets a path as a visitor.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// Returns the address of a path of the control interface.
    pub(crate) fn control_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.balancer.control_address())
    }

    /// Puts a table as the foreman.
    pub(crate) async fn put(&self, table: &Table) -> Response {
        let url = self.control_url(TABLE_PATH);
        self.client.put(url).bearer_auth(TOKEN).json(table).send().await.unwrap()
    }

    /// Returns the status that the foreman sees.
    pub(crate) async fn status(&self) -> BalancerStatus {
        let url = self.control_url(STATUS_PATH);
        self.client.get(url).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap()
    }

    /// Returns the metrics.
    pub(crate) async fn metrics(&self) -> String {
        let url = self.control_url("/metrics");
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn wait_for(
        &self,
        wanted: impl Fn(&BalancerStatus) -> bool,
    ) -> BalancerStatus {
        let mut last = BalancerStatus::default();
        for _ in 0..1000 {
            last = self.status().await;
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the status never became what was waited for: {last:?}");
    }

    /// Stops the balancer and keeps the rest.
    pub(crate) async fn stop(self) -> (TempDir, Vec<TestUpstream>, Client) {
        let drained = self.balancer.shut_down(Duration::from_secs(5)).await;
        assert_eq!(drained.cut_off, 0);
        (self.directory, self.upstreams, self.client)
    }
}

/// Makes a table in which the upstreams run the revision made of this digit.
pub(crate) fn table(version: u64, digit: char, upstreams: &[&TestUpstream]) -> Table {
    Table {
        version,
        revision: Some(revision(digit).parse().unwrap()),
        upstreams: upstreams.iter().map(|one| one.entry()).collect(),
        hold: None,
    }
}

/// Makes a table with a hold.
pub(crate) fn holding(table: &Table, version: u64, limit: Duration) -> Table {
    let limit_millis = u64::try_from(limit.as_millis()).unwrap();
    Table { version, hold: Some(Hold { limit_millis }), ..table.clone() }
}

/// Waits until a value is as wanted.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}
