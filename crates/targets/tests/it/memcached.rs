//! Promises of the memcacheds.

use std::time::Duration;

use flotilla_targets::local::memcached::Memcached;
use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::ports::{self, Ports};
use flotilla_targets::local::services;

use crate::bench::{Bench, Owner};

#[tokio::test]
async fn a_memcached_answers_on_its_port_until_it_is_stopped() {
    let bench = Bench::new(Owner::Ourselves);
    let mut ports = Ports::claim(&bench.layout, false).unwrap();
    let port = ports.free_port(ports::SESSIONS[0]).unwrap();
    let node = Memcached::find(&Machine::this(), services::SESSIONS[0], port, 8).unwrap();
    let unit = node.unit(&bench.services);
    unit.start().await.unwrap();
    node.wait_ready(Duration::from_secs(20)).await.unwrap();
    assert!(unit.stop().await.unwrap());
    let error = node.wait_ready(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), format!("memcached does not answer on port {port}"));
}
