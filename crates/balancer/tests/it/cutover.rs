//! The moment in which the fleet moves to another release.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flotilla_core::slot::SlotName;
use flotilla_core::table::REVISION_HEADER;
use http::Method;
use tokio::task::JoinSet;

use crate::site::{Site, table, wait_until};
use crate::upstream::{Behaviour, TestUpstream, revision};

const DIGITS: [char; 6] = ['1', '2', '3', '4', '5', '6'];
const VISITORS: usize = 16;
const RESPONSES_EACH: usize = 300;

#[tokio::test]
async fn no_request_that_begins_after_a_new_response_gets_an_old_one() {
    let site = Site::bare(|_| {});
    let mut upstreams = Vec::new();
    for (number, digit) in (1..).zip(DIGITS) {
        let slot = SlotName::ALL[usize::from(number) % 2];
        upstreams.push(TestUpstream::start(number, slot, digit).await);
    }
    assert_eq!(site.put(&table(1, DIGITS[0], &[&upstreams[0]])).await.status(), 200);
    let newest = Arc::new(AtomicUsize::new(0));
    let responses = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let method = if number % 2 == 0 { Method::GET } else { Method::POST };
        let (client, url) = (site.client.clone(), site.url("/page"));
        let (newest, responses) = (Arc::clone(&newest), Arc::clone(&responses));
        let is_over = Arc::clone(&is_over);
        visitors.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let known = newest.load(Ordering::SeqCst);
                let response = client.request(method.clone(), &url).send().await.unwrap();
                assert_eq!(response.status(), 200);
                let told = response.headers()[REVISION_HEADER].to_str().unwrap().to_owned();
                response.bytes().await.unwrap();
                let release = DIGITS.iter().position(|one| revision(*one) == told).unwrap();
                assert!(release >= known, "release {release} answered after {known}");
                newest.fetch_max(release, Ordering::SeqCst);
                responses.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for (index, upstream) in upstreams.iter().enumerate().skip(1) {
        let wanted = responses.load(Ordering::SeqCst) + RESPONSES_EACH;
        wait_until("visitors were served", || responses.load(Ordering::SeqCst) >= wanted).await;
        let version = u64::try_from(index).unwrap() + 1;
        assert_eq!(site.put(&table(version, DIGITS[index], &[upstream])).await.status(), 200);
    }
    wait_until("the last release answered", || newest.load(Ordering::SeqCst) == 5).await;
    is_over.store(true, Ordering::SeqCst);
    while let Some(ended) = visitors.join_next().await {
        ended.unwrap();
    }
    let status = site.status().await;
    assert_eq!(status.releases.iter().map(|one| one.errors).sum::<u64>(), 0);
}

#[tokio::test]
async fn requests_on_the_old_slots_are_counted_until_they_end() {
    let site = Site::with(1, |_| {}).await;
    let green = TestUpstream::start(1, SlotName::Green, 'b').await;
    site.upstreams[0].behave(Behaviour::Hang);
    let slow = site.client.get(site.url("/slow")).send();
    let watched = async {
        site.wait_for(|status| status.in_flight(SlotName::Blue) == 1).await;
        assert_eq!(site.put(&table(2, 'b', &[&green])).await.status(), 200);
        assert_eq!(site.get("/").await.headers()[REVISION_HEADER], *revision('b'));
        let status = site.status().await;
        assert_eq!(status.in_flight(SlotName::Blue), 1, "{status:?}");
        assert_eq!(status.upstreams.len(), 2);
        site.upstreams[0].behave(Behaviour::Answer);
    };
    let (slow, ()) = tokio::join!(slow, watched);
    assert_eq!(slow.unwrap().headers()[REVISION_HEADER], *revision('a'));
    let status = site.wait_for(|status| status.upstreams.len() == 1).await;
    assert_eq!(status.upstreams[0].slot, SlotName::Green);
    let counts: Vec<_> =
        status.releases.iter().map(|one| (one.since_version, one.requests, one.errors)).collect();
    assert_eq!(counts, [(2, 1, 0), (1, 1, 0)]);
}
