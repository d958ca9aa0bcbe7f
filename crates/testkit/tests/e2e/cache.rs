//! The object cache of all instances under a real WordPress, and names of uploads that arrive at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use flotilla_testkit::exchange::{Exchange, failed, tally};
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use nix::sys::signal::Signal;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const INSTANCES: usize = 3;
const WRITES: usize = 200;
const UPLOADS: usize = 48;
/// As many requests as PHP workers of all slots, so that none waits for long.
const AT_ONCE: usize = 9;
/// Of a page whose values are in the cache, while visitors order; without a cache it takes 20 and more.
const QUERIES_MAX: u64 = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// Lets a test do to options and uploads what plugins and editors do.
const LAB: &str = r#"<?php
add_action( 'init', function () {
	$name = $_GET['name'] ?? '';
	switch ( $_GET['lab'] ?? '' ) {
		case 'add':
			$answer = add_option( $name, $_GET['value'], '', $_GET['autoload'] );
			break;
		case 'update':
			$answer = update_option( $name, $_GET['value'], $_GET['autoload'] ?? null );
			break;
		case 'delete':
			$answer = delete_option( $name );
			break;
		case 'get':
			$answer = get_option( $name, null );
			break;
		case 'queries':
			add_action( 'wp_footer', function () {
				echo '<!-- queries:', get_num_queries(), ' cache:', (int) wp_using_ext_object_cache(), ' -->';
			}, 9999 );
			return;
		default:
			return;
	}
	wp_send_json( $answer );
}, 0 );
add_filter( 'determine_current_user', function ( $user ) {
	return isset( $_SERVER['HTTP_X_LAB'] ) ? 1 : $user;
}, 99 );
if ( isset( $_SERVER['HTTP_X_STOCK'] ) ) {
	remove_filter( 'wp_unique_filename', array( 'Flotilla\Uploads', 'reserve' ), PHP_INT_MAX );
}
"#;

/// As a caching plugin leaves it in the site.
const DROP_IN: &str = "<?php
require ABSPATH . WPINC . '/cache.php';
header( 'X-Object-Cache: of the site' );
";

#[tokio::test]
async fn all_instances_share_an_object_cache_that_nobody_needs() {
    let fleet = Fleet::start(Settings::new("cache").instances(3)).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    let lab = code.publish("Lab", |code| code.set_plugin("lab", LAB)).await.unwrap();
    fleet.deploy_well(&lab).await.unwrap();
    let slots: Vec<SocketAddr> = fleet.slots_in_service().await.unwrap().into_values().collect();
    assert_eq!(slots.len(), INSTANCES);

    a_page_that_was_seen_needs_no_query(&fleet, &slots).await;
    an_option_is_the_same_everywhere_at_once(&fleet, &slots).await;
    of_options_that_are_written_at_once_none_is_lost(&fleet, &slots).await;
    names_of_uploads_are_given_once(&fleet, &slots).await;
    a_cache_that_hangs_is_missed_by_nobody(&fleet, &slots).await;
    a_cache_that_is_killed_is_missed_by_nobody(&fleet).await;

    let change = |code: &flotilla_testkit::code::Clone| {
        let path = code.directory().join("wp-content/object-cache.php");
        flotilla_testkit::wordpress::write(&path, DROP_IN)
    };
    let own = code.publish("A cache of its own", change).await.unwrap();
    fleet.deploy_well(&own).await.unwrap();
    let address = fleet.address().unwrap();
    let response = fleet.visit(address, Method::GET, "/").unwrap().send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-object-cache"], "of the site");
    let log = std::fs::read_to_string(fleet.layout().log("agent-web-1")).unwrap();
    assert!(log.contains("brings an object cache of its own, so flotilla's steps aside"), "{log}");
}

/// Asks a slot to do something with an option; returns WordPress' answer.
async fn ask(fleet: &Fleet, slot: SocketAddr, what: &str) -> Value {
    let request = fleet.visit(slot, Method::GET, &format!("/?lab={what}")).unwrap();
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{what}");
    response.json().await.unwrap()
}

