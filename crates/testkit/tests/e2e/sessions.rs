//! Carts: whichever instance answers, whichever part of the session store is gone, nothing is lost.

use std::net::SocketAddr;
use std::time::Duration;

use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CART: &str = "/wp-json/flotilla-shop/v1/cart";
const REQUESTS: usize = 80;
/// How many of one visitor's requests are under way at once; each keeps a PHP worker.
const AT_ONCE: usize = 6;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_cart_takes_every_item_whatever_happens_to_the_store() {
    let fleet = Fleet::start(Settings::new("sessions").instances(3)).await.unwrap();
    let cookie = put_one_in(&fleet).await;
    let mut expected = 1;

    fill(&fleet, &cookie, async || {}).await;
    expected += REQUESTS;
    assert_eq!(mugs(&fleet, &cookie).await, expected, "while nothing happened");

    fill(&fleet, &cookie, async || {
        let killed = fleet.kill(Part::SessionNode(1)).unwrap();
        // It comes back empty.
        back(&fleet, Part::SessionNode(1), killed).await;
    })
    .await;
    expected += REQUESTS;
    assert_eq!(mugs(&fleet, &cookie).await, expected, "while a node was killed");

    fill(&fleet, &cookie, async || {
        fleet.signal(Part::SessionNode(2), Signal::SIGSTOP).unwrap();
    })
    .await;
    expected += REQUESTS;
    assert_eq!(mugs(&fleet, &cookie).await, expected, "while a node hung");
    fleet.signal(Part::SessionNode(2), Signal::SIGCONT).unwrap();

    fill(&fleet, &cookie, async || {}).await;
    expected += REQUESTS;
    assert_eq!(mugs(&fleet, &cookie).await, expected, "after a node came back with an old cart");

    // An agent takes no cart with it; a gateway is back in a moment, and the cart is not in it.
    fleet.kill(Part::Agent(1)).unwrap();
    let killed = fleet.kill(Part::Gateway(2)).unwrap();
    back(&fleet, Part::Gateway(2), killed).await;
    assert_eq!(mugs(&fleet, &cookie).await, expected, "after a gateway was killed");
}

async fn back(fleet: &Fleet, part: Part, killed: i32) {
    until("the part's return", LIMIT, async || match fleet.pid(part) {
        Ok(Some(pid)) if pid != killed => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
}

async fn slots(fleet: &Fleet) -> Vec<SocketAddr> {
    fleet.slots_in_service().await.unwrap().into_values().collect()
}

async fn put_one_in(fleet: &Fleet) -> String {
    let request = fleet.visit(slots(fleet).await[0], Method::POST, CART).unwrap();
    let answer = request.json(&json!({"item": "mug"})).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// Puts as many items in, over all instances at once; something happens when a third is done.
async fn fill(fleet: &Fleet, cookie: &str, happens: impl AsyncFnOnce()) {
    let slots = slots(fleet).await;
    assert_eq!(slots.len(), 3);
    let mut under_way = JoinSet::new();
    let mut happens = Some(happens);
    for number in 0..REQUESTS {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
        if number == REQUESTS / 3
            && let Some(happens) = happens.take()
        {
            happens().await;
        }
        let request = fleet.visit(slots[number % slots.len()], Method::POST, CART).unwrap();
        let request = request.header("cookie", cookie).json(&json!({"item": "mug"}));
        under_way.spawn(async move {
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.status());
        });
    }
    under_way.join_all().await;
}

/// Returns how many items are in the cart, the same from every instance.
async fn mugs(fleet: &Fleet, cookie: &str) -> usize {
    let mut counts = Vec::new();
    for slot in slots(fleet).await {
        let request = fleet.visit(slot, Method::GET, CART).unwrap().header("cookie", cookie);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        counts.push(usize::try_from(answer["cart"]["mug"].as_u64().unwrap_or_default()).unwrap());
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    counts[0]
}
