//! What plugins write, and where it goes; the constants of a `wp-config.php` that came with a site.

use flotilla_testkit::admin::Admin;
use flotilla_testkit::code::Clone;
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::wordpress::write;
use reqwest::Method;
use serde_json::{Value, json};

/// Tries to write as plugins do, and tells what became of it.
const PLUGIN: &str = r#"<?php
if ( isset( $_GET['places'] ) ) {
	$name  = preg_replace( '/[^a-z0-9-]/', '', $_GET['places'] );
	$write = array(
		'cache'  => WP_CONTENT_DIR . '/cache/' . $name,
		'wflogs' => WP_CONTENT_DIR . '/wflogs/' . $name . '.php',
		'plugin' => WP_PLUGIN_DIR . '/flotilla-shop/' . $name . '.log',
		'config' => dirname( ABSPATH ) . '/wp-config.php',
	);
	$there = array_map( 'file_exists', $write );
	file_put_contents( WP_PLUGIN_DIR . '/flotilla-shop/settings.json', '{}' );
	foreach ( $write as $place => $path ) {
		$wrote[ $place ] = (bool) @file_put_contents( $path, '<?php echo "ran";' );
	}
	$constants = array( WP_POST_REVISIONS, EMPTY_TRASH_DAYS, WP_CACHE, defined( 'LICENSE' ) );
	wp_send_json( compact( 'there', 'wrote', 'constants' ) );
}
add_action( 'admin_init', function () {
	if ( isset( $_GET['configure'] ) ) {
		@file_put_contents( dirname( ABSPATH ) . '/wp-config.php', '<?php' );
	}
} );
if ( isset( $_GET['fill'] ) ) {
	$piece = str_repeat( 'x', 1 << 20 );
	$file  = fopen( WP_CONTENT_DIR . '/cache/fill', 'w' );
	for ( $mebibytes = 0; $mebibytes < 200 && fwrite( $file, $piece ) === 1 << 20; ++$mebibytes ) {}
	fclose( $file );
	unlink( WP_CONTENT_DIR . '/cache/fill' );
	wp_send_json( array( 'mebibytes' => $mebibytes ) );
}
"#;

const CONFIGURATION: &str = "<?php
define( 'DB_PASSWORD', 'hunter2' );
define( 'WP_POST_REVISIONS', 7 );
define( 'EMPTY_TRASH_DAYS', 30 );
define( 'WP_CACHE', false );
define( 'LICENSE', getenv( 'LICENSE' ) );
require_once ABSPATH . 'wp-settings.php';
";

#[tokio::test]
async fn plugins_write_where_it_lasts_or_hear_that_it_does_not() {
    let settings = Settings::new("places")
        .instances(2)
        .set("deploy", "verify_window", "'500ms'")
        .set("wordpress", "constants", "{ EMPTY_TRASH_DAYS = 3 }");
    let fleet = Fleet::prepare(settings).await.unwrap();
    let site = fleet.path().join("site");
    write(&site.join("wp-config.php"), CONFIGURATION).unwrap();
    write(&site.join("wp-content/mu-plugins/places.php"), PLUGIN).unwrap();
    let login = fleet.up().await.unwrap();

    who_changes_the_configuration_is_told_where_to(&fleet, &login).await;
    each_place_is_what_its_class_says(&fleet).await;
    what_a_release_has_cached_is_not_shown_by_the_next(&fleet).await;
    the_audit_tells_what_becomes_of_it(&fleet).await;
    a_revision_with_a_configuration_is_refused(&fleet).await;
}

async fn ask(fleet: &Fleet, instance: &str, query: &str) -> Value {
    let slot = fleet.slots_in_service().await.unwrap()[instance];
    let response = fleet.visit(slot, Method::GET, query).unwrap().send().await.unwrap();
    response.error_for_status().unwrap().json().await.unwrap()
}

