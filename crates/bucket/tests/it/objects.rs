//! Objects under many clients, slow ones, and ones that go away.

use std::time::Duration;

use flotilla_bucket::Limits;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::client::{BUCKET, code, element};
use crate::store::{LIMIT, Store, count_files, wait_for_files};

#[tokio::test]
async fn whoever_does_not_sign_gets_nothing() {
    let store = Store::start().await;
    assert_eq!(store.client.put("private", "content").await.status(), 200);
    let request = store.client.request(Method::GET, &format!("/{BUCKET}/private"), "", &[]);
    let mut request = request.build().unwrap();
    request.headers_mut().clear();
    let response = flotilla_host::http::client().unwrap().execute(request).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(code(response).await, "AccessDenied");
    store.stop().await;
}

#[tokio::test]
async fn of_48_who_create_at_once_one_wins() {
    let store = Store::start().await;
    let mut creators = JoinSet::new();
    for number in 0..48 {
        let client = store.client.clone();
        creators.spawn(async move {
            let body = number.to_string();
            (number, client.put_with("once", body, &[("if-none-match", "*")]).await.status())
        });
    }
    let outcomes = creators.join_all().await;
    let won: Vec<i32> =
        outcomes.iter().filter(|(_, status)| *status == 200).map(|(number, _)| *number).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|(_, status)| *status == 200 || *status == 412), "{outcomes:?}");
    assert_eq!(store.client.read("once").await.unwrap(), won[0].to_string().into_bytes());
    wait_for_files(store.directory.path(), 1).await;
    store.stop().await;
}

#[tokio::test]
async fn what_is_being_read_is_read_to_its_end_though_it_is_deleted() {
    let store = Store::start().await;
    let parts: Vec<Vec<u8>> = (1..=3).map(|letter| vec![letter; 5 * 1024 * 1024]).collect();
    let whole = parts.concat();
    assert!(store.client.put_parts("deleted", parts).await.unwrap());
    let mut response = store.client.get("deleted").await;
    let mut read = response.chunk().await.unwrap().unwrap().to_vec();
    store.client.delete("deleted").await;
    assert_eq!(store.client.read("deleted").await, None);
    while let Some(chunk) = response.chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == whole);
    drop(response);
    // The next change finds that nobody reads any more.
    assert_eq!(store.client.put("other", "x").await.status(), 200);
    wait_for_files(store.directory.path(), 1).await;
    store.stop().await;
}

#[tokio::test]
async fn what_was_replaced_leaves_no_file() {
    let store = Store::start().await;
    for version in 0..5 {
        assert_eq!(store.client.put("replaced", version.to_string()).await.status(), 200);
    }
    let source = format!("/{BUCKET}/replaced");
    let headers = [("x-amz-copy-source", source.as_str())];
    assert_eq!(store.client.put_with("copy", "", &headers).await.status(), 200);
    wait_for_files(store.directory.path(), 1).await;
    store.client.delete("replaced").await;
    assert_eq!(store.client.read("copy").await.unwrap(), b"4");
    store.client.delete("copy").await;
    wait_for_files(store.directory.path(), 0).await;
    store.stop().await;
}

#[tokio::test]
async fn an_upload_in_parts_that_is_given_up_leaves_no_file() {
    let store = Store::start().await;
    let path = format!("/{BUCKET}/given-up");
    let begun = store.client.request(Method::POST, &path, "uploads=", &[]).send().await.unwrap();
    let id = element(&begun.text().await.unwrap(), "UploadId").to_owned();
    let query = format!("partNumber=1&uploadId={id}");
    let part = store.client.request(Method::PUT, &path, &query, &[]).body("part");
    assert_eq!(part.send().await.unwrap().status(), 200);
    assert_eq!(count_files(store.directory.path()).0, 1);
    let abort = store.client.request(Method::DELETE, &path, &format!("uploadId={id}"), &[]);
    assert_eq!(abort.send().await.unwrap().status(), 204);
    wait_for_files(store.directory.path(), 0).await;
    store.stop().await;
}

