//! Instances come and go, and none of them keeps anything that a visitor needs.

use std::net::SocketAddr;

use flotilla_testkit::exchange::tally;
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use reqwest::Method;
use serde_json::{Value, json};

use crate::assert_unnoticed;

const CART: &str = "/wp-json/flotilla-shop/v1/cart";

#[tokio::test]
async fn scaling_under_load_fails_no_request_and_carts_follow_their_visitors() {
    let fleet = Fleet::start(Settings::new("scale").instances(2)).await.unwrap();
    a_cart_is_the_same_on_every_instance(&fleet).await;

    let load = Load::start(&fleet, "scale", &Plan::default()).unwrap();
    load.more(30).await.unwrap();
    fleet.run(&["scale", "5"]).await.unwrap().ok().unwrap();
    fleet.whole(5).await.unwrap();
    load.served_by(&["web-1", "web-2", "web-3", "web-4", "web-5"]).await.unwrap();
    fleet.run(&["scale", "2"]).await.unwrap().ok().unwrap();
    fleet.whole(2).await.unwrap();
    load.more(50).await.unwrap();
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    assert_unnoticed(&exchanges, &["1".to_owned()]);
    orders::check(&fleet, &exchanges).await.unwrap();
    assert_eq!(fleet.layout().instances_made().len(), 2, "a removed instance left its directory");
}

/// A visitor's requests go to another instance each time; the session is one.
async fn a_cart_is_the_same_on_every_instance(fleet: &Fleet) {
    let slots: Vec<SocketAddr> = fleet.slots_in_service().await.unwrap().into_values().collect();
    let first = fleet.visit(slots[0], Method::POST, CART).unwrap();
    let response = first.json(&json!({"item": "mug"})).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for round in 1..10 {
        let slot = slots[round % slots.len()];
        let request = fleet.visit(slot, Method::POST, CART).unwrap().header("cookie", &cookie);
        let answer: Value =
            request.json(&json!({"item": "mug"})).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["cart"]["mug"], json!(round + 1), "{answer}");
    }
    for place in slots.into_iter().chain([fleet.address().unwrap()]) {
        let request = fleet.visit(place, Method::GET, CART).unwrap().header("cookie", &cookie);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["cart"], json!({"mug": 10}), "{answer}");
    }
}
