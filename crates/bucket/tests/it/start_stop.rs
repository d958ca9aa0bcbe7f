//! Starting on what is there, and refusing to.

use std::fs;

use flotilla_bucket::{BucketError, IndexError, Limits, Options, start};
use flotilla_host::tasks::Tasks;

use crate::store::{Store, count_files, options};

#[tokio::test]
async fn objects_outlive_the_process() {
    let store = Store::start().await;
    assert_eq!(store.client.put("kept", "content").await.status(), 200);
    let directory = store.stop().await;
    let store = Store::start_in(directory, Limits::default()).await.unwrap();
    assert_eq!(store.client.read("kept").await.unwrap(), b"content");
    store.stop().await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let store = Store::start().await;
    let error = start(options(store.directory.path()), &Tasks::new()).await.unwrap_err();
    assert!(matches!(error, BucketError::InUse { .. }), "{error}");
    store.stop().await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_bucket() {
    let directory = Store::start().await.stop().await;
    let options = Options { bucket: "other".to_owned(), ..options(directory.path()) };
    let error = start(options, &Tasks::new()).await.unwrap_err();
    match error {
        BucketError::Index { source: IndexError::OtherBucket { found, wanted }, .. } => {
            assert_eq!((found.as_str(), wanted.as_str()), ("media", "other"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_index_of_a_later_version_is_left_alone() {
    let directory = Store::start().await.stop().await;
    let index = rusqlite::Connection::open(directory.path().join("index.db")).unwrap();
    index.pragma_update(None, "user_version", 99).unwrap();
    drop(index);
    let error = start(options(directory.path()), &Tasks::new()).await.unwrap_err();
    assert!(
        matches!(error, BucketError::Index { source: IndexError::Newer { found: 99, .. }, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { listen: ([0, 0, 0, 0], 0).into(), ..options(directory.path()) };
    let error = start(options, &Tasks::new()).await.unwrap_err();
    assert!(matches!(error, BucketError::OpenAddress(_)), "{error}");
}

#[tokio::test]
async fn files_that_nothing_names_are_removed_at_the_start() {
    let store = Store::start().await;
    assert_eq!(store.client.put("kept", "content").await.status(), 200);
    let directory = store.stop().await;
    let incoming = directory.path().join("incoming");
    fs::write(incoming.join("0123456789abcdef0123456789abcdef"), "half").unwrap();
    fs::write(incoming.join("nonsense"), "half").unwrap();
    let store = Store::start_in(directory, Limits::default()).await.unwrap();
    assert_eq!(count_files(store.directory.path()), (1, 0));
    assert_eq!(store.client.read("kept").await.unwrap(), b"content");
    store.stop().await;
}

/// As after a kill between the transaction and the move.
#[tokio::test]
async fn a_file_that_was_not_put_in_its_place_yet_is_found_and_put_there() {
    let store = Store::start().await;
    assert_eq!(store.client.put("kept", "content").await.status(), 200);
    let directory = store.stop().await;
    let move_back = |directory: &std::path::Path| {
        let shards = fs::read_dir(directory.join("content")).unwrap();
        let mut files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
        let file = files.next().unwrap().unwrap();
        fs::rename(file.path(), directory.join("incoming").join(file.file_name())).unwrap();
    };
    move_back(directory.path());
    let store = Store::start_in(directory, Limits::default()).await.unwrap();
    assert_eq!(count_files(store.directory.path()), (1, 0));
    assert_eq!(store.client.read("kept").await.unwrap(), b"content");
    move_back(store.directory.path());
    assert_eq!(store.client.read("kept").await.unwrap(), b"content");
    store.stop().await;
}
