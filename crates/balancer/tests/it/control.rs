//! The control interface and what survives a restart.

use flotilla_balancer::start;
use flotilla_core::table::{STATUS_PATH, TABLE_PATH, Table};

use crate::site::{Site, TOKEN, options, table};

#[tokio::test]
async fn a_stranger_is_told_nothing() {
    let site = Site::with(1, |_| {}).await;
    for path in [STATUS_PATH, TABLE_PATH, "/", "/v1/other"] {
        for token in [None, Some("wrong"), Some(""), Some("control-secret2")] {
            let mut request = site.client.get(site.control_url(path));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path} {token:?}");
            assert_eq!(response.text().await.unwrap(), "");
        }
    }
    let put = site.client.put(site.control_url(TABLE_PATH)).json(&Table::default());
    assert_eq!(put.send().await.unwrap().status(), 401);
    assert_eq!(site.status().await.version, 1);
}

#[tokio::test]
async fn only_a_newer_table_is_taken() {
    let site = Site::with(1, |_| {}).await;
    let upstream = &site.upstreams[0];
    let second = table(5, 'a', &[upstream]);
    assert_eq!(site.put(&second).await.status(), 200);
    assert_eq!(site.put(&second).await.status(), 200, "the same one again");
    for (version, digit) in [(5, 'b'), (4, 'a'), (0, 'a')] {
        let response = site.put(&table(version, digit, &[upstream])).await;
        assert_eq!(response.status(), 409);
        let told: serde_json::Value = response.json().await.unwrap();
        assert_eq!(told["version"], 5);
    }
    let url = site.control_url(TABLE_PATH);
    let nonsense = site.client.put(url).bearer_auth(TOKEN).body("{").send().await.unwrap();
    assert_eq!(nonsense.status(), 400);
    assert_eq!(site.status().await.version, 5);
}

#[tokio::test]
async fn after_a_restart_it_serves_without_the_foreman() {
    let site = Site::with(1, |_| {}).await;
    let moved = table(9, 'a', &[&site.upstreams[0]]);
    assert_eq!(site.put(&moved).await.status(), 200);
    let (directory, upstreams, client) = site.stop().await;
    let balancer = start(options(&directory)).unwrap();
    let site = Site { balancer, upstreams, client, directory };
    assert_eq!(site.get("/").await.status(), 200);
    let status = site.status().await;
    assert_eq!((status.version, status.releases[0].since_version), (9, 1));
    assert_eq!(site.put(&table(8, 'a', &[&site.upstreams[0]])).await.status(), 409);
}

#[tokio::test]
async fn a_corrupt_state_file_leaves_a_balancer_that_says_503() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory);
    std::fs::write(&options.state_file, b"not json").unwrap();
    let client = flotilla_host::http::client_builder().no_proxy().build().unwrap();
    let balancer = start(options).unwrap();
    let site = Site { balancer, upstreams: Vec::new(), client, directory };
    let response = site.get("/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(response.text().await.unwrap().contains(&id));
    assert!(site.directory.path().join("table.json.corrupt").exists());
    assert_eq!(site.status().await.version, 0);
}

#[tokio::test]
async fn a_table_that_cannot_be_kept_is_not_used() {
    let site = Site::with(1, |_| {}).await;
    // A directory in the place of the temporary file cannot be written.
    std::fs::create_dir(site.directory.path().join("table.json.tmp")).unwrap();
    let response = site.put(&table(2, 'b', &[&site.upstreams[0]])).await;
    assert_eq!(response.status(), 500);
    assert_eq!(site.status().await.version, 1);
}

#[tokio::test]
async fn metrics_name_what_is_counted() {
    let site = Site::with(1, |_| {}).await;
    site.get("/").await;
    let text = site.client.get(site.control_url("/metrics")).send().await.unwrap();
    let text = text.text().await.unwrap();
    for line in [
        "flotilla_balancer_requests_total{status=\"2xx\"} 1",
        "flotilla_balancer_request_duration_seconds_count 1",
        "flotilla_balancer_table_version 1",
        "flotilla_balancer_retries_total 0",
        "flotilla_balancer_access_log_dropped_lines_total 0",
        "flotilla_balancer_upstream_in_flight_requests{instance=\"web-1\",slot=\"blue\"} 0",
        "flotilla_balancer_upstream_healthy_state{instance=\"web-1\",slot=\"blue\"} 1",
        "flotilla_balancer_upstream_requests_total{instance=\"web-1\",slot=\"blue\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
