//! A store that is killed in the middle of its work.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::process::Process;
use crate::store::{LIMIT, count_files};

const WRITERS: u64 = 6;
/// A part may be small when it is the last one, and here it is the only one.
const PART_BYTES: usize = 50_000;

/// What one writer knows: versions are begun in order, and each is whole or absent.
#[derive(Debug, Default)]
struct Versions {
    begun: AtomicU64,
    stored: AtomicU64,
}

/// Returns the content of a version: it names it, and shows when it is torn.
fn content(writer: u64, version: u64) -> Vec<u8> {
    let word = format!("{writer}:{version};");
    let size = usize::try_from(version * 7_919 % 600_000).unwrap() + word.len();
    word.bytes().cycle().take(size).collect()
}

/// Finds out which version a content is, and that it is whole.
fn version_of(writer: u64, found: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(&found[..found.len().min(40)]);
    let (who, rest) = text.split_once(':').unwrap();
    let version = rest.split_once(';').unwrap().0.parse().unwrap();
    assert_eq!(who, writer.to_string());
    assert!(found == content(writer, version), "version {version} of writer {writer} is torn");
    version
}

async fn write_on(client: Client, writer: u64, versions: Arc<Versions>, done: Arc<AtomicU64>) {
    loop {
        let version = versions.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let key = format!("writer-{writer}");
        let path = format!("/media/{key}");
        let request = client.request(reqwest::Method::PUT, &path, "", &[]);
        match request.body(content(writer, version)).send().await {
            Ok(response) if response.status() == 200 => {
                versions.stored.store(version, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            }
            _ => return,
        }
    }
}

/// Uploads the same part under changing names.
async fn upload_parts(client: Client, round: u64) {
    for number in 0.. {
        let parts = vec![vec![b'a'; PART_BYTES]];
        match client.put_parts(&format!("parts-{round}-{number}"), parts).await {
            Ok(true) => {}
            _ => return,
        }
    }
}

async fn wait_for(done: &AtomicU64, count: u64) {
    let deadline = Instant::now() + LIMIT;
    while done.load(Ordering::SeqCst) < count {
        assert!(Instant::now() < deadline, "the writers do not get on");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn check(client: &Client, versions: &[Arc<Versions>]) {
    for (writer, versions) in (0..).zip(versions) {
        let (begun, stored) =
            (versions.begun.load(Ordering::SeqCst), versions.stored.load(Ordering::SeqCst));
        let Some(found) = client.read(&format!("writer-{writer}")).await else {
            assert_eq!(stored, 0, "what writer {writer} was told is stored is gone");
            continue;
        };
        let version = version_of(writer, &found);
        assert!(
            (stored..=begun).contains(&version),
            "writer {writer} has version {version}, was told {stored}, had begun {begun}"
        );
        versions.stored.store(version, Ordering::SeqCst);
    }
}

async fn check_parts(client: &Client) -> usize {
    let listing = client.request(reqwest::Method::GET, "/media", "list-type=2&prefix=parts-", &[]);
    let listing = listing.send().await.unwrap().text().await.unwrap();
    let keys: Vec<&str> = listing.split("<Key>").skip(1).collect();
    for key in &keys {
        let key = key.split('<').next().unwrap();
        let found = client.read(key).await.unwrap();
        assert!(found == [b'a'; PART_BYTES], "{key} is torn");
        client.delete(key).await;
    }
    keys.len()
}

/// Kills a store again and again while it is written to, and looks at what is left; returns how
/// many uploads in parts were among it.
async fn kill_and_look(directory: &Path, rounds: u64) -> usize {
    let versions: Vec<Arc<Versions>> = (0..WRITERS).map(|_| Arc::default()).collect();
    let mut uploaded = 0;
    for round in 0..rounds {
        let process = Process::start(directory).await;
        let client = process.client();
        check(&client, &versions).await;
        uploaded += check_parts(&client).await;
        let done = Arc::new(AtomicU64::new(0));
        let mut writers = JoinSet::new();
        for (writer, versions) in (0..).zip(&versions) {
            let (client, versions) = (client.clone(), Arc::clone(versions));
            writers.spawn(write_on(client, writer, versions, Arc::clone(&done)));
        }
        writers.spawn(upload_parts(client, round));
        // The others are in the middle of something when one is done.
        wait_for(&done, 1 + round * 7 % 23).await;
        process.kill().await;
        writers.join_all().await;
    }
    let process = Process::start(directory).await;
    check(&process.client(), &versions).await;
    uploaded += check_parts(&process.client()).await;
    let stored: u64 = versions.iter().map(|one| one.stored.load(Ordering::SeqCst)).sum();
    assert!(stored > 0, "no writer got anything stored");
    process.kill().await;
    check_files(directory).await;
    println!("{stored} versions and {uploaded} uploads in parts outlived {rounds} kills");
    uploaded
}

/// Every file is named by the index, and every one that it names is there.
async fn check_files(directory: &Path) {
    // It clears away what the last kill has left.
    Process::start(directory).await.kill().await;
    let index = rusqlite::Connection::open(directory.join("index.db")).unwrap();
    let statement = "SELECT (SELECT count(*) FROM pieces) + (SELECT count(blob) FROM parts)";
    let named: i64 = index.query_row(statement, [], |row| row.get(0)).unwrap();
    assert_eq!(count_files(directory), (usize::try_from(named).unwrap(), 0));
    let check: String = index.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test]
async fn a_kill_tears_nothing_and_loses_nothing_that_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    kill_and_look(directory.path(), 3).await;
}

#[tokio::test]
async fn e2e_forty_kills_tear_nothing_and_lose_nothing_that_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let uploaded = kill_and_look(directory.path(), 40).await;
    assert!(uploaded > 0, "no upload in parts was completed");
}
