//! HTTP/1.1 as visitors speak it.

use std::time::Duration;

use serde_json::Value;

use crate::client::RawClient;
use crate::site::Site;
use crate::upstream::CHUNK_BYTES;

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let site = Site::with(1, |options| options.threads = Some(1)).await;
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    for _ in 0..5 {
        client.send("GET /bytes/5 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.head().await.contains("content-length: 5"));
        assert_eq!(client.read_to("xxxxx").await, "xxxxx");
    }
    client.send("HEAD /bytes/5 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.head().await.contains("content-length: 5"));
    for (path, line) in [("/status/204", "http/1.1 204"), ("/status/304", "http/1.1 304")] {
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert!(client.head().await.starts_with(line), "{path}");
    }
    client.send("GET /bytes/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(client.head().await.contains("connection: close"));
    assert_eq!(client.rest().await, "x");
    assert_eq!(site.upstreams[0].connections(), 1);
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let site = Site::with(2, |_| {}).await;
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    client
        .send(
            "GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /bytes/2 HTTP/1.1\r\nhost: a\r\n\r\n\
             GET /bytes/3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
    for length in 1..=3 {
        assert!(client.head().await.contains(&format!("content-length: {length}")));
        let body = "x".repeat(length);
        assert_eq!(client.read_to(&body).await, body);
    }
}

#[tokio::test]
async fn an_old_client_gets_an_answer_it_understands() {
    let site = Site::with(1, |_| {}).await;
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    client.send("GET /chunks/2 HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(!client.head().await.contains("chunked"));
    assert_eq!(client.rest().await.len(), 2 * CHUNK_BYTES);
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let site = Site::with(1, |_| {}).await;
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 100"));
    client.send("abc").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
    assert!(client.read_to("}").await.contains("\"length\":3"));
}

#[tokio::test]
async fn a_large_body_with_a_length_arrives_whole() {
    let site = Site::with(1, |_| {}).await;
    let body = vec![7_u8; 5_000_000];
    let response = site.client.post(site.url("/echo")).body(body).send().await.unwrap();
    let told: Value = response.json().await.unwrap();
    assert_eq!((&told["length"], &told["sum"]), (&5_000_000.into(), &35_000_000.into()));
}

#[tokio::test]
async fn a_large_body_in_chunks_arrives_whole() {
    let site = Site::with(1, |_| {}).await;
    for method in ["POST", "GET"] {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        let head = "/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send(&format!("{method} {head}")).await;
        for _ in 0..50 {
            client.send(&format!("{:x}\r\n{}\r\n", 40_000, "a".repeat(40_000))).await;
        }
        client.send("0\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 200"));
        let told = client.read_to("}").await;
        assert!(told.contains("\"length\":2000000"), "{method} {told}");
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let site = Site::with(1, |_| {}).await;
    let chunked = site.get("/chunks/500").await.bytes().await.unwrap();
    assert_eq!(chunked.len(), 500 * CHUNK_BYTES);
    let sized = site.get("/bytes/3000000").await.bytes().await.unwrap();
    assert_eq!(sized.len(), 3_000_000);
}

#[tokio::test]
async fn an_upload_may_take_longer_than_an_answer() {
    let site = Site::with(1, |options| {
        options.timeouts.response_head = Duration::from_millis(300);
    })
    .await;
    let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head).await;
    for _ in 0..12 {
        client.send(&format!("{:x}\r\n{}\r\n", 40_000, "a".repeat(40_000))).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn a_web_socket_is_passed_through() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::bare(|_| {});
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let table = serde_json::json!({
        "version": 1, "revision": null, "hold": null,
        "upstreams": [{
            "instance": "web-1", "slot": "blue", "workers_max": 4,
            "address": listener.local_addr().unwrap(),
        }],
    });
    let table = serde_json::from_value(table).unwrap();
    assert_eq!(site.put(&table).await.status(), 200);
    let upstream = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            if !head.starts_with("get /socket") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                continue;
            }
            assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"));
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                          upgrade: websocket\r\n\r\nhello ";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        }
    };
    let visitor = async {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        client
            .send(
                "GET /socket HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\n\
                 upgrade: websocket\r\n\r\n",
            )
            .await;
        let head = client.head().await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        client.send("world").await;
        assert_eq!(client.read_to("world").await, "hello world");
    };
    tokio::select! {
        () = upstream => {}
        () = visitor => {}
    }
    site.wait_for(|status| status.upstreams.iter().all(|one| one.in_flight == 0)).await;
}
