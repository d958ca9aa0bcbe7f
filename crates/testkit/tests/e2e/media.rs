//! Uploads are the same on every instance, whoever wrote them and whatever dies.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use flotilla_testkit::admin::Admin;
use flotilla_testkit::browser::Browser;
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use flotilla_testkit::wordpress::write;
use nix::sys::signal::Signal;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// How long a change may be unseen by an instance that knew the name before: what a mount remembers, and
/// what nginx keeps open.
const SEEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a plugin's wish to keep a directory from visitors may take to every instance.
const HIDDEN_LIMIT: Duration = Duration::from_secs(20);
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
const LINES: usize = 12;

/// Does with uploads what plugins do.
const PLUGIN: &str = r#"<?php
add_filter( 'wp_image_editors', fn( $all ) => isset( $_GET['editor'] ) ? array( $_GET['editor'] ) : $all );
if ( isset( $_GET['picture'] ) ) {
	$picture = imagecreatetruecolor( 3000, 2000 );
	for ( $i = 0; $i < 400; ++$i ) {
		$colour = imagecolorallocate( $picture, ( $i * 7 ) % 256, ( $i * 13 ) % 256, ( $i * 29 ) % 256 );
		imagefilledellipse( $picture, ( $i * 577 ) % 3000, ( $i * 331 ) % 2000, 240, 160, $colour );
	}
	header( 'Content-Type: image/jpeg' );
	imagejpeg( $picture, null, 85 );
	exit;
}
if ( isset( $_GET['media'] ) ) {
	$base = WP_CONTENT_DIR . '/uploads';
	switch ( $_GET['media'] ) {
		case 'log':
			$lines = 0;
			for ( $i = 0; $i < (int) $_GET['lines']; ++$i ) {
				$line   = $_GET['who'] . ' ' . $i . "\n";
				$lines += (int) ( strlen( $line ) === file_put_contents( $base . '/plugin.log', $line, FILE_APPEND | LOCK_EX ) );
			}
			wp_send_json( $lines );
		case 'zip':
			$zip = new ZipArchive();
			$zip->open( $base . '/export.zip', ZipArchive::CREATE | ZipArchive::OVERWRITE );
			$zip->addFromString( 'orders.csv', str_repeat( "1;mug;9.90\n", 20000 ) );
			$zip->addFile( ABSPATH . 'wp-load.php', 'wp-load.php' );
			wp_send_json( $zip->close() );
		case 'unzip':
			$zip = new ZipArchive();
			$zip->open( $base . '/export.zip' );
			wp_send_json( array( $zip->numFiles, strlen( $zip->getFromName( 'orders.csv' ) ) ) );
		case 'private':
			wp_mkdir_p( $base . '/woocommerce_uploads' );
			file_put_contents( $base . '/woocommerce_uploads/book.pdf', 'paid for' );
			wp_send_json( (bool) file_put_contents( $base . '/woocommerce_uploads/.htaccess', 'deny from all' ) );
		case 'deliver':
			readfile( $base . '/woocommerce_uploads/book.pdf' );
			exit;
		case 'evil':
			wp_send_json( (bool) file_put_contents( $base . '/evil.php', '<?php echo "ran";' ) );
		case 'write':
			wp_send_json( false !== @file_put_contents( $base . '/' . basename( $_GET['name'] ), $_GET['text'] ) );
	}
}
"#;

/// Somebody who is logged in to wp-admin.
struct Editor<'a> {
    fleet: &'a Fleet,
    admin: Admin<'a>,
    nonce: String,
}

#[tokio::test]
async fn uploads_are_the_same_from_every_instance() {
    let settings = Settings::new("media").instances(3).set("deploy", "verify_window", "'500ms'");
    let fleet = Fleet::prepare(settings).await.unwrap();
    write(&fleet.path().join("site/wp-content/mu-plugins/media.php"), PLUGIN).unwrap();
    let login = fleet.up().await.unwrap();
    let admin = Admin::log_in(&fleet, &login["admin_user"], &login["admin_password"]).await;
    let admin = admin.unwrap().unwrap();
    let nonce = admin.nonce().await.unwrap();
    let editor = Editor { fleet: &fleet, admin, nonce };

    a_browser_uploads_a_picture(&fleet, &login).await;
    let picture = a_picture_is_there_in_all_sizes_at_once(&editor).await;
    it_is_edited_on_another_instance(&editor, &picture).await;
    it_is_gone_when_it_is_deleted(&editor, &picture).await;
    what_plugins_write_is_whole(&fleet).await;
    what_plugins_hide_is_hidden(&fleet).await;
    a_directory_is_imported_and_verified(&fleet).await;
    it_survives_what_keeps_it(&fleet).await;
}

