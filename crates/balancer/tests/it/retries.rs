//! What is sent again, and what never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::site::{Site, wait_until};
use crate::upstream::Behaviour;

#[tokio::test]
async fn a_get_without_an_answer_is_sent_to_another_instance() {
    let site = Site::with(2, |options| options.health.eject_after = 1_000_000).await;
    site.upstreams[0].behave(Behaviour::Reset);
    for _ in 0..20 {
        assert_eq!(site.get("/").await.status(), 200);
    }
    assert!(site.upstreams[0].hits() > 0);
    assert_eq!(site.upstreams[1].hits(), 20);
    assert_eq!(site.status().await.releases[0].errors, 0);
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_sent_again() {
    let site = Site::with(2, |options| options.health.eject_after = 1_000_000).await;
    for upstream in &site.upstreams {
        upstream.behave(Behaviour::Reset);
    }
    for number in 0..10 {
        let post = site.client.post(site.url(&format!("/order/{number}"))).body("pay");
        let response = post.send().await.unwrap();
        assert_eq!(response.status(), 502);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(response.text().await.unwrap().contains(&id));
    }
    let mut seen: Vec<String> = site.upstreams.iter().flat_map(|one| one.seen()).collect();
    seen.sort();
    let expected: Vec<String> = (0..10).map(|number| format!("POST /order/{number}")).collect();
    assert_eq!(seen, expected);
    let release = site.status().await.releases.remove(0);
    assert_eq!((release.requests, release.errors), (10, 10), "no answer is an answer, too");
}

#[tokio::test]
async fn a_post_whose_connection_is_refused_goes_to_another_instance() {
    let mut site = Site::with(2, |options| {
        options.health.eject_after = 1_000_000;
        options.health.interval = std::time::Duration::from_secs(3600);
    })
    .await;
    site.upstreams[0].stop().await;
    for number in 0..10 {
        let post = site.client.post(site.url(&format!("/order/{number}"))).body("pay");
        assert_eq!(post.send().await.unwrap().status(), 200);
    }
    assert_eq!(site.upstreams[1].hits(), 10);
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closed_costs_no_request() {
    let mut site = Site::with(1, |_| {}).await;
    assert_eq!(site.get("/").await.status(), 200);
    // The same address comes back: kept connections are dead, the upstream is well.
    let address = site.upstreams[0].address;
    site.upstreams[0].stop().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let served = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 40\r\nconnection: close\r\n\r\n{}",
                crate::upstream::revision('a')
            );
            tokio::io::AsyncReadExt::read_buf(&mut stream, &mut Vec::with_capacity(4096))
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    };
    tokio::select! {
        response = site.get("/again") => assert_eq!(response.status(), 200),
        () = served => {}
    }
}

#[tokio::test]
async fn many_kept_connections_that_break_cost_no_request() {
    const KEPT: usize = 4;
    let mut site = Site::with(1, |options| {
        options.threads = Some(1);
        options.health.interval = std::time::Duration::from_secs(3600);
    })
    .await;
    let address = site.upstreams[0].address;
    site.upstreams[0].stop().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    // Answers the first request of a connection once there are so many, and hangs up at the second.
    let all = Arc::new(tokio::sync::Semaphore::new(0));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let ready = Arc::clone(&all);
            connections.spawn(async move {
                let mut request = Vec::with_capacity(4096);
                tokio::io::AsyncReadExt::read_buf(&mut stream, &mut request).await.unwrap();
                let _permit = ready.acquire().await.unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
                tokio::io::AsyncReadExt::read_buf(&mut stream, &mut request).await.unwrap();
            });
            if connections.len() == KEPT {
                all.add_permits(tokio::sync::Semaphore::MAX_PERMITS / 2);
            }
        }
    });
    let mut visitors = JoinSet::new();
    for _ in 0..KEPT {
        let request = site.client.get(site.url("/first"));
        visitors.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    }
    assert_eq!(visitors.join_all().await, ["ok"; KEPT]);
    assert_eq!(site.get("/second").await.status(), 200);
    server.abort_all();
}

#[tokio::test]
async fn retries_end_when_the_budget_is_spent() {
    let site = Site::with(2, |options| {
        options.threads = Some(1);
        options.health.eject_after = 1_000_000;
        options.retries.budget_floor = 3;
        options.retries.budget_percent = 0;
    })
    .await;
    for upstream in &site.upstreams {
        upstream.behave(Behaviour::Reset);
    }
    for _ in 0..10 {
        assert_eq!(site.get("/").await.status(), 502);
    }
    let hits: u64 = site.upstreams.iter().map(|one| one.hits()).sum();
    assert_eq!(hits, 10 + 3);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_a_504_and_not_tried_again() {
    let site = Site::with(2, |options| {
        options.timeouts.response_head = std::time::Duration::from_millis(50);
    })
    .await;
    for upstream in &site.upstreams {
        upstream.behave(Behaviour::Hang);
    }
    assert_eq!(site.get("/").await.status(), 504);
    let hits = || site.upstreams.iter().map(|one| one.hits()).sum::<u64>();
    wait_until("one request arrived", || hits() == 1).await;
    site.wait_for(|status| status.upstreams.iter().all(|one| one.in_flight == 0)).await;
}

#[tokio::test]
async fn a_response_with_an_error_status_is_passed_on_and_counted() {
    let site = Site::with(2, |_| {}).await;
    for upstream in &site.upstreams {
        upstream.behave(Behaviour::Fail);
    }
    assert_eq!(site.get("/").await.status(), 500);
    let release = site.status().await.releases.remove(0);
    assert_eq!((release.requests, release.errors), (1, 1));
}

#[tokio::test]
async fn an_upstream_that_dies_under_load_costs_no_get() {
    let mut site = Site::with(2, |_| {}).await;
    let responses = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut visitors = JoinSet::new();
    for _ in 0..16 {
        let (client, url) = (site.client.clone(), site.url("/page"));
        let (responses, is_over) = (Arc::clone(&responses), Arc::clone(&is_over));
        visitors.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let response = client.get(&url).send().await.unwrap();
                assert_eq!(response.status(), 200);
                response.bytes().await.unwrap();
                responses.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for _ in 0..2 {
        let wanted = responses.load(Ordering::SeqCst) + 500;
        wait_until("visitors were served", || responses.load(Ordering::SeqCst) >= wanted).await;
        site.upstreams[0].stop().await;
    }
    is_over.store(true, Ordering::SeqCst);
    while let Some(ended) = visitors.join_next().await {
        ended.unwrap();
    }
    assert!(site.upstreams[0].hits() > 0);
    assert_eq!(site.status().await.releases[0].errors, 0);
}
