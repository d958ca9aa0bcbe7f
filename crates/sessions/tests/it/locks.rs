//! Promises of the locks.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;
use crate::fleet::{Fleet, pause, wait_until};

/// Takes a lock in a thread of its own; tells when it has it.
fn lock_in_thread(mut client: Client) -> mpsc::Receiver<(String, Client)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let said = client.lock_at_last("s");
        drop(tell.send((said, client)));
    });
    told
}

fn waiting(fleet: &Fleet, gateway: usize) -> u64 {
    fleet.gateways[gateway].client().stat("locks_waited").parse().unwrap()
}

#[test]
fn a_client_waits_until_the_holder_frees_the_lock() {
    let fleet = Fleet::start(2, 2);
    for other in [0, 1] {
        let mut holder = fleet.client();
        assert_eq!(holder.lock("s", 30), "STORED");
        let before = waiting(&fleet, other);
        let waiter = lock_in_thread(fleet.gateways[other].client());
        wait_until("the other waits", || waiting(&fleet, other) > before);
        assert!(waiter.try_recv().is_err());
        assert_eq!(holder.unlock("s"), "DELETED");
        let (said, mut client) = waiter.recv().unwrap();
        assert_eq!(said, "STORED");
        assert_eq!(client.unlock("s"), "DELETED");
    }
}

#[test]
fn a_holder_whose_connection_ends_frees_the_lock_at_once() {
    let fleet = Fleet::start(2, 2);
    for other in [0, 1] {
        let mut holder = fleet.client();
        assert_eq!(holder.lock("s", 0), "STORED");
        let before = waiting(&fleet, other);
        let waiter = lock_in_thread(fleet.gateways[other].client());
        wait_until("the other waits", || waiting(&fleet, other) > before);
        drop(holder);
        let (said, client) = waiter.recv().unwrap();
        assert_eq!(said, "STORED");
        drop(client);
    }
    assert_ne!(fleet.client().stat("locks_freed_by_disconnect"), "0");
}

#[test]
fn a_lock_that_does_not_become_free_is_not_granted() {
    let fleet = Fleet::start(2, 1);
    let short = fleet.add_gateway(&["--lock-wait-ms", "300"]);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 30), "STORED");
    assert_eq!(short.client().lock("s", 30), "NOT_STORED");
    assert_eq!(holder.lock("s", 30), "NOT_STORED");
    assert_eq!(fleet.client().lock("s", 1), "NOT_STORED");
    assert_eq!(fleet.client().unlock("s"), "NOT_FOUND");
    assert_eq!(fleet.client().get("memc.sess.key.lock.s").as_deref(), Some("1"));
    assert_eq!(short.client().get("memc.sess.key.lock.s").as_deref(), Some("1"));
    assert_eq!(holder.unlock("s"), "DELETED");
    assert_eq!(short.client().get("memc.sess.key.lock.s"), None);
}

#[test]
fn a_lock_is_freed_when_its_time_is_over_and_its_holder_may_not_write_then() {
    let fleet = Fleet::start(2, 2);
    let (mut slow, mut next) = (fleet.client(), fleet.gateways[1].client());
    assert_eq!(slow.lock("s", 1), "STORED");
    assert_eq!(slow.set("memc.sess.key.s", "1"), "STORED");
    assert_eq!(next.lock("s", 30), "STORED");
    assert_eq!(next.set("memc.sess.key.s", "2"), "STORED");
    assert_eq!(slow.set("memc.sess.key.s", "3"), "SERVER_ERROR the lock of this session was lost");
    assert_eq!(slow.set("memc.sess.key.other", "3"), "STORED");
    assert_eq!(slow.unlock("s"), "NOT_FOUND");
    assert_eq!(next.get("memc.sess.key.s").as_deref(), Some("2"));
}