impl Editor<'_> {
    /// Asks WordPress' REST interface as the editor's browser does.
    async fn ask(
        &self,
        to: SocketAddr,
        method: Method,
        route: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Value {
        let path = format!("/?rest_route=/wp/v2/media{route}");
        let request = self.admin.visit(to, method, &path).unwrap();
        let request = request.header("x-wp-nonce", &self.nonce);
        let request = request.headers(headers).body(body).timeout(Duration::from_secs(60));
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn upload(&self, to: SocketAddr, name: &str, kind: &str, content: Vec<u8>) -> Value {
        let disposition = format!("attachment; filename=\"{name}\"");
        let headers = [("content-type", kind), ("content-disposition", disposition.as_str())];
        self.ask(to, Method::POST, "", header_map(&headers), content).await
    }
}

fn header_map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.insert(*name, value.parse().unwrap());
    }
    map
}

/// Returns the slots in service, in the order of the instances.
async fn slots(fleet: &Fleet) -> Vec<SocketAddr> {
    fleet.slots_in_service().await.unwrap().into_values().collect()
}

async fn get(fleet: &Fleet, from: SocketAddr, path: &str) -> Response {
    fleet.visit(from, Method::GET, path).unwrap().send().await.unwrap()
}

async fn plugin(fleet: &Fleet, on: SocketAddr, query: &str) -> Value {
    let request = fleet.visit(on, Method::GET, &format!("/?media={query}")).unwrap();
    let response = request.timeout(Duration::from_secs(60)).send().await.unwrap();
    response.error_for_status().unwrap().json().await.unwrap()
}

/// Returns the path of an address of the site.
fn path_of(url: &str) -> String {
    let rest = url.split_once("://").unwrap().1;
    rest.get(rest.find('/').unwrap()..).unwrap().to_owned()
}

/// Returns the paths of the original and all sizes.
fn paths_of(media: &Value) -> BTreeSet<String> {
    let sizes = media["media_details"]["sizes"].as_object().unwrap().values();
    let mut paths: BTreeSet<String> =
        sizes.map(|size| path_of(size["source_url"].as_str().unwrap())).collect();
    paths.insert(path_of(media["source_url"].as_str().unwrap()));
    paths
}

async fn everywhere_at_once(fleet: &Fleet, paths: &BTreeSet<String>) {
    for from in slots(fleet).await {
        for path in paths {
            let response = get(fleet, from, path).await;
            assert_eq!(response.status().as_u16(), 200, "{path} from {from}");
        }
    }
}

/// As an editor does, on the page for new media.
async fn a_browser_uploads_a_picture(fleet: &Fleet, login: &Value) {
    let slots = slots(fleet).await;
    let drawn = get(fleet, slots[0], "/?picture=1").await.bytes().await.unwrap();
    let file = fleet.path().join("from-a-browser.jpg");
    std::fs::write(&file, drawn).unwrap();
    let browser = Browser::start().await.unwrap();
    let site = format!("http://{}", fleet.host().unwrap());
    browser.log_in(&site, login).await.unwrap();
    browser.open(&format!("{site}/wp-admin/media-new.php")).await.unwrap();
    browser.upload("input[type=file]", &file).await.unwrap();
    browser
        .text("#media-items .media-item .pinkynail, #media-items .media-item img")
        .await
        .unwrap();

    let listed = get(fleet, slots[1], "/?rest_route=/wp/v2/media&search=from-a-browser").await;
    let listed: Value = listed.json().await.unwrap();
    let paths = paths_of(&listed[0]);
    assert!(paths.len() >= 5, "{listed}");
    everywhere_at_once(fleet, &paths).await;
}

