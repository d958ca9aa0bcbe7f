//! What is bounded, and what happens at the bound.

use std::time::Duration;

use flotilla_core::slot::SlotName;

use crate::client::RawClient;
use crate::site::Site;
use crate::upstream::Behaviour;

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let site = Site::with(1, |options| options.limits.request_body_bytes_max = 100_000).await;
    let post = site.client.post(site.url("/echo")).body("x".repeat(100_001));
    assert_eq!(post.send().await.unwrap().status(), 413);
    assert_eq!(site.upstreams[0].hits(), 0, "the length was told, so nothing was sent");
    let post = site.client.post(site.url("/echo")).body("x".repeat(100_000));
    assert_eq!(post.send().await.unwrap().status(), 200);
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    client.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000));
    for _ in 0..3 {
        client.send(&chunk).await;
    }
    assert!(client.head().await.starts_with("http/1.1 413"));
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 0).await;
}

#[tokio::test]
async fn a_visitor_who_leaves_no_longer_counts() {
    let site = Site::with(1, |_| {}).await;
    site.upstreams[0].behave(Behaviour::Hang);
    let get = site.client.get(site.url("/slow")).send();
    tokio::select! {
        _ = get => panic!("a hanging upstream answered"),
        _ = site.wait_for(|status| status.in_flight(SlotName::Blue) == 1) => {}
    }
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 0).await;
}

#[tokio::test]
async fn a_visitor_who_leaves_in_a_download_no_longer_counts() {
    let site = Site::with(1, |_| {}).await;
    let response = site.get("/chunks/100000").await;
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 1).await;
    drop(response);
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 0).await;
}

#[tokio::test]
async fn requests_queue_for_a_full_upstream_and_more_are_refused() {
    let site = Site::with(1, |options| {
        options.limits.in_flight_per_worker = 1;
        options.limits.queue_max = 1;
        options.timeouts.queue = Duration::from_secs(600);
    })
    .await;
    site.upstreams[0].behave(Behaviour::Hang);
    let ask = || site.client.get(site.url("/slow")).send();
    let watched = async {
        site.wait_for(|status| status.in_flight(SlotName::Blue) == 4).await;
        let metrics = site.control_url("/metrics");
        loop {
            let text = site.client.get(&metrics).send().await.unwrap().text().await.unwrap();
            if text.contains("flotilla_balancer_queued_requests 1") {
                break;
            }
        }
        let refused = ask().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(site.status().await.in_flight(SlotName::Blue), 4);
        site.upstreams[0].behave(Behaviour::Answer);
    };
    let (one, two, three, four, five, ()) =
        tokio::join!(ask(), ask(), ask(), ask(), ask(), watched);
    for response in [one, two, three, four, five] {
        assert_eq!(response.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_queue_is_left_after_its_time() {
    let site = Site::with(1, |options| {
        options.limits.in_flight_per_worker = 1;
        options.timeouts.queue = Duration::from_millis(50);
    })
    .await;
    site.upstreams[0].behave(Behaviour::Hang);
    let ask = || site.client.get(site.url("/slow")).send();
    let watched = async {
        site.wait_for(|status| status.in_flight(SlotName::Blue) == 4).await;
        assert_eq!(ask().await.unwrap().status(), 503);
        site.upstreams[0].behave(Behaviour::Answer);
    };
    let (one, two, three, four, ()) = tokio::join!(ask(), ask(), ask(), ask(), watched);
    for response in [one, two, three, four] {
        assert_eq!(response.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_slow_head_a_slow_body_and_an_idle_connection_are_ended() {
    let site = Site::with(1, |options| {
        options.timeouts.request_head = Duration::from_millis(100);
        options.timeouts.request_body_idle = Duration::from_millis(100);
        options.timeouts.keep_alive = Duration::from_millis(100);
    })
    .await;
    let address = site.balancer.addresses()[0];
    let mut slow_head = RawClient::connect(address).await;
    slow_head.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert_eq!(slow_head.rest().await, "");
    let mut slow_body = RawClient::connect(address).await;
    slow_body.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nx").await;
    assert!(slow_body.head().await.starts_with("http/1.1 408"));
    assert_eq!(site.upstreams[0].hits(), 0);
    let mut idle = RawClient::connect(address).await;
    idle.send("GET /bytes/3 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(idle.head().await.starts_with("http/1.1 200"));
    assert_eq!(idle.rest().await, "xxx");
}
