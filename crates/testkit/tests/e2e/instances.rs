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

/// Tells what PHP may do and see, and uploads as a plugin would.
const PROBE: &str = r#"<?php
add_action('init', function () {
    if (isset($_GET['probe'])) {
        $file = WP_CONTENT_DIR . '/by-php.php';
        $scratch = sys_get_temp_dir() . '/probe-' . ($_GET['probe'] ?: 'none');
        file_put_contents($scratch, 'mine');
        wp_send_json(array(
            'user' => posix_getuid(),
            'code_was_written' => (bool) @file_put_contents($file, '<?php'),
            'path' => ABSPATH,
            'scratch' => array_map('basename', glob(sys_get_temp_dir() . '/probe-*')),
            'included' => include __DIR__ . '/included.inc',
        ));
    }
    if (isset($_GET['upload'])) {
        wp_send_json(wp_upload_bits($_GET['upload'], null, str_repeat('photo ', 1000)));
    }
});
"#;

#[tokio::test]
async fn a_slot_keeps_php_from_the_code_and_shares_what_it_uploads() {
    let fleet = Fleet::start(Settings::new("slots").instances(2)).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    for included in ["first", "second", "third"] {
        let revision = code
            .publish(included, |code| {
                code.set_plugin("probe", PROBE)?;
                code.write(
                    "wp-content/mu-plugins/included.inc",
                    &format!("<?php return '{included}';"),
                )
            })
            .await
            .unwrap();
        fleet.deploy_well(&revision).await.unwrap();
        for (instance, slot) in fleet.slots_in_service().await.unwrap() {
            let told = get(&fleet, slot, &format!("/?probe={instance}")).await;
            assert_eq!(told["included"], included, "{instance} runs an old file");
            assert_eq!(told["path"], "/srv/flotilla/site/");
            assert_eq!(told["code_was_written"], false, "{instance}");
            assert_eq!(told["scratch"], json!([format!("probe-{instance}")]), "it is not private");
            assert_ne!(told["user"], 0, "PHP runs as root");
        }
    }
    what_one_instance_uploads_all_have(&fleet).await;
}

async fn what_one_instance_uploads_all_have(fleet: &Fleet) {
    let slots: Vec<SocketAddr> = fleet.slots_in_service().await.unwrap().into_values().collect();
    for (number, uploader) in slots.iter().enumerate() {
        let told = get(fleet, *uploader, &format!("/?upload=photo-{number}.jpg")).await;
        assert_eq!(told["error"], false, "{told}");
        let url = told["url"].as_str().unwrap();
        let path = url.split_once("/wp-content/").unwrap().1;
        for place in slots.iter().copied().chain([fleet.address().unwrap()]) {
            let request = fleet.visit(place, Method::GET, &format!("/wp-content/{path}")).unwrap();
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{place} does not have {path}");
            assert_eq!(answer.headers()["content-type"], "image/jpeg");
            assert_eq!(answer.bytes().await.unwrap().len(), 6000);
        }
    }
}

async fn get(fleet: &Fleet, place: SocketAddr, path: &str) -> Value {
    let answer = fleet.visit(place, Method::GET, path).unwrap().send().await.unwrap();
    answer.json().await.unwrap()
}

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