async fn a_picture_is_there_in_all_sizes_at_once(editor: &Editor<'_>) -> Value {
    let fleet = editor.fleet;
    let slots = slots(fleet).await;
    let drawn = get(fleet, slots[0], "/?picture=1").await.bytes().await.unwrap().to_vec();
    let picture = editor.upload(slots[0], "harbour.jpg", "image/jpeg", drawn).await;
    let paths = paths_of(&picture);
    assert!(paths.len() >= 5, "{paths:?}");
    everywhere_at_once(fleet, &paths).await;

    let path = paths.first().unwrap();
    let mut tags = BTreeSet::new();
    for slot in &slots {
        let whole = get(fleet, *slot, path).await;
        assert_eq!(whole.headers()["content-type"], "image/jpeg");
        let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
        let part = fleet.visit(*slot, Method::GET, path).unwrap().header("range", "bytes=2-9");
        let part = part.send().await.unwrap();
        assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().len()), (206, 8));
        let known = fleet.visit(*slot, Method::GET, path).unwrap().header("if-none-match", &tag);
        assert_eq!(known.send().await.unwrap().status().as_u16(), 304);
        tags.insert(tag);
    }
    assert_eq!(tags.len(), 1, "instances must agree: {tags:?}");
    picture
}

/// Crops with the one library and turns with the other, each on an instance that did not upload it.
async fn it_is_edited_on_another_instance(editor: &Editor<'_>, picture: &Value) {
    let slots = slots(editor.fleet).await;
    let changes = [
        (
            "WP_Image_Editor_GD",
            json!({"type": "crop", "args": {"left": 10, "top": 10, "width": 50, "height": 50}}),
        ),
        ("WP_Image_Editor_Imagick", json!({"type": "rotate", "args": {"angle": 90}})),
    ];
    for ((library, change), slot) in changes.into_iter().zip([slots[1], slots[2]]) {
        let order = json!({"src": picture["source_url"], "modifiers": [change]}).to_string();
        let route = format!("/{}/edit&editor={library}", picture["id"]);
        let headers = header_map(&[("content-type", "application/json")]);
        let edited = editor.ask(slot, Method::POST, &route, headers, order.into_bytes()).await;
        let paths = paths_of(&edited);
        assert!(paths.len() >= 4, "{library}: {paths:?}");
        everywhere_at_once(editor.fleet, &paths).await;
    }
}

async fn it_is_gone_when_it_is_deleted(editor: &Editor<'_>, picture: &Value) {
    let fleet = editor.fleet;
    let slots = slots(fleet).await;
    let route = format!("/{}&force=true", picture["id"]);
    editor.ask(slots[2], Method::DELETE, &route, HeaderMap::new(), Vec::new()).await;
    let paths = paths_of(picture);
    until("deleted files are gone", SEEN_LIMIT, async || {
        for slot in &slots {
            for path in &paths {
                let status = get(fleet, *slot, path).await.status().as_u16();
                if status != 404 {
                    return Err(format!("{path} from {slot} answers {status}"));
                }
            }
        }
        Ok(())
    })
    .await
    .unwrap();
}

async fn what_plugins_write_is_whole(fleet: &Fleet) {
    let slots = slots(fleet).await;
    let logs = slots.iter().enumerate().map(|(number, slot)| async move {
        let query = format!("log&who={number}&lines={LINES}");
        assert_eq!(plugin(fleet, *slot, &query).await, json!(LINES));
    });
    futures_util::future::join_all(logs).await;
    for slot in &slots {
        let log = get(fleet, *slot, "/wp-content/uploads/plugin.log").await.text().await.unwrap();
        let lines: BTreeSet<&str> = log.lines().collect();
        assert_eq!(lines.len(), LINES * slots.len(), "{log}");
        assert_eq!(log.lines().count(), lines.len(), "{log}");
    }

    assert_eq!(plugin(fleet, slots[0], "zip").await, json!(true));
    for slot in &slots {
        assert_eq!(plugin(fleet, *slot, "unzip").await, json!([2, 220_000]));
        let zip = get(fleet, *slot, "/wp-content/uploads/export.zip").await;
        assert_eq!(zip.headers()["content-type"], "application/zip");
        assert!(zip.bytes().await.unwrap().starts_with(b"PK"));
    }
}

async fn what_plugins_hide_is_hidden(fleet: &Fleet) {
    let slots = slots(fleet).await;
    assert_eq!(plugin(fleet, slots[0], "evil").await, json!(true));
    assert_eq!(plugin(fleet, slots[0], "private").await, json!(true));
    for slot in &slots {
        let evil = get(fleet, *slot, "/wp-content/uploads/evil.php").await;
        assert_eq!(evil.status().as_u16(), 404, "{}", evil.text().await.unwrap());
        let path = "/wp-content/uploads/woocommerce_uploads/book.pdf";
        until("the book is not given away", HIDDEN_LIMIT, async || {
            let status = get(fleet, *slot, path).await.status().as_u16();
            if status == 403 { Ok(()) } else { Err(format!("{slot} answers {status}")) }
        })
        .await
        .unwrap();
        let rules = "/wp-content/uploads/woocommerce_uploads/.htaccess";
        assert_ne!(get(fleet, *slot, rules).await.status().as_u16(), 200);
        let delivered = get(fleet, *slot, "/?media=deliver").await.text().await.unwrap();
        assert_eq!(delivered, "paid for", "PHP hands it to who has paid");
    }
}

