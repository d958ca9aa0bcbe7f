//! Requests that wait while the site is between two releases.

use std::time::Duration;

use flotilla_core::slot::SlotName;
use flotilla_core::table::{HELD_HEADER, HOLD_HEADER, REVISION_HEADER};

use crate::site::{Site, holding, table};
use crate::upstream::{FILE, TestUpstream, revision};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn held_requests_wait_and_then_get_the_new_release() {
    let site = Site::with(1, |_| {}).await;
    let green = TestUpstream::start(1, SlotName::Green, 'b').await;
    let held = holding(&table(1, 'a', &[&site.upstreams[0]]), 2, LONG);
    assert_eq!(site.put(&held).await.status(), 200);
    let get = site.client.get(site.url("/cart")).send();
    let post = site.client.post(site.url("/checkout")).body("x".repeat(200_000)).send();
    let release = async {
        site.wait_for(|status| status.holding == 2).await;
        assert_eq!(site.get(FILE).await.status(), 200);
        assert_eq!(site.upstreams[0].seen(), [format!("GET {FILE}")]);
        assert_eq!(site.put(&table(3, 'b', &[&green])).await.status(), 200);
    };
    let (get, post, ()) = tokio::join!(get, post, release);
    for response in [get.unwrap(), post.unwrap()] {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[REVISION_HEADER], *revision('b'));
    }
    assert_eq!(site.status().await.holding, 0);
}

#[tokio::test]
async fn what_looks_like_a_file_and_is_none_waits_for_the_new_release() {
    let site = Site::with(1, |options| options.retries.attempts_max = 0).await;
    let green = TestUpstream::start(1, SlotName::Green, 'b').await;
    let held = holding(&table(1, 'a', &[&site.upstreams[0]]), 2, LONG);
    assert_eq!(site.put(&held).await.status(), 200);
    let icon = site.client.get(site.url("/favicon.ico")).header(HOLD_HEADER, "").send();
    let release = async {
        site.wait_for(|status| status.holding == 1).await;
        let next = table(3, 'b', &[&green]);
        assert_eq!(site.put(&next).await.status(), 200);
    };
    let (icon, ()) = tokio::join!(icon, release);
    let icon = icon.unwrap();
    assert_eq!(icon.status(), 200);
    assert_eq!(icon.headers()[REVISION_HEADER], *revision('b'));
    assert!(!icon.text().await.unwrap().contains(HOLD_HEADER), "told after the hold");
    assert_eq!(site.upstreams[0].ran(), [""; 0], "PHP ran under a hold");
    assert_eq!(green.ran(), ["GET /favicon.ico"]);
    let status = site.status().await;
    assert_eq!(status.releases.iter().map(|one| one.errors).sum::<u64>(), 0);
}

#[tokio::test]
async fn a_hold_gives_up_at_its_limit_also_for_what_looks_like_a_file() {
    let site = Site::with(1, |_| {}).await;
    let first = table(1, 'a', &[&site.upstreams[0]]);
    let held = holding(&first, 2, Duration::from_millis(50));
    assert_eq!(site.put(&held).await.status(), 200);
    let response = site.get("/missing.png").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    assert!(!response.headers().contains_key(HELD_HEADER));
    assert_eq!(site.upstreams[0].ran(), [""; 0]);
}

#[tokio::test]
async fn a_hold_gives_up_at_its_limit() {
    let site = Site::with(1, |_| {}).await;
    let first = table(1, 'a', &[&site.upstreams[0]]);
    let held = holding(&first, 2, Duration::from_millis(50));
    assert_eq!(site.put(&held).await.status(), 200);
    let response = site.get("/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(site.upstreams[0].hits(), 0);
}

#[tokio::test]
async fn only_so_many_requests_are_held() {
    let site = Site::with(1, |options| options.limits.holding_max = 1).await;
    let first = table(1, 'a', &[&site.upstreams[0]]);
    assert_eq!(site.put(&holding(&first, 2, LONG)).await.status(), 200);
    let one = site.client.get(site.url("/one")).send();
    let other = async {
        site.wait_for(|status| status.holding == 1).await;
        assert_eq!(site.get("/other").await.status(), 503);
        let after = table(3, 'a', &[&site.upstreams[0]]);
        assert_eq!(site.put(&after).await.status(), 200);
    };
    let (one, ()) = tokio::join!(one, other);
    assert_eq!(one.unwrap().status(), 200);
}

#[tokio::test]
async fn a_visitor_who_leaves_is_no_longer_held() {
    let site = Site::with(1, |_| {}).await;
    let first = table(1, 'a', &[&site.upstreams[0]]);
    assert_eq!(site.put(&holding(&first, 2, LONG)).await.status(), 200);
    let get = site.client.get(site.url("/one")).send();
    tokio::select! {
        _ = get => panic!("a held request was answered"),
        _ = site.wait_for(|status| status.holding == 1) => {}
    }
    site.wait_for(|status| status.holding == 0).await;
}
