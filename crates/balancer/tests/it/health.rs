//! Who is left out, and when nobody is.

use crate::site::Site;
use crate::upstream::Behaviour;

async fn served_by(site: &Site) -> Vec<u64> {
    let before: Vec<u64> = site.upstreams.iter().map(|one| one.hits()).collect();
    for _ in 0..40 {
        assert!(site.get("/").await.status().is_success());
    }
    site.upstreams.iter().zip(before).map(|(one, before)| one.hits() - before).collect()
}

#[tokio::test]
async fn an_unhealthy_upstream_gets_nothing_until_it_is_well() {
    let site = Site::with(3, |_| {}).await;
    site.upstreams[1].set_healthy(false);
    site.wait_for(|status| !status.upstreams[1].healthy).await;
    assert_eq!(served_by(&site).await[1], 0);
    site.upstreams[1].set_healthy(true);
    site.wait_for(|status| status.upstreams[1].healthy).await;
    assert!(served_by(&site).await[1] > 0);
}

#[tokio::test]
async fn when_most_look_bad_all_are_used() {
    let site = Site::with(3, |_| {}).await;
    site.upstreams[0].set_healthy(false);
    site.upstreams[1].set_healthy(false);
    site.wait_for(|status| status.upstreams.iter().filter(|one| one.healthy).count() == 1).await;
    assert!(served_by(&site).await.iter().all(|hits| *hits > 0));
}

#[tokio::test]
async fn an_upstream_that_runs_another_revision_is_left_out() {
    let site = Site::with(2, |_| {}).await;
    let other =
        crate::upstream::TestUpstream::start(3, flotilla_core::slot::SlotName::Blue, 'b').await;
    let table = crate::site::table(2, 'a', &[&site.upstreams[0], &site.upstreams[1], &other]);
    assert_eq!(site.put(&table).await.status(), 200);
    site.wait_for(|status| status.upstreams.iter().any(|one| !one.healthy)).await;
    served_by(&site).await;
    site.wait_for(|status| {
        let bad = status.upstreams.iter().find(|one| !one.healthy);
        bad.is_some_and(|one| one.instance == other.instance)
    })
    .await;
}

#[tokio::test]
async fn an_upstream_whose_requests_fail_is_left_out_at_once() {
    let site = Site::with(3, |options| {
        options.threads = Some(1);
        options.health.eject_after = 1;
        options.health.eject_for = std::time::Duration::from_secs(3600);
    })
    .await;
    site.upstreams[2].behave(Behaviour::Reset);
    served_by(&site).await;
    assert_eq!(site.upstreams[2].hits(), 1);
    assert!(!site.status().await.upstreams[2].healthy);
}

#[tokio::test]
async fn an_ejected_upstream_comes_back() {
    let site = Site::with(3, |options| {
        options.health.eject_after = 1;
        options.health.eject_for = std::time::Duration::from_millis(1);
    })
    .await;
    site.upstreams[2].behave(Behaviour::Reset);
    served_by(&site).await;
    site.upstreams[2].behave(Behaviour::Answer);
    site.wait_for(|status| status.upstreams.iter().all(|one| one.healthy)).await;
    assert!(served_by(&site).await[2] > 0);
}
