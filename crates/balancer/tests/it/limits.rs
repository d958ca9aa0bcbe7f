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
        options.limits.busy_per_worker = 1;
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
        options.limits.busy_per_worker = 1;
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

#[tokio::test]
async fn slow_downloads_keep_nobody_from_pages() {
    let site = Site::with(1, |options| options.limits.busy_per_worker = 1).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        client.send("GET /chunks/10000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 200"));
        slow.push(client);
    }
    assert_eq!(site.get("/").await.status(), 200);
    assert_eq!(site.status().await.in_flight(SlotName::Blue), 8, "they still count as in flight");
}

#[tokio::test]
async fn slow_uploads_keep_nobody_from_pages_and_are_busy_when_they_are_whole() {
    let site = Site::with(1, |options| options.limits.busy_per_worker = 1).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n").await;
        client.send(&"x".repeat(150_000)).await;
        slow.push(client);
    }
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 8).await;
    assert_eq!(site.get("/").await.status(), 200);
    assert!(site.metrics().await.contains("busy_requests{instance=\"web-1\",slot=\"blue\"} 0"));
    for client in &mut slow {
        client.send(&"x".repeat(50_000)).await;
        assert!(client.head().await.starts_with("http/1.1 200"));
    }
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 0).await;
}

#[tokio::test]
async fn files_are_served_while_pages_hang_but_not_without_limit() {
    let site = Site::with(1, |options| {
        options.limits.busy_per_worker = 1;
        options.timeouts.queue = Duration::from_millis(50);
    })
    .await;
    site.upstreams[0].behave(Behaviour::Hang);
    let ask = |path: &str| site.client.get(site.url(path)).send();
    let watched = async {
        site.wait_for(|status| status.in_flight(SlotName::Blue) == 8).await;
        assert_eq!(ask("/page").await.unwrap().status(), 503);
        assert_eq!(ask("/missing.png").await.unwrap().status(), 503);
        site.upstreams[0].behave(Behaviour::Answer);
    };
    let pages = async { tokio::join!(ask("/1"), ask("/2"), ask("/3"), ask("/4")) };
    let files = async {
        site.wait_for(|status| status.in_flight(SlotName::Blue) == 4).await;
        tokio::join!(ask("/1.css"), ask("/2.css"), ask("/3.css"), ask("/4.css"))
    };
    let (pages, files, ()) = tokio::join!(pages, files, watched);
    for (one, two, three, four) in [pages, files] {
        for response in [one, two, three, four] {
            assert_eq!(response.unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn a_request_body_that_trickles_is_ended() {
    let site = Site::with(1, |options| {
        options.limits.visitor_bytes_per_second_min = 100_000;
        options.timeouts.request_body_idle = Duration::from_millis(200);
        options.timeouts.response_head = Duration::from_millis(200);
    })
    .await;
    for at_once in [1, 100_000] {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n").await;
        client.send(&"x".repeat(at_once)).await;
        let head = client.trickle().await;
        assert!(head.starts_with("HTTP/1.1 408"), "{at_once}: {head}");
    }
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 0).await;
    assert_eq!(site.status().await.releases[0].errors, 0);
}

#[tokio::test]
async fn a_download_that_is_taken_in_drops_is_ended() {
    let site = Site::with(1, |options| {
        options.limits.visitor_bytes_per_second_min = 50_000_000;
        options.timeouts.response_body_idle = Duration::from_millis(200);
    })
    .await;
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    client.send("GET /chunks/100000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
    tokio::select! {
        () = client.sip() => panic!("it was never ended"),
        _ = site.wait_for(|status| status.in_flight(SlotName::Blue) == 0) => {}
    }
}
