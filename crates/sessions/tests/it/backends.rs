//! Promises of each backend.

use std::net::TcpListener;
use std::thread;

use flotilla_testkit::dynamodb::{Emulator, TABLE};
use flotilla_testkit::tls::TlsFront;

use crate::contract;
use crate::fleet::{Fleet, Gateway, wait_until};

#[test]
fn memcached_nodes_keep_the_contract() {
    contract::check(&Fleet::start(2, 1).gateways[0]);
    contract::check(&Fleet::start(1, 1).gateways[0]);
    let fleet = Fleet::start(3, 0);
    contract::check(&fleet.add_gateway(&["--copies", "1"]));
}

#[test]
fn memory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    contract::check(&Gateway::start(directory.path().join("socket"), &[]));
}

#[test]
fn the_nodes_of_a_cluster_are_found_by_its_configuration_endpoint() {
    let fleet = Fleet::start(2, 0);
    let endpoint = Endpoint::start();
    endpoint.set(1, &[&fleet.nodes[0].address]);
    let socket = fleet.directory.path().join("cluster");
    let gateway = Gateway::start(socket, &["--cluster", &endpoint.address]);
    contract::check(&gateway);
    assert_eq!(gateway.client().set("a", "1"), "STORED");
    assert_eq!(fleet.copies_of("a"), 1);
}

#[test]
fn e2e_changes_of_a_cluster_are_followed() {
    let fleet = Fleet::start(2, 0);
    let endpoint = Endpoint::start();
    endpoint.set(1, &[&fleet.nodes[0].address]);
    let socket = fleet.directory.path().join("cluster");
    let gateway = Gateway::start(socket, &["--cluster", &endpoint.address]);
    let mut client = gateway.client();
    assert_eq!(client.set("a", "1"), "STORED");
    endpoint.set(2, &[&fleet.nodes[0].address, &fleet.nodes[1].address]);
    wait_until("the second node is used", || client.stat("nodes_up") == "2");
    assert_eq!(client.get("a").as_deref(), Some("1"));
    assert_eq!(fleet.copies_of("a"), 2);
}

/// A configuration endpoint that tells what it is told.
struct Endpoint {
    address: String,
    answer: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Endpoint {
    fn start() -> Self {
        use std::io::{BufRead, BufReader, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let told = std::sync::Arc::clone(&answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                if stream.read_line(&mut line).is_ok_and(|_| line == "config get cluster\r\n") {
                    let answer = told.lock().unwrap().clone();
                    drop(stream.get_mut().write_all(answer.as_bytes()));
                }
            }
        });
        Self { address, answer }
    }

    fn set(&self, version: u64, nodes: &[&str]) {
        let words: Vec<String> =
            nodes.iter().map(|node| node.replace("127.0.0.1:", "127.0.0.1|127.0.0.1|")).collect();
        let list = format!("{version}\n{}\n", words.join(" "));
        *self.answer.lock().unwrap() =
            format!("CONFIG cluster 0 {}\r\n{list}\r\nEND\r\n", list.len());
    }
}

fn start_on(emulator: &Emulator, directory: &std::path::Path, name: &str) -> Gateway {
    let arguments = ["--table", TABLE, "--endpoint", &emulator.endpoint()];
    Gateway::start(directory.join(name), &arguments)
}

#[test]
fn e2e_a_dynamodb_table_keeps_the_contract_and_its_locks() {
    let directory = tempfile::tempdir().unwrap();
    let emulator = Emulator::start().unwrap();
    let gateways = ["a", "b", "c"].map(|name| start_on(&emulator, directory.path(), name));
    contract::check(&gateways[0]);
    assert_eq!(gateways[0].client().set("memc.sess.key.s", "0"), "STORED");
    thread::scope(|scope| {
        for gateway in &gateways {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let mut client = gateway.client();
                        assert_eq!(client.lock_at_last("s"), "STORED");
                        let count: u32 = client.get("memc.sess.key.s").unwrap().parse().unwrap();
                        let said = client.set("memc.sess.key.s", &(count + 1).to_string());
                        assert_eq!(said, "STORED");
                        assert_eq!(client.unlock("s"), "DELETED");
                    }
                });
            }
        }
    });
    assert_eq!(gateways[1].client().get("memc.sess.key.s").as_deref(), Some("30"));
}

#[test]
fn e2e_a_table_that_is_missing_or_away_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let emulator = Emulator::start().unwrap();
    let arguments = ["--table", "other", "--endpoint", &emulator.endpoint()];
    let gateway = Gateway::start(directory.path().join("a"), &arguments);
    let expected =
        "SERVER_ERROR `DynamoDB table other` refuses: there is no such table in this region";
    assert_eq!(gateway.client().ask("get a"), expected);
    let gateway = start_on(&emulator, directory.path(), "b");
    assert_eq!(gateway.client().set("a", "1"), "STORED");
    drop(emulator);
    let said = gateway.client().ask("get a");
    assert_eq!(said, "SERVER_ERROR `DynamoDB table sessions` does not answer");
}

#[test]
fn e2e_a_table_behind_tls_keeps_the_contract_when_its_signer_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let emulator = Emulator::start().unwrap();
    let front = TlsFront::before(emulator.address).unwrap();
    let endpoint = front.endpoint();
    let arguments = ["--table", TABLE, "--endpoint", &endpoint];
    let authority = front.authority();
    let trusts = [("SSL_CERT_FILE", authority.as_path())];
    let gateway = Gateway::start_with(directory.path().join("a"), &arguments, &trusts);
    contract::check(&gateway);
    // Nobody has told this one whom to believe.
    let gateway = Gateway::start(directory.path().join("b"), &arguments);
    let said = gateway.client().ask("get a");
    let expected = format!(
        "SERVER_ERROR `DynamoDB table sessions` refuses: `{endpoint}/` is not trusted: its \
         certificate is signed by nobody whom this machine trusts; add the signer's to"
    );
    assert!(said.starts_with(&expected), "{said}");
}