async fn who_changes_the_configuration_is_told_where_to(fleet: &Fleet, login: &Value) {
    let admin = Admin::log_in(fleet, &login["admin_user"], &login["admin_password"]).await;
    let admin = admin.unwrap().unwrap();
    let page = async |path: &str| {
        let request = admin.visit(fleet.address().unwrap(), Method::GET, path).unwrap();
        request.send().await.unwrap().text().await.unwrap()
    };
    let told = "tried to change wp-config.php";
    assert!(!page("/wp-admin/").await.contains(told));
    page("/wp-admin/?configure=1").await;
    let after = page("/wp-admin/").await;
    assert!(after.contains(told) && after.contains("places.php"), "{after}");
}

async fn each_place_is_what_its_class_says(fleet: &Fleet) {
    let wrote = json!({"cache": true, "wflogs": true, "plugin": false, "config": false});
    let nothing = json!({"cache": false, "wflogs": false, "plugin": false, "config": true});
    let first = ask(fleet, "web-1", "/?places=one").await;
    assert_eq!((&first["there"], &first["wrote"]), (&nothing, &wrote));
    // Of the file and of flotilla.toml, which goes before it; what is computed is left out.
    assert_eq!(first["constants"], json!([7, 3, false, false]));
    let other = ask(fleet, "web-2", "/?places=one").await["there"].clone();
    assert_eq!(other["cache"], json!(false), "scratch is private to an instance");

    let slot = fleet.slots_in_service().await.unwrap()["web-1"];
    for path in ["/wp-content/wflogs/one.php", "/wp-content/cache/one.php"] {
        let page = fleet.visit(slot, Method::GET, path).unwrap().send().await.unwrap();
        assert_eq!(page.status().as_u16(), 404, "{path}");
    }
    let filled = ask(fleet, "web-1", "/?fill=1").await["mebibytes"].as_u64().unwrap();
    assert!((100..=128).contains(&filled), "{filled} MiB went into scratch");
    let again = ask(fleet, "web-1", "/?places=after").await;
    assert_eq!(again["wrote"]["cache"], json!(true), "{again}");
}

async fn what_a_release_has_cached_is_not_shown_by_the_next(fleet: &Fleet) {
    let code = fleet.clone_code().await.unwrap();
    // Twice, so that the slot is the same again.
    for version in ["next", "after-next"] {
        let revision = code.publish_version(version).await.unwrap();
        fleet.deploy_well(&revision).await.unwrap();
    }
    let there = ask(fleet, "web-1", "/?places=one").await["there"].clone();
    for place in ["cache", "wflogs"] {
        assert_eq!(there[place], json!(false), "{place} in {there}");
    }
}

async fn the_audit_tells_what_becomes_of_it(fleet: &Fleet) {
    let ran = fleet.run(&["audit", "places.php", "--json"]).await.unwrap();
    let all = ran.ok().unwrap().json().unwrap();
    let entry = |place: &str| {
        let is_it = |one: &&Value| one["place"] == json!(place);
        all.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{place}: {all}"))
    };
    let settings = entry("wp-content/plugins/flotilla-shop/settings.json");
    assert_eq!(settings["verdict"], json!("refused"));
    assert!(settings["denied"].as_u64().unwrap() >= 4, "{settings}");
    assert!(settings["remedy"].as_str().unwrap().contains("workshop"), "{settings}");
    assert_eq!(entry("wp-content/cache/fill")["verdict"], json!("scratch"));
    let told = fleet.run(&["audit"]).await.unwrap().ok().unwrap();
    assert!(told.stdout.contains("mu-plugins/places.php"), "{}", told.stdout);
    let ran = fleet.run(&["audit", "no-such-plugin"]).await.unwrap();
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

async fn a_revision_with_a_configuration_is_refused(fleet: &Fleet) {
    let code = fleet.clone_code().await.unwrap();
    let change =
        |code: &Clone| Ok(std::fs::write(code.directory().join("wp-config.php"), CONFIGURATION)?);
    let revision = code.publish("With a configuration", change).await.unwrap();
    let ran = fleet.run(&["deploy", "--json", &revision]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    for word in ["line 2: `DB_PASSWORD`", "git rm --cached", "WP_POST_REVISIONS = 7"] {
        assert!(ran.stderr.contains(word), "{word} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}
