//! WordPress is had from where it is said to be, or a person learns why not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flotilla_core::config::Source as Origin;
use flotilla_foreman::source::{Source, SourceError, Taken};
use flotilla_host::tasks::Tasks;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::support::{held, write_wordpress};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a zip of these entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().unix_permissions(0o644);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn wordpress_zip() -> Vec<u8> {
    zip(&[
        ("wordpress/wp-settings.php", b"<?php\n"),
        (
            "wordpress/wp-includes/version.php",
            b"<?php\n$wp_version = '6.4.2';\n$wp_db_version = 56657;\n",
        ),
        ("wordpress/wp-content/languages/x.mo", &[7; 200_000]),
    ])
}

async fn take(source: Source, scratch: &Path) -> Result<Taken, SourceError> {
    source.take(scratch, &|_said: String| {}).await
}

async fn take_zip(bytes: &[u8]) -> (tempfile::TempDir, Result<Taken, SourceError>) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("site.zip");
    std::fs::write(&path, bytes).unwrap();
    let taken = take(Origin::Zip(path).into(), &root.path().join("scratch")).await;
    (root, taken)
}

#[tokio::test]
async fn a_directory_is_taken_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let site = root.path().join("site");
    write_wordpress(&site, "6.1.9");
    let origin = Origin::Directory(site.clone());
    let taken = take(origin.into(), &root.path().join("scratch")).await.unwrap();
    assert_eq!(taken.directory, site);
    assert_eq!(taken.version, "6.1.9");
    assert_eq!(taken.description, format!("WordPress 6.1.9 from {}", site.display()));

    std::fs::remove_file(site.join("wp-settings.php")).unwrap();
    let origin = Origin::Directory(site);
    let error = take(origin.into(), &root.path().join("scratch")).await.unwrap_err();
    assert!(error.to_string().contains("it has no `wp-settings.php`; give the directory"));
}

#[tokio::test]
async fn a_zip_is_unpacked_without_the_directory_at_its_top() {
    let (_root, taken) = take_zip(&wordpress_zip()).await;
    let taken = taken.unwrap();
    assert_eq!(taken.version, "6.4.2");
    let held = held(&taken.directory);
    assert_eq!(held[&b"wp-content/languages/x.mo"[..]], (0o100_644, vec![7; 200_000]));
}

#[tokio::test]
async fn a_zip_that_leads_out_of_its_directory_is_refused() {
    for name in ["../evil.php", "/etc/evil", "wordpress/../../evil", "a\\..\\evil", "./evil"] {
        let (root, taken) = take_zip(&zip(&[("wp-settings.php", b"x"), (name, b"evil")])).await;
        let error = taken.unwrap_err().to_string();
        assert!(error.contains(&format!("its entry `{name}` leads out")), "{name}: {error}");
        let scratch = held(root.path());
        assert!(!scratch.keys().any(|path| path.ends_with(b"evil")), "{name}");
    }
}

#[tokio::test]
async fn a_zip_with_a_link_is_refused() {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.add_symlink("link", "/etc", SimpleFileOptions::default()).unwrap();
    let (_root, taken) = take_zip(&writer.finish().unwrap().into_inner()).await;
    let error = taken.unwrap_err().to_string();
    assert!(error.contains("its entry `link` is a symbolic link"), "{error}");
}

#[tokio::test]
async fn a_damaged_zip_is_named() {
    let whole = wordpress_zip();
    let mut flipped = whole.clone();
    let name = b"x.mo";
    let data = whole.windows(name.len()).position(|four| four == name).unwrap() + 30;
    flipped[data] ^= 0xff;
    let cases: [&[u8]; 4] = [b"", b"no zip", &whole[..whole.len() / 2], &flipped];
    for (number, bytes) in cases.into_iter().enumerate() {
        let (_root, taken) = take_zip(bytes).await;
        let error = taken.unwrap_err();
        assert!(matches!(error, SourceError::Zip { .. }), "{number}: {error}");
    }
    let (_root, taken) = take_zip(&zip(&[("readme.txt", b"x")])).await;
    assert!(matches!(taken, Err(SourceError::NotWordPress { .. })), "{taken:?}");
}

/// Serves a zip with a SHA-1 beside it.
struct Server {
    url: String,
    tasks: Tasks,
}

impl Server {
    async fn start(zip: Vec<u8>, sha1: String) -> Self {
        let serve = move |UrlPath(name): UrlPath<String>| {
            let (zip, sha1) = (zip.clone(), sha1.clone());
            async move {
                let response: Response = match name.as_str() {
                    "wp.zip" => zip.into_response(),
                    "wp.zip.sha1" => sha1.into_response(),
                    _ => StatusCode::NOT_FOUND.into_response(),
                };
                response
            }
        };
        let app = Router::new().route("/{name}", get(serve));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/wp.zip", listener.local_addr().unwrap());
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("server", async move {
            let stop = async move { stopping.cancelled().await };
            axum::serve(listener, app).with_graceful_shutdown(stop).await.unwrap();
        });
        Self { url, tasks }
    }