#[test]
fn clients_of_a_gateway_get_a_lock_in_the_order_in_which_they_came() {
    let fleet = Fleet::start(2, 1);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 30), "STORED");
    let (tell, told) = mpsc::channel();
    for number in 0..10_u64 {
        let (tell, mut client) = (tell.clone(), fleet.client());
        thread::spawn(move || {
            assert_eq!(client.lock("s", 30), "STORED");
            tell.send(number).unwrap();
            assert_eq!(client.unlock("s"), "DELETED");
        });
        wait_until("it waits", || waiting(&fleet, 0) > number);
    }
    assert_eq!(holder.unlock("s"), "DELETED");
    let order: Vec<u64> = told.iter().take(10).collect();
    assert_eq!(order, (0..10).collect::<Vec<u64>>());
}

#[test]
fn a_waiter_that_goes_away_is_passed_over() {
    let fleet = Fleet::start(2, 1);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 30), "STORED");
    let mut gone = fleet.client();
    gone.send("add memc.sess.key.lock.s 0 30 1\r\n1\r\n");
    wait_until("it waits", || waiting(&fleet, 0) > 0);
    drop(gone);
    let waiter = lock_in_thread(fleet.client());
    wait_until("the second waits", || waiting(&fleet, 0) > 1);
    assert_eq!(holder.unlock("s"), "DELETED");
    assert_eq!(waiter.recv().unwrap().0, "STORED");
}

#[test]
fn e2e_a_gateway_that_dies_frees_its_locks_within_the_lease() {
    let mut fleet = Fleet::start(2, 2);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 0), "STORED");
    fleet.gateways[0].kill();
    assert_eq!(fleet.gateways[1].client().lock_at_last("s"), "STORED");
}

#[test]
fn a_gateway_that_stops_frees_its_locks_at_once() {
    let mut fleet = Fleet::start(2, 2);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 0), "STORED");
    fleet.gateways[0].stop();
    assert_eq!(fleet.gateways[1].client().lock("s", 1), "STORED");
}

#[test]
fn e2e_a_gateway_that_hung_longer_than_its_lease_lets_nobody_write() {
    let fleet = Fleet::start(2, 2);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 0), "STORED");
    fleet.gateways[0].hang();
    let mut next = fleet.gateways[1].client();
    assert_eq!(next.lock_at_last("s"), "STORED");
    assert_eq!(next.set("memc.sess.key.s", "2"), "STORED");
    fleet.gateways[0].go_on();
    assert_eq!(
        holder.set("memc.sess.key.s", "1"),
        "SERVER_ERROR the lock of this session was lost"
    );
    assert_eq!(next.get("memc.sess.key.s").as_deref(), Some("2"));
}

#[test]
fn e2e_a_lock_is_held_on_beyond_its_lease_and_over_the_loss_of_a_node() {
    let mut fleet = Fleet::start(2, 2);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 0), "STORED");
    let held_since = Instant::now();
    for node in [0, 1] {
        fleet.nodes[node].kill();
        fleet.nodes[node].start_again();
        let lock = "memc.sess.key.lock.s";
        wait_until("the node has the lock again", || fleet.nodes[node].has(lock));
    }
    let left = Duration::from_secs(7).saturating_sub(held_since.elapsed());
    pause(left);
    assert_eq!(fleet.gateways[1].client().lock("s", 1), "NOT_STORED");
    assert_eq!(holder.unlock("s"), "DELETED");
    assert_eq!(fleet.gateways[1].client().lock("s", 1), "STORED");
}

#[test]
fn a_lock_freed_while_a_node_hung_is_free_when_the_node_comes_back() {
    let fleet = Fleet::start(2, 2);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("s", 30), "STORED");
    fleet.nodes[0].hang();
    assert_eq!(holder.unlock("s"), "DELETED");
    let mut next = fleet.gateways[1].client();
    assert_eq!(next.lock("s", 30), "STORED");
    fleet.nodes[0].go_on();
    assert_eq!(next.unlock("s"), "DELETED");
    assert_eq!(holder.lock("s", 2), "STORED");
}
