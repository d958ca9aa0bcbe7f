//! Promises of each command.

use std::time::Duration;

use crate::fleet::{Fleet, Gateway, pause, wait_until};

#[test]
fn a_value_is_replaced_by_cas_only_while_it_is_the_one_that_was_read() {
    let fleet = Fleet::start(2, 2);
    let (mut one, mut other) = (fleet.client(), fleet.gateways[1].client());
    assert_eq!(one.set("a", "1"), "STORED");
    let head = one.ask("gets a");
    let version = head.rsplit(' ').next().unwrap().to_owned();
    assert_eq!((one.line(), one.line()), ("1".to_owned(), "END".to_owned()));
    assert_eq!(other.ask(&format!("cas a 0 0 1 {version}\r\n2")), "STORED");
    assert_eq!(one.ask(&format!("cas a 0 0 1 {version}\r\n3")), "EXISTS");
    assert_eq!(one.ask(&format!("cas b 0 0 1 {version}\r\n3")), "NOT_FOUND");
    assert_eq!(one.get("a").as_deref(), Some("2"));
}

#[test]
fn items_end_when_their_time_is_over_and_live_on_when_touched() {
    let fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    for key in ["a", "b", "c"] {
        assert_eq!(client.ask(&format!("set {key} 0 2 1\r\n1")), "STORED");
    }
    assert_eq!(client.ask("touch b 100"), "TOUCHED");
    assert_eq!(client.ask("gat 100 c"), "VALUE c 0 1");
    assert_eq!((client.line(), client.line()), ("1".to_owned(), "END".to_owned()));
    wait_until("the item is over", || client.get("a").is_none());
    pause(Duration::from_secs(1));
    assert_eq!(client.get("b").as_deref(), Some("1"));
    assert_eq!(client.get("c").as_deref(), Some("1"));
    assert_eq!(client.ask("touch a 100"), "NOT_FOUND");
}

#[test]
fn all_items_are_gone_after_flush_all() {
    let fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    assert_eq!(client.set("a", "1"), "STORED");
    assert_eq!(client.ask("flush_all"), "OK");
    assert_eq!(client.get("a"), None);
    assert_eq!(client.set("a", "2"), "STORED");
    assert_eq!(client.get("a").as_deref(), Some("2"));
}

#[test]
fn a_value_that_is_too_large_is_left_out_and_the_next_command_understood() {
    let fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(client.set("a", &large), "SERVER_ERROR object too large for cache");
    let nearly = "x".repeat(1 << 20);
    let said = client.set("a", &nearly);
    assert!(said.starts_with("SERVER_ERROR"), "{said}");
    assert!(said.contains("object too large for cache"), "{said}");
    let fits = "x".repeat(1_000_000);
    assert_eq!(client.set("a", &fits), "STORED");
    assert_eq!(client.get("a").as_deref(), Some(fits.as_str()));
}

#[test]
fn keys_and_lines_that_are_too_long_are_refused() {
    let fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    let key = "k".repeat(250);
    assert_eq!(client.set(&key, "1"), "STORED");
    assert_eq!(client.get(&key).as_deref(), Some("1"));
    let key = "k".repeat(251);
    assert_eq!(client.set(&key, "1"), "CLIENT_ERROR bad command line format");
    client.send(vec![b'g'; 70_000]);
    assert_eq!(client.line(), "CLIENT_ERROR line too long");
    assert_eq!(client.rest(), "");
}

#[test]
fn the_binary_protocol_is_refused_with_the_way_out() {
    let fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    client.send([0x80, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let line = client.line();
    assert!(line.contains("memcached.sess_binary_protocol=0"), "{line}");
    assert_eq!(client.rest(), "");
}

#[test]
fn many_keys_are_got_at_once_in_their_order() {
    let fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    let keys: Vec<String> = (0..200).map(|number| format!("k{number}")).collect();
    for key in keys.iter().step_by(2) {
        assert_eq!(client.set(key, key), "STORED");
    }
    client.send(format!("get {}\r\n", keys.join(" ")));
    for key in keys.iter().step_by(2) {
        assert_eq!(client.line(), format!("VALUE {key} 0 {}", key.len()));
        assert_eq!(client.line(), *key);
    }
    assert_eq!(client.line(), "END");
}

#[test]
fn stats_tell_what_was_done_and_which_nodes_are_up() {
    let mut fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    client.set("a", "1");
    client.get("a");
    client.get("b");
    assert_eq!(client.stat("get_hits"), "1");
    assert_eq!(client.stat("get_misses"), "1");
    assert_eq!(client.stat("cmd_set"), "1");
    assert_eq!(client.stat("curr_connections"), "1");
    assert_eq!(client.stat("nodes_up"), "2");
    fleet.nodes[0].kill();
    let name = format!("node:{}", fleet.nodes[0].address);
    wait_until("the node counts as away", || client.stat(&name) == "away");
}

#[test]
fn a_client_too_many_is_told_so_and_a_place_that_is_left_is_given_again() {
    let fleet = Fleet::start(1, 0);
    let gateway = fleet.add_gateway(&["--connections", "2"]);
    let mut first = gateway.client();
    wait_until("the connection of the start is over", || first.stat("curr_connections") == "1");
    let mut second = gateway.client();
    assert_eq!(second.set("a", "1"), "STORED");
    assert_eq!(gateway.client().line(), "SERVER_ERROR too many connections");
    drop(second);
    wait_until("the place is free", || first.stat("curr_connections") == "1");
    assert_eq!(gateway.client().set("a", "2"), "STORED");
}

#[test]
fn the_socket_of_a_dead_gateway_is_replaced_and_that_of_a_living_one_is_not() {
    let mut fleet = Fleet::start(1, 1);
    fleet.gateways[0].kill();
    let socket = fleet.gateways[0].socket.clone();
    assert!(socket.exists());
    let list = fleet.directory.path().join("nodes");
    let arguments = ["--nodes", list.to_str().unwrap()];
    let second = Gateway::start(socket.clone(), &arguments);
    assert_eq!(second.client().set("a", "1"), "STORED");
    // A third one ends by itself, and the second still has the socket.
    let mut third = Gateway::start(socket, &arguments);
    third.wait();
    assert_eq!(second.client().get("a").as_deref(), Some("1"));
}
