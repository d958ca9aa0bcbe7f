//! What an upstream is told, and what it is not.

use serde_json::Value;

use crate::client::RawClient;
use crate::site::Site;

fn header<'told>(told: &'told Value, name: &str) -> Vec<&'told str> {
    let headers = told["headers"].as_array().unwrap();
    let same = headers.iter().filter(|pair| pair[0] == name);
    same.map(|pair| pair[1].as_str().unwrap()).collect()
}

async fn told(
    site: &Site,
    change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
) -> Value {
    let request = change(site.client.get(site.url("/echo?a=b&c")));
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn strangers_cannot_pretend_to_be_forwarded() {
    let site = Site::with(1, |_| {}).await;
    let told = told(&site, |request| {
        request
            .header("host", "shop.example")
            .header("x-forwarded-for", "203.0.113.5")
            .header("x-forwarded-proto", "https")
            .header("x-real-ip", "203.0.113.5")
            .header("forwarded", "for=203.0.113.5")
            .header("x-request-id", "mine")
            .header("connection", "x-secret")
            .header("x-secret", "1")
    })
    .await;
    assert_eq!(told["uri"], "/echo?a=b&c");
    assert_eq!(header(&told, "host"), ["shop.example"]);
    assert_eq!(header(&told, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&told, "x-forwarded-proto"), ["http"]);
    assert_eq!(header(&told, "x-forwarded-host"), ["shop.example"]);
    for name in ["x-real-ip", "forwarded", "x-secret", "connection"] {
        assert!(header(&told, name).is_empty(), "{name}");
    }
    assert_eq!(header(&told, "x-request-id")[0].len(), 32);
}

#[tokio::test]
async fn trusted_proxies_are_believed() {
    let site = Site::with(1, |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let told = told(&site, |request| {
        request
            .header("x-forwarded-for", "203.0.113.5")
            .header("x-forwarded-proto", "https")
            .header("x-request-id", "theirs-1")
    })
    .await;
    assert_eq!(header(&told, "x-forwarded-for"), ["203.0.113.5"]);
    assert_eq!(header(&told, "x-forwarded-proto"), ["https"]);
    assert_eq!(header(&told, "x-request-id"), ["theirs-1"]);
}

#[tokio::test]
async fn the_visitor_behind_trusted_proxies_is_told_and_logged() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let site = Site::with(1, |options| {
        options.trusted_proxies =
            ["127.0.0.0/8", "10.0.0.0/8"].map(|range| range.parse().unwrap()).into();
        options.access_log = Some(log.clone());
    })
    .await;
    let told = told(&site, |request| {
        request
            .header("x-forwarded-for", "192.0.2.66, 2001:db8::7")
            .header("x-forwarded-for", "10.1.2.3")
            .header("forwarded", "for=192.0.2.66")
            .header("x-real-ip", "192.0.2.66")
    })
    .await;
    assert_eq!(header(&told, "x-forwarded-for"), ["2001:db8::7"]);
    for name in ["forwarded", "x-real-ip"] {
        assert!(header(&told, name).is_empty(), "{name}");
    }
    site.stop().await;
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(line["client"], "2001:db8::7");
}

#[tokio::test]
async fn the_request_id_comes_back_and_private_lines_do_not() {
    let site = Site::with(1, |_| {}).await;
    let response = site.get("/hop").await;
    let headers = response.headers();
    assert_eq!(headers["x-request-id"].len(), 32);
    assert_eq!(headers["x-public"], "1");
    assert!(!headers.contains_key("x-private"));
    assert!(!headers.contains_key("server"));
}

#[tokio::test]
async fn the_fleets_own_paths_are_not_for_visitors() {
    let site = Site::with(1, |_| {}).await;
    for path in ["/.flotilla/health", "/%2eflotilla/health", "//.flotilla/health"] {
        assert_eq!(site.get(path).await.status(), 404, "{path}");
    }
    assert_eq!(site.upstreams[0].hits(), 0);
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let site = Site::with(1, |_| {}).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", "400"),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\nx", "400"),
    ] {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        client.send(head).await;
        let answer = client.head().await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{head:?} got {answer}");
    }
    assert_eq!(site.upstreams[0].hits(), 0);
}

#[tokio::test]
async fn a_length_beside_chunks_never_reaches_an_upstream() {
    let site = Site::with(1, |_| {}).await;
    for lines in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
    ] {
        let mut client = RawClient::connect(site.balancer.addresses()[0]).await;
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        client
            .send(&format!("POST /echo HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n0\r\n\r\n{smuggled}"))
            .await;
        let all = client.rest().await;
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "one answer, then closed: {all}");
    }
    assert!(site.upstreams[0].seen().iter().all(|line| line == "POST /echo"));
}
