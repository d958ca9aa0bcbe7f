//! Promises of the two copies.

use crate::fleet::{Fleet, Memcached, wait_until};

const KEY: &str = "memc.sess.key.cart";

#[test]
fn a_session_is_kept_on_two_of_many_nodes() {
    let fleet = Fleet::start(4, 1);
    let mut client = fleet.client();
    for number in 0..20 {
        let key = format!("k{number}");
        assert_eq!(client.set(&key, "1"), "STORED");
        assert_eq!(fleet.copies_of(&key), 2);
    }
}

#[test]
fn losing_any_node_loses_no_session_and_no_update() {
    let mut fleet = Fleet::start(3, 2);
    for lost in 0..3 {
        let mut client = fleet.client();
        for number in 0..30 {
            assert_eq!(client.set(&format!("k{number}"), &format!("before {lost}")), "STORED");
        }
        fleet.nodes[lost].kill();
        for number in (0..30).step_by(2) {
            assert_eq!(client.set(&format!("k{number}"), &format!("during {lost}")), "STORED");
        }
        let mut other = fleet.gateways[1].client();
        for number in 0..30 {
            let expected = if number % 2 == 0 { "during" } else { "before" };
            assert_eq!(other.get(&format!("k{number}")), Some(format!("{expected} {lost}")));
        }
        fleet.nodes[lost].start_again();
        let name = format!("node:{}", fleet.nodes[lost].address);
        for gateway in &fleet.gateways {
            wait_until("the node is up again", || gateway.client().stat(&name) == "up");
        }
        // A read mends, so the next node may be lost.
        for number in 0..30 {
            client.get(&format!("k{number}")).unwrap();
        }
    }
}

#[test]
fn a_node_that_comes_back_with_old_sessions_rolls_none_back() {
    let fleet = Fleet::start(2, 2);
    let mut client = fleet.client();
    assert_eq!(client.set(KEY, "old"), "STORED");
    assert_eq!(client.set("deleted", "old"), "STORED");
    fleet.nodes[0].hang();
    assert_eq!(client.set(KEY, "new"), "STORED");
    assert_eq!(client.ask("delete deleted"), "DELETED");
    fleet.nodes[0].go_on();
    let name = format!("node:{}", fleet.nodes[0].address);
    for gateway in &fleet.gateways {
        wait_until("the node is up again", || gateway.client().stat(&name) == "up");
        assert_eq!(gateway.client().get(KEY).as_deref(), Some("new"));
        assert_eq!(gateway.client().get("deleted"), None);
    }
}

#[test]
fn what_a_node_missed_is_brought_to_it_without_a_reader() {
    let mut fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    fleet.nodes[1].kill();
    wait_until("the node counts as away", || client.stat("nodes_up") == "1");
    assert_eq!(client.set(KEY, "new"), "STORED");
    fleet.nodes[1].start_again();
    wait_until("the node has it", || fleet.nodes[1].has(KEY));
    fleet.nodes[0].kill();
    assert_eq!(client.get(KEY).as_deref(), Some("new"));
}

#[test]
fn with_all_nodes_away_commands_fail_with_an_error_and_work_again_afterwards() {
    let mut fleet = Fleet::start(2, 1);
    let mut client = fleet.client();
    assert_eq!(client.set(KEY, "1"), "STORED");
    for node in &mut fleet.nodes {
        node.kill();
    }
    for line in [format!("get {KEY}"), format!("delete {KEY}"), format!("incr {KEY} 1")] {
        let said = client.ask(&line);
        assert!(said.starts_with("SERVER_ERROR `127.0.0.1:"), "{said}");
        assert!(said.ends_with("does not answer"), "{said}");
    }
    let said = client.set(KEY, "2");
    assert!(said.starts_with("SERVER_ERROR"), "{said}");
    let said = client.lock("cart", 30);
    assert!(said.starts_with("SERVER_ERROR"), "{said}");
    for node in &mut fleet.nodes {
        node.start_again();
    }
    wait_until("the nodes are up again", || client.stat("nodes_up") == "2");
    assert_eq!(client.lock("cart", 30), "STORED");
    assert_eq!(client.set(KEY, "3"), "STORED");
    assert_eq!(client.get(KEY).as_deref(), Some("3"));
}

#[test]
fn with_one_node_there_is_one_copy() {
    let fleet = Fleet::start(1, 2);
    assert_eq!(fleet.client().set(KEY, "1"), "STORED");
    assert_eq!(fleet.gateways[1].client().get(KEY).as_deref(), Some("1"));
    assert_eq!(fleet.client().ask(&format!("delete {KEY}")), "DELETED");
    assert_eq!(fleet.gateways[1].client().get(KEY), None);
}

#[test]
fn the_nodes_may_be_replaced_one_and_all_and_every_session_is_kept() {
    let mut fleet = Fleet::start(2, 2);
    let keys: Vec<String> = (0..50).map(|number| format!("memc.sess.key.{number}")).collect();
    let mut client = fleet.client();
    for key in &keys {
        assert_eq!(client.set(key, "first"), "STORED");
    }
    let directory = fleet.directory.path().to_owned();
    let new = [Memcached::start(&directory), Memcached::start(&directory)];
    let old = std::mem::replace(&mut fleet.nodes, new.into());
    fleet.write_list();
    let name = format!("node:{}", fleet.nodes[0].address);
    // One gateway may know of it before the other, and both see each other's writes.
    wait_until("a gateway uses the new nodes", || client.stat(&name) == "up");
    let mut other = fleet.gateways[1].client();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(other.get(key).as_deref(), Some("first"));
        if number % 3 == 0 {
            assert_eq!(other.set(key, "second"), "STORED");
        }
        if number % 3 == 1 {
            assert_eq!(other.ask(&format!("delete {key}")), "DELETED");
        }
    }
    wait_until("both gateways use the new nodes", || other.stat(&name) == "up");
    for (number, key) in keys.iter().enumerate() {
        let expected = ["second", "", "first"][number % 3];
        assert_eq!(client.get(key).unwrap_or_default(), expected, "{number}");
    }
    drop(old);
    for (number, key) in keys.iter().enumerate() {
        let expected = ["second", "", "first"][number % 3];
        assert_eq!(client.get(key).unwrap_or_default(), expected, "{number}");
    }
}

#[test]
fn a_count_that_all_gateways_raise_misses_none() {
    let fleet = Fleet::start(2, 3);
    assert_eq!(fleet.client().set("n", "0"), "STORED");
    std::thread::scope(|scope| {
        for gateway in &fleet.gateways {
            for _ in 0..4 {
                let mut client = gateway.client();
                scope.spawn(move || {
                    for _ in 0..25 {
                        let said = client.ask("incr n 1");
                        assert!(said.parse::<u64>().is_ok(), "{said}");
                    }
                });
            }
        }
    });
    assert_eq!(fleet.client().get("n").as_deref(), Some("300"));
}