    async fn stop(self) {
        assert!(self.tasks.shut_down(std::time::Duration::from_secs(10)).await);
    }
}

#[tokio::test]
async fn an_address_is_downloaded_and_its_checksum_must_be_right() {
    let bytes = wordpress_zip();
    let server = Server::start(bytes.clone(), String::new()).await;
    let root = tempfile::tempdir().unwrap();
    let said = Mutex::new(Vec::new());
    let source =
        |sha256: Option<String>| Source { sha256, ..Source::from(Origin::Url(server.url.clone())) };
    let right = source(Some(hex(Sha256::digest(&bytes))));
    let taken = right.take(root.path(), &|what| said.lock().unwrap().push(what)).await.unwrap();
    assert_eq!(taken.version, "6.4.2");
    assert!(said.lock().unwrap()[0].starts_with("Downloading http://"));

    let error = take(source(Some("00".repeat(32))), root.path()).await.unwrap_err().to_string();
    assert!(error.contains("has the SHA-256 checksum `") && error.contains("not `0000"), "{error}");

    let missing = Source::from(Origin::Url(server.url.replace("wp.zip", "none.zip")));
    let error = take(missing, root.path()).await.unwrap_err();
    let chain = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(chain.contains("none.zip") && chain.contains("404"), "{chain}");
    server.stop().await;
}

#[tokio::test]
async fn the_newest_wordpress_must_have_the_checksum_that_stands_beside_it() {
    let bytes = wordpress_zip();
    let latest = |server: &Server| Source {
        latest_url: Some(server.url.clone()),
        ..Source::from(Origin::Latest)
    };
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(bytes.clone(), hex(Sha1::digest(&bytes))).await;
    let taken = take(latest(&server), root.path()).await.unwrap();
    assert_eq!(taken.description, "WordPress 6.4.2 from wordpress.org");
    server.stop().await;

    let server = Server::start(bytes.clone(), "0".repeat(40)).await;
    let error = take(latest(&server), root.path()).await.unwrap_err();
    assert!(matches!(error, SourceError::Checksum { kind: "SHA-1", .. }), "{error}");
    server.stop().await;

    let server = Server::start(bytes, "<html>".to_owned()).await;
    let error = take(latest(&server), root.path()).await.unwrap_err();
    assert!(matches!(error, SourceError::NoChecksum(_)), "{error}");
    server.stop().await;
}

/// Checks that no trace of Debian's way of packaging is left.
fn assert_plain(directory: &Path) {
    for path in [
        "index.php",
        "wp-admin/index.php",
        "wp-content/index.php",
        "wp-includes/js/jquery/jquery.js",
        "wp-includes/certificates/ca-bundle.crt",
    ] {
        assert!(directory.join(path).symlink_metadata().unwrap().is_file(), "{path}");
    }
    for path in ["wp-config.php", ".htaccess"] {
        assert!(!directory.join(path).exists(), "{path}");
    }
    let held = held(directory);
    assert!(held.values().all(|(mode, _)| mode & 0o170_000 != 0o120_000), "a link is left");
    let themes: Vec<PathBuf> = std::fs::read_dir(directory.join("wp-content/themes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(themes.iter().any(|theme| theme.join("style.css").is_file()), "{themes:?}");
}

#[tokio::test]
async fn e2e_debian_gives_a_plain_wordpress() {
    let root = tempfile::tempdir().unwrap();
    let taken = take(Origin::Debian(None).into(), root.path()).await.unwrap();
    assert!(taken.description.starts_with("WordPress "), "{}", taken.description);
    assert!(taken.description.contains(" from Debian "), "{}", taken.description);
    assert_plain(&taken.directory);
}

#[tokio::test]
async fn e2e_debian_gives_the_suite_that_is_named() {
    let root = tempfile::tempdir().unwrap();
    let origin = Origin::Debian(Some("trixie".to_owned()));
    let taken = take(origin.into(), root.path()).await.unwrap();
    assert_eq!(taken.description, format!("WordPress {} from Debian trixie", taken.version));
    assert!(taken.version.starts_with("6.8."), "{}", taken.version);
    assert_plain(&taken.directory);
    let nothing = Origin::Debian(Some("no-such-suite".to_owned()));
    let error = take(nothing.into(), root.path()).await.unwrap_err();
    assert!(matches!(error, SourceError::Debian(_)), "{error}");
}

#[tokio::test]
async fn e2e_without_an_answer_of_wordpress_org_debian_is_taken_and_told() {
    let root = tempfile::tempdir().unwrap();
    // Bound and dropped: nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/latest.zip", listener.local_addr().unwrap());
    drop(listener);
    let source = Source { latest_url: Some(url), ..Source::from(Origin::Latest) };
    let taken = take(source, root.path()).await.unwrap();
    assert!(taken.description.ends_with("(wordpress.org did not answer)"), "{}", taken.description);
    assert_plain(&taken.directory);
}