async fn a_directory_is_imported_and_verified(fleet: &Fleet) {
    let old = fleet.path().join("old");
    for number in 0..30 {
        let path = old.join(format!("2019/{:02}/photo-{number}.txt", number % 12 + 1));
        write(&path, &format!("photo {number}")).unwrap();
    }
    let old = old.to_string_lossy().into_owned();
    let import = ["media", "import", "--json", &old];
    let report = fleet.run(&import).await.unwrap().ok().unwrap().json().unwrap();
    assert_eq!((&report["stored"], &report["skipped"]), (&json!(30), &json!(0)), "{report}");
    let report = fleet.run(&import).await.unwrap().ok().unwrap().json().unwrap();
    assert_eq!((&report["stored"], &report["skipped"]), (&json!(0), &json!(30)), "{report}");
    for slot in slots(fleet).await {
        let photo = get(fleet, slot, "/wp-content/uploads/2019/06/photo-5.txt").await;
        assert_eq!(photo.text().await.unwrap(), "photo 5");
    }
    let verified = fleet.run(&["media", "verify", &old]).await.unwrap().ok().unwrap();
    assert!(verified.stdout.contains("can be read"), "{}", verified.stdout);

    let missing = format!("{old}/2019/01/photo-new.txt");
    std::fs::write(&missing, "new").unwrap();
    let ran = fleet.run(&["media", "verify", &old]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stdout.contains("2019/01/photo-new.txt"), "{}", ran.stdout);
    let ran = fleet.run(&["media", "import", "/no/such/directory"]).await.unwrap();
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

async fn text_of(fleet: &Fleet, from: SocketAddr, path: &str) -> anyhow::Result<String> {
    let response = fleet.visit(from, Method::GET, path)?.send().await?;
    Ok(response.error_for_status()?.text().await?)
}

async fn it_survives_what_keeps_it(fleet: &Fleet) {
    let here = slots(fleet).await[1];
    let seen = async |path: &str, text: &str| {
        until("media are there", RECOVERY_LIMIT, async || {
            let found = text_of(fleet, here, path).await.map_err(|error| format!("{error:#}"))?;
            if found == text { Ok(()) } else { Err(found) }
        })
        .await
        .unwrap();
    };
    let written = async |text: &str| {
        until("media can be written", RECOVERY_LIMIT, async || {
            let path = format!("/?media=write&name=after.txt&text={text}");
            let found = text_of(fleet, here, &path).await.map_err(|error| format!("{error:#}"))?;
            if found == "true" { Ok(()) } else { Err(found) }
        })
        .await
        .unwrap();
    };

    // The bucket: what was read before is there all the time.
    fleet.signal(Part::Bucket, Signal::SIGSTOP).unwrap();
    seen("/wp-content/uploads/2019/06/photo-5.txt", "photo 5").await;
    let killed = fleet.kill(Part::Bucket).unwrap();
    written("bucket").await;
    assert_ne!(fleet.pid(Part::Bucket).unwrap(), Some(killed));
    seen("/wp-content/uploads/after.txt", "bucket").await;

    // What keeps the mount: the slots get another one.
    let killed = fleet.kill(Part::Mount(2)).unwrap();
    written("mount").await;
    assert_ne!(fleet.pid(Part::Mount(2)).unwrap(), Some(killed));
    seen("/wp-content/uploads/after.txt", "mount").await;

    // A deploy and a whole stop.
    let code = fleet.clone_code().await.unwrap();
    let revision = code.publish_version("media").await.unwrap();
    fleet.deploy_well(&revision).await.unwrap();
    fleet.run(&["down"]).await.unwrap().ok().unwrap();
    assert_eq!(fleet.processes(), [], "`flotilla down` left processes");
    fleet.up().await.unwrap();
    fleet.whole(3).await.unwrap();
    for slot in slots(fleet).await {
        let response = get(fleet, slot, "/wp-content/uploads/after.txt").await;
        assert_eq!(response.text().await.unwrap(), "mount");
    }
}
