//! Promises of each command.

use crate::fleet::{Fleet, Gateway, pause, wait_until};
use std::time::Duration;

/// Says lines and compares all that comes back.
fn check(said: &str, expected: &str) {
    let fleet = Fleet::start(2, 1);
    check_at(&fleet.gateways[0], said, expected);
    let memory = Gateway::start(fleet.directory.path().join("memory"), &[]);
    check_at(&memory, said, expected);
}

fn check_at(gateway: &Gateway, said: &str, expected: &str) {
    let mut client = gateway.client();
    client.send(said.replace('\n', "\r\n"));
    client.send("quit\r\n");
    assert_eq!(client.rest().replace("\r\n", "\n"), expected);
}

#[test]
fn values_are_stored_and_found_with_their_flags() {
    check(
        "set a 7 0 3\nabc\nget a\nget a b\nset a 0 0 0\n\nget a\n",
        "STORED\nVALUE a 7 3\nabc\nEND\nVALUE a 7 3\nabc\nEND\nSTORED\nVALUE a 0 0\n\nEND\n",
    );
}

#[test]
fn conditions_on_what_is_there_are_kept() {
    check(
        "replace a 0 0 1\n1\nadd a 0 0 1\n2\nadd a 0 0 1\n3\nreplace a 0 0 1\n4\nappend a 0 0 1\n5\n\
         prepend a 0 0 1\n6\nget a\ndelete a\ndelete a\nappend a 0 0 1\n7\nget a\nadd a 0 0 1\n8\nget a\n",
        "NOT_STORED\nSTORED\nNOT_STORED\nSTORED\nSTORED\nSTORED\nVALUE a 0 3\n645\nEND\nDELETED\n\
         NOT_FOUND\nNOT_STORED\nEND\nSTORED\nVALUE a 0 1\n8\nEND\n",
    );
}

#[test]
fn numbers_are_counted_as_memcached_counts() {
    check(
        "incr n 1\nset n 5 0 2\n99\nincr n 1\ndecr n 91\nget n\ndecr n 100\nset n 0 0 1\nx\nincr n 1\n\
         set n 0 0 20\n18446744073709551615\nincr n 2\nincr n x\n",
        "NOT_FOUND\nSTORED\n100\n9\nVALUE n 5 3\n9  \nEND\n0\nSTORED\nCLIENT_ERROR cannot increment \
         or decrement non-numeric value\nSTORED\n1\nCLIENT_ERROR invalid numeric delta argument\n",
    );
}

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
fn what_wants_no_answer_gets_none_and_is_done_all_the_same() {
    check(
        "set a 0 0 1 noreply\n1\nadd a 0 0 1 noreply\n2\nincr a 5 noreply\nappend a 0 0 1 noreply\n0\n\
         get a\ntouch a 0 noreply\ndelete a noreply\nverbosity 1 noreply\nget a\nflush_all noreply\n",
        "VALUE a 0 2\n60\nEND\nEND\n",
    );
}

#[test]
fn a_time_beyond_thirty_days_is_a_date_and_a_past_one_leaves_nothing() {
    check(
        "add a 0 2678400 0\n\nget a\nset a 0 0 1\n1\nadd a 0 2678400 0\n\nset a 0 -1 1\n2\nget a\n\
         set b 0 4000000000 1\n3\nget b\ntouch b -1\nget b\n",
        "STORED\nEND\nSTORED\nNOT_STORED\nSTORED\nEND\nSTORED\nVALUE b 0 1\n3\nEND\nTOUCHED\nEND\n",
    );
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
    check(
        "set a 0 0 1\n1\nflush_all\nget a\nset a 0 0 1\n2\nget a\n",
        "STORED\nOK\nEND\nSTORED\nVALUE a 0 1\n2\nEND\n",
    );
}

#[test]
fn what_is_no_command_is_refused_and_the_next_one_understood() {
    check(
        "nonsense\nget\nset a\nset a 0 0 x\nset a 0 0 3\nabcdefg\nget a\nms a 2\nxy\nmg a v\n\
         touch a x\ndelete a 5\nincr a\nverbosity\nverbosity x\nstats noreply\nversion\n",
        &format!(
            "ERROR\nERROR\nERROR\nCLIENT_ERROR bad command line format\nCLIENT_ERROR bad data chunk\n\
             ERROR\nEND\nERROR\nERROR\nCLIENT_ERROR invalid exptime argument\nCLIENT_ERROR bad command \
             line format.  Usage: delete <key> [noreply]\nERROR\nERROR\nCLIENT_ERROR bad command line format\nCLIENT_ERROR bad command line format\nVERSION 1.6.18-flotilla-{}\n",
            env!("CARGO_PKG_VERSION")
        ),
    );
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
