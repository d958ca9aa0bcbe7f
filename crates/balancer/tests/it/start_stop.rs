//! Starting, stopping, and the log in between.

use std::time::Duration;

use flotilla_balancer::{BalancerError, start};
use flotilla_core::id::Token;
use serde_json::Value;

use crate::client::RawClient;
use crate::site::{Site, options, wait_until};
use crate::upstream::Behaviour;

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let site = Site::bare(|_| {});
    let directory = tempfile::tempdir().unwrap();
    let taken = site.balancer.addresses()[0];
    let mut again = options(&directory);
    again.listen = vec![taken];
    let error = start(again).unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()) && error.contains("ss -ltnp"), "{error}");
    let mut again = options(&directory);
    again.control = site.balancer.control_address();
    assert!(matches!(start(again), Err(BalancerError::Bind { .. })));
}

#[tokio::test]
async fn an_empty_token_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&directory);
    options.control_token = Token::new(String::new());
    assert!(matches!(start(options), Err(BalancerError::EmptyToken)));
}

#[tokio::test]
async fn stopping_lets_requests_end_and_refuses_new_ones() {
    let site = Site::with(1, |_| {}).await;
    let address = site.balancer.addresses()[0];
    site.upstreams[0].behave(Behaviour::Hang);
    let mut idle = RawClient::connect(address).await;
    idle.send("GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    wait_until("the request arrived", || site.upstreams[0].hits() == 1).await;
    let Site { balancer, upstreams, .. } = site;
    let stopped = balancer.shut_down(Duration::from_secs(60));
    let watched = async {
        let mut refused = false;
        while !refused {
            refused = tokio::net::TcpStream::connect(address).await.is_err();
            tokio::task::yield_now().await;
        }
        upstreams[0].behave(Behaviour::Answer);
        assert!(idle.head().await.contains("connection: close"));
        assert_eq!(idle.rest().await, "x");
    };
    let (drained, ()) = tokio::join!(stopped, watched);
    assert_eq!(drained.cut_off, 0);
}

#[tokio::test]
async fn stopping_is_bounded() {
    let site = Site::with(1, |_| {}).await;
    site.upstreams[0].behave(Behaviour::Hang);
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    wait_until("the request arrived", || site.upstreams[0].hits() == 1).await;
    let drained = site.balancer.shut_down(Duration::from_millis(50)).await;
    assert_eq!(drained.cut_off, 1);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn requests_are_logged_without_cookies_and_the_log_can_be_moved() {
    let site = Site::with(1, |options| {
        let directory = options.state_file.parent().unwrap();
        options.access_log = Some(directory.join("access.log"));
    })
    .await;
    let path = site.directory.path().join("access.log");
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    let get = site.client.get(site.url("/bytes/9?a=1&key=hidden")).header("cookie", "c=private");
    let id = get.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned();
    wait_until("the line was written", || lines().ends_with('\n')).await;
    let line: Value = serde_json::from_str(&lines()).unwrap();
    assert_eq!(line["request_id"], *id);
    assert_eq!(line["path"], "/bytes/9?a=1&key=…");
    for (name, value) in [("status", 200), ("bytes", 9), ("retries", 0)] {
        assert_eq!(line[name], value, "{name}");
    }
    assert_eq!((&line["instance"], &line["slot"]), (&"web-1".into(), &"blue".into()));
    assert_eq!(line["revision"], *crate::upstream::revision('a'));
    assert!(!lines().contains("private") && !lines().contains("hidden"));

    std::fs::rename(&path, site.directory.path().join("access.log.1")).unwrap();
    site.balancer.reopen_log();
    wait_until("the log was opened again", || path.exists()).await;
    site.get("/bytes/1").await;
    wait_until("the line was written", || lines().contains("/bytes/1")).await;
}
