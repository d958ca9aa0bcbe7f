//! Promises of the session store.

use std::time::Duration;

use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::ports::{self, Ports};
use flotilla_targets::local::sessions::Sessions;

use crate::bench::{Bench, Owner};

#[tokio::test]
async fn the_session_store_answers_on_its_port_until_it_is_stopped() {
    let bench = Bench::new(Owner::Ourselves);
    let mut ports = Ports::claim(&bench.layout, false).unwrap();
    let port = ports.free_port(ports::SESSIONS).unwrap();
    let sessions = Sessions::find(&Machine::this(), port, 8).unwrap();
    let unit = sessions.unit(&bench.services);
    unit.start().await.unwrap();
    sessions.wait_ready(Duration::from_secs(20)).await.unwrap();
    assert!(unit.stop().await.unwrap());
    let error = sessions.wait_ready(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), format!("memcached does not answer on port {port}"));
}