#[tokio::test]
async fn uploads_that_nobody_finishes_are_given_up() {
    let store = Store::start().await;
    let path = format!("/{BUCKET}/forgotten");
    let begun = store.client.request(Method::POST, &path, "uploads=", &[]).send().await.unwrap();
    let id = element(&begun.text().await.unwrap(), "UploadId").to_owned();
    let query = format!("partNumber=1&uploadId={id}");
    let part = store.client.request(Method::PUT, &path, &query, &[]).body("part");
    assert_eq!(part.send().await.unwrap().status(), 200);
    let directory = store.stop().await;
    let limits = Limits { upload_age_max: Duration::ZERO, ..Limits::default() };
    let store = Store::start_in(directory, limits).await.unwrap();
    wait_for_files(store.directory.path(), 0).await;
    store.stop().await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let limits = Limits { body_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let store = Store::start_in(tempfile::tempdir().unwrap(), limits).await.unwrap();
    let (mut writer, reader) = tokio::io::duplex(64 * 1024);
    writer.write_all(b"begun").await.unwrap();
    let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::new(reader));
    let request = store.client.request(Method::PUT, &format!("/{BUCKET}/stalled"), "", &[]);
    let response = request.header("content-length", "1000").body(body).send();
    let response = tokio::time::timeout(LIMIT, response).await.unwrap().unwrap();
    assert_eq!(code(response).await, "RequestTimeout");
    drop(writer);
    assert_eq!(store.client.read("stalled").await, None);
    wait_for_files(store.directory.path(), 0).await;
    store.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let limits = Limits { body_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let store = Store::start_in(tempfile::tempdir().unwrap(), limits).await.unwrap();
    let body = vec![7; 32 * 1024 * 1024];
    assert_eq!(store.client.put("large", body.clone()).await.status(), 200);
    let request = store.client.request(Method::GET, &format!("/{BUCKET}/large"), "", &[]);
    let request = request.build().unwrap();
    let authority = format!("127.0.0.1:{}", request.url().port().unwrap());
    let mut stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
    let mut head = format!("GET /{BUCKET}/large HTTP/1.1\r\nhost: {authority}\r\n");
    for (name, value) in request.headers() {
        head.push_str(name.as_str());
        head.push_str(": ");
        head.push_str(value.to_str().unwrap());
        head.push_str("\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    // Nothing is taken until the file of the object goes: then nobody reads it any more.
    store.client.delete("large").await;
    let gone = async {
        while count_files(store.directory.path()).0 > 0 {
            store.client.delete("nudge").await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
    let mut rest = Vec::new();
    // The connection ends, well or not, before the whole has come.
    drop(tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap());
    assert!(rest.len() < body.len());
    store.stop().await;
}

#[tokio::test]
async fn an_upload_for_which_there_is_no_room_is_refused_and_deleting_goes_on() {
    let store = Store::start().await;
    assert_eq!(store.client.put("old", "content").await.status(), 200);
    let directory = store.stop().await;
    let limits = Limits { free_bytes_min: u64::MAX / 2, ..Limits::default() };
    let store = Store::start_in(directory, limits).await.unwrap();
    let response = store.client.put("new", "content").await;
    assert_eq!(response.status(), 507);
    assert_eq!(code(response).await, "StorageFull");
    assert_eq!(store.client.read("new").await, None);
    assert_eq!(store.client.read("old").await.unwrap(), b"content");
    store.client.delete("old").await;
    wait_for_files(store.directory.path(), 0).await;
    store.stop().await;
}

#[tokio::test]
async fn an_object_that_is_too_large_is_refused_and_the_client_hears_why() {
    let limits = Limits { put_bytes_max: 1_000_000, ..Limits::default() };
    let store = Store::start_in(tempfile::tempdir().unwrap(), limits).await.unwrap();
    let response = store.client.put("large", vec![0; 1_000_001]).await;
    assert_eq!(code(response).await, "EntityTooLarge");
    assert_eq!(store.client.put("large", vec![0; 1_000_000]).await.status(), 200);
    store.stop().await;
}
