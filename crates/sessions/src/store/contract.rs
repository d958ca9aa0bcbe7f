//! What every store promises, as one suite that runs on all that need no other process. The same
//! promises are asked of memcached and of tables through the gateway, in `tests/it/contract.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::failing::Failing;
use super::memory::Memory;
use super::{Condition, Item, Reply, Request, Store, StoreError};
use crate::expiry::Lifetime;

async fn write(store: &dyn Store, body: &str, lifetime: Lifetime, condition: Condition) -> Reply {
    let (key, head, body) = (b"k", b"head ", body.as_bytes());
    store.ask(Request::Write { key, head, body, lifetime, condition }).await.unwrap()
}

async fn item(store: &dyn Store) -> Option<Item> {
    match store.fetch(b"k").await.unwrap() {
        Reply::Found(item) => Some(item),
        Reply::Missing => None,
        other => panic!("{other:?}"),
    }
}

async fn keeps_the_contract(store: &dyn Store) {
    let forever = Lifetime::Forever;
    assert_eq!(item(store).await, None);
    assert_eq!(write(store, "1", forever, Condition::Unchanged(1)).await, Reply::Refused);
    assert_eq!(write(store, "1", forever, Condition::Absent).await, Reply::Done);
    assert_eq!(write(store, "2", forever, Condition::Absent).await, Reply::Refused);
    let first = item(store).await.unwrap();
    assert_eq!((first.bytes, first.lifetime), (Bytes::from("head 1"), forever));
    let minute = Lifetime::Seconds(60);
    assert_eq!(write(store, "3", minute, Condition::Unchanged(first.token)).await, Reply::Done);
    assert_eq!(write(store, "4", minute, Condition::Unchanged(first.token)).await, Reply::Refused);
    let second = item(store).await.unwrap();
    assert_ne!(second.token, first.token);
    assert_eq!((second.bytes, second.lifetime), (Bytes::from("head 3"), minute));
    let touch = Request::Touch { key: b"k", lifetime: Lifetime::Seconds(600) };
    let Reply::Found(touched) = store.ask(touch).await.unwrap() else { panic!() };
    assert_eq!(touched.bytes, "head 3");
    assert_eq!(item(store).await.unwrap().lifetime, Lifetime::Seconds(600));
    assert_eq!(store.remove(b"k").await.unwrap(), Reply::Done);
    assert_eq!(store.remove(b"k").await.unwrap(), Reply::Done);
    assert_eq!(item(store).await, None);
    assert_eq!(store.ask(touch).await.unwrap(), Reply::Missing);
    assert_eq!(write(store, "5", forever, Condition::Always).await, Reply::Done);
    let flush = |delay| store.ask(Request::Flush { delay });
    assert_eq!(flush(Duration::from_secs(100)).await.unwrap(), Reply::Done);
    assert!(item(store).await.is_some());
    assert_eq!(flush(Duration::ZERO).await.unwrap(), Reply::Done);
    assert_eq!(item(store).await, None);
}

#[tokio::test]
async fn stores_keep_the_contract() {
    let stores: [Arc<dyn Store>; 2] =
        [Arc::new(Memory::new("memory")), Arc::new(Failing::new("failing"))];
    for store in stores {
        keeps_the_contract(store.as_ref()).await;
    }
}

#[tokio::test]
async fn a_store_that_is_away_says_so_and_keeps_what_it_had() {
    let store = Failing::new("node");
    write(&store, "1", Lifetime::Forever, Condition::Always).await;
    store.set_away(true);
    let error = (&store as &dyn Store).fetch(b"k").await.unwrap_err();
    assert_eq!(error, StoreError::Unreachable { store: "node".to_owned() });
    store.set_away(false);
    assert_eq!(item(&store).await.unwrap().bytes, "head 1");
}
