//! People who may change code are sent to the workshop, and nobody else.

use std::time::{SystemTime, UNIX_EPOCH};

use flotilla_balancer::WorkshopOptions;
use flotilla_core::id::Token;
use flotilla_core::slot::SlotName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sha2::Sha256;

use crate::site::{Site, wait_until};
use crate::upstream::{Behaviour, TestUpstream};

const KEY: &str = "workshop-key";
const LOGGED_IN: &str = "wordpress_logged_in_12ab=maria";
/// More than the balancer holds of a body.
const LARGE: usize = 200_000;

/// Starts a slot that hands back what it may, and a workshop that answers.
async fn start() -> (Site, TestUpstream) {
    let workshop = TestUpstream::start(9, SlotName::Blue, 'b').await;
    let address = workshop.address;
    let site = Site::with(1, |options| {
        let key = Token::new(KEY.to_owned());
        options.workshop = Some(WorkshopOptions { address, key, workers_max: 4 });
    })
    .await;
    site.upstreams[0].behave(Behaviour::HandBack);
    // It is used once it has answered its checks.
    for _ in 0..1000 {
        if workshop.hits() > 0 {
            break;
        }
        ask(&site, Method::GET, "/first", LOGGED_IN).send().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    (site, workshop)
}

fn ask(site: &Site, method: Method, path: &str, cookie: &str) -> RequestBuilder {
    site.client.request(method, site.url(path)).header("cookie", cookie)
}

fn ticket() -> String {
    #[expect(clippy::disallowed_methods, reason = "it ends by the clock on the wall")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let said = format!("{}.1", now + 600);
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(said.as_bytes());
    let digest = mac.finalize().into_bytes();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{LOGGED_IN}; flotilla_workshop={said}.{digits}")
}

fn has(upstream: &TestUpstream, line: &str) -> bool {
    upstream.ran().iter().any(|one| one == line)
}

#[tokio::test]
async fn what_a_slot_hands_back_is_asked_of_the_workshop_as_a_whole() {
    let (site, workshop) = start().await;
    let post = ask(&site, Method::POST, "/wp-admin/update.php", LOGGED_IN).body("abc");
    let told: Value = post.send().await.unwrap().json().await.unwrap();
    assert_eq!((told["length"].as_u64(), told["sum"].as_u64()), (Some(3), Some(294)));
    assert!(has(&workshop, "POST /wp-admin/update.php"));
    assert!(!has(&site.upstreams[0], "POST /wp-admin/update.php"), "it was done twice");
    let names: Vec<&str> =
        told["headers"].as_array().unwrap().iter().filter_map(|one| one[0].as_str()).collect();
    assert!(!names.contains(&"x-flotilla-workshop"), "{names:?}");
}

#[tokio::test]
async fn customers_and_what_cannot_be_repeated_stay_on_the_fleet() {
    let (site, workshop) = start().await;
    assert_eq!(site.get("/shop").await.status(), 200);
    let large = ask(&site, Method::POST, "/large", LOGGED_IN).body("x".repeat(LARGE));
    assert_eq!(large.send().await.unwrap().status(), 200);
    let claim = site.client.get(site.url("/claim")).header("x-flotilla-workshop", "offered");
    assert_eq!(claim.send().await.unwrap().status(), 200);
    for line in ["GET /shop", "POST /large", "GET /claim"] {
        assert!(has(&site.upstreams[0], line), "{line}");
        assert!(!has(&workshop, line), "{line}");
    }
}

#[tokio::test]
async fn a_signed_cookie_leads_there_at_once_with_a_body_of_any_size() {
    let (site, workshop) = start().await;
    let before = site.status().await.releases[0].requests;
    let large = ask(&site, Method::POST, "/zip", &ticket()).body("x".repeat(LARGE));
    assert_eq!(large.send().await.unwrap().status(), 200);
    assert!(has(&workshop, "POST /zip"));
    assert!(!site.upstreams[0].seen().contains(&"POST /zip".to_owned()));
    workshop.behave(Behaviour::Fail);
    let failed = ask(&site, Method::GET, "/broken", &ticket()).send().await.unwrap();
    assert_eq!(failed.status(), 500);
    let release = site.status().await.releases.remove(0);
    assert_eq!((release.requests, release.errors), (before, 0), "the workshop is no release");
}

#[tokio::test]
async fn without_the_workshop_the_fleet_serves_everybody() {
    let (site, mut workshop) = start().await;
    workshop.stop().await;
    for number in 0..3 {
        let path = format!("/there/{number}");
        assert_eq!(ask(&site, Method::GET, &path, &ticket()).send().await.unwrap().status(), 200);
        let post = ask(&site, Method::POST, &path, &ticket()).body("x");
        assert_eq!(post.send().await.unwrap().status(), 200);
    }
    wait_until("the slot has all", || has(&site.upstreams[0], "POST /there/2")).await;
}