/// Asks for the front page; returns how many queries it took.
async fn queries(fleet: &Fleet, slot: SocketAddr) -> anyhow::Result<u64> {
    let request = fleet.visit(slot, Method::GET, "/?lab=queries")?;
    let page = request.send().await?.text().await?;
    let told = page.split_once("<!-- queries:").and_then(|(_, told)| told.split_once(' '));
    let (count, rest) = told.with_context(|| format!("the page does not tell: {page}"))?;
    ensure!(rest.starts_with("cache:1"), "the object cache is not used");
    Ok(count.parse()?)
}

async fn a_page_that_was_seen_needs_no_query(fleet: &Fleet, slots: &[SocketAddr]) {
    let first = queries(fleet, slots[0]).await.unwrap();
    // Whichever instance it was that saw it.
    until("a page without a query", LIMIT, async || match queries(fleet, slots[1]).await {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
    println!("the front page: {first} queries at first, 0 then");
}

async fn an_option_is_the_same_everywhere_at_once(fleet: &Fleet, slots: &[SocketAddr]) {
    for autoload in ["yes", "no"] {
        let name = format!("shared_{autoload}");
        for slot in slots {
            assert_eq!(ask(fleet, *slot, &format!("get&name={name}")).await, Value::Null);
        }
        for round in 0..12 {
            let (writer, value) = (slots[round % slots.len()], format!("value-{round}"));
            let verb = if round == 0 { "add" } else { "update" };
            let what = format!("{verb}&name={name}&value={value}&autoload={autoload}");
            assert_eq!(ask(fleet, writer, &what).await, Value::Bool(true), "{what}");
            for slot in slots {
                assert_eq!(ask(fleet, *slot, &format!("get&name={name}")).await, json!(value));
            }
        }
        assert_eq!(ask(fleet, slots[0], &format!("delete&name={name}")).await, Value::Bool(true));
        for slot in slots {
            assert_eq!(ask(fleet, *slot, &format!("get&name={name}")).await, Value::Null);
        }
    }
}

/// Sends requests, some at a time, and returns the answers in the same order.
async fn all_at_once(
    requests: impl IntoIterator<Item = reqwest::RequestBuilder>,
) -> Vec<(StatusCode, Value)> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (number, request) in requests.into_iter().enumerate() {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let answer = request.send().await.unwrap();
            (number, (answer.status(), answer.json().await.unwrap()))
        });
    }
    let mut answers = running.join_all().await;
    answers.sort_unstable_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn of_options_that_are_written_at_once_none_is_lost(fleet: &Fleet, slots: &[SocketAddr]) {
    let option = |number: usize| {
        let autoload = if number.is_multiple_of(2) { "yes" } else { "no" };
        (format!("written_{number}"), autoload)
    };
    let mut wanted = BTreeMap::new();
    for round in 0..2 {
        let requests = (0..WRITES).map(|number| {
            let (name, autoload) = option(number);
            let verb = if round == 0 { "add" } else { "update" };
            let what =
                format!("/?lab={verb}&name={name}&value={round}-{number}&autoload={autoload}");
            let slot = slots[(number + round) % slots.len()];
            fleet.visit(slot, Method::GET, &what).unwrap()
        });
        let done = all_at_once(requests).await;
        let expected = vec![(StatusCode::OK, Value::Bool(true)); WRITES];
        assert_eq!(done, expected, "round {round}");
        wanted.extend((0..WRITES).map(|number| (option(number).0, format!("{round}-{number}"))));
        for slot in slots {
            let requests = wanted.keys().map(|name| {
                fleet.visit(*slot, Method::GET, &format!("/?lab=get&name={name}")).unwrap()
            });
            let told = all_at_once(requests).await;
            let wrong: Vec<_> = wanted
                .iter()
                .zip(&told)
                .filter(|((_, value), (_, told))| json!(value) != *told)
                .collect();
            assert!(wrong.is_empty(), "round {round}, {slot}: {wrong:?}");
        }
    }
}

/// Makes the smallest picture there is, each of another colour.
fn picture(number: u8) -> Vec<u8> {
    let mut picture = b"GIF89a\x01\x00\x01\x00\x80\x00\x00".to_vec();
    picture.extend([number, 0, 0, 255, 255, 255]);
    picture.extend(b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b");
    picture
}

/// Uploads pictures of one name to all slots at once; returns how many of them are there.
async fn upload(fleet: &Fleet, slots: &[SocketAddr], name: &str, is_stock: bool) -> usize {
    let requests = (0..UPLOADS).map(|number| {
        let slot = slots[number % slots.len()];
        let mut request = fleet.visit(slot, Method::POST, "/?rest_route=/wp/v2/media").unwrap();
        if is_stock {
            request = request.header("x-stock", "1");
        }
        request
            .header("x-lab", "1")
            .header(CONTENT_TYPE, "image/gif")
            .header(CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.gif\""))
            .body(picture(u8::try_from(number).unwrap()))
    });
    let mut urls = Vec::new();
    for (status, upload) in all_at_once(requests).await {
        assert_eq!(status, StatusCode::CREATED, "{upload}");
        urls.push(upload["source_url"].as_str().unwrap().to_owned());
    }
    let mut there = 0;
    for (number, url) in urls.iter().enumerate() {
        let (_, path) = url.split_once("/wp-content/").unwrap();
        let slot = slots[(number + 1) % slots.len()];
        let request = fleet.visit(slot, Method::GET, &format!("/wp-content/{path}")).unwrap();
        let body = request.send().await.unwrap().bytes().await.unwrap();
        there += usize::from(body == picture(u8::try_from(number).unwrap()));
    }
    there
}

async fn names_of_uploads_are_given_once(fleet: &Fleet, slots: &[SocketAddr]) {
    let stock = upload(fleet, slots, "stock", true).await;
    let ours = upload(fleet, slots, "ours", false).await;
    println!(
        "{UPLOADS} uploads of one name: {} overwritten by WordPress alone, {} with flotilla",
        UPLOADS - stock,
        UPLOADS - ours
    );
    assert_eq!(ours, UPLOADS);
}

fn assert_nobody_noticed(exchanges: &[Exchange]) {
    println!("{:?}", tally(exchanges));
    assert_eq!(failed(exchanges), Vec::<&Exchange>::new(), "visitors noticed");
}

async fn a_cache_that_hangs_is_missed_by_nobody(fleet: &Fleet, slots: &[SocketAddr]) {
    let write = |value| format!("update&name=trouble&value={value}&autoload=yes");
    ask(fleet, slots[0], &write("before")).await;
    for slot in slots {
        assert_eq!(ask(fleet, *slot, "get&name=trouble").await, json!("before"));
    }
    let load = Load::start(fleet, "cache-hangs", &Plan::default()).unwrap();
    load.more(10).await.unwrap();
    fleet.signal(Part::Cache, Signal::SIGSTOP).unwrap();
    ask(fleet, slots[0], &write("meanwhile")).await;
    for slot in slots {
        assert_eq!(ask(fleet, *slot, "get&name=trouble").await, json!("meanwhile"));
    }
    load.more(20).await.unwrap();
    fleet.signal(Part::Cache, Signal::SIGCONT).unwrap();
    // The instance that could not tell the cache tells it with a later request.
    until("no old value in the cache", LIMIT, async || {
        ask(fleet, slots[0], "get&name=trouble").await;
        for slot in slots {
            match queries(fleet, *slot).await {
                Ok(count) if count <= QUERIES_MAX => {}
                other => return Err(format!("{slot} does not use the cache again: {other:?}")),
            }
        }
        match ask(fleet, slots[1], "get&name=trouble").await {
            told if told == json!("meanwhile") => Ok(()),
            told => Err(told.to_string()),
        }
    })
    .await
    .unwrap();
    load.more(20).await.unwrap();
    assert_nobody_noticed(&load.end().await);
    for slot in slots {
        assert_eq!(ask(fleet, *slot, "get&name=trouble").await, json!("meanwhile"));
    }
}

async fn a_cache_that_is_killed_is_missed_by_nobody(fleet: &Fleet) {
    let load = Load::start(fleet, "cache-dies", &Plan::default()).unwrap();
    load.more(10).await.unwrap();
    let killed = fleet.kill(Part::Cache).unwrap();
    until("another cache", LIMIT, async || match fleet.pid(Part::Cache) {
        Ok(Some(pid)) if pid != killed => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
    load.more(30).await.unwrap();
    assert_nobody_noticed(&load.end().await);
}
