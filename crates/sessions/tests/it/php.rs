//! Promises to PHP, with the real php-memcached.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::fleet::{Fleet, Gateway, pause, wait_until};
use crate::process::{Process, command, find};

/// How many processes a visitor's requests are made by.
const PROCESSES: usize = 8;

const INCREMENT: &str = "session_id('cart'); session_start() || exit(1); \
     $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1; session_write_close() || exit(1); \
     echo $_SESSION['n'], ' ';";
const READ: &str = "session_id('cart'); session_start() || exit(1); echo $_SESSION['n'];";

/// Begins PHP with its sessions at a gateway.
fn php(gateway: &Gateway, code: &str) -> Command {
    let mut command = command(&find("php"));
    command
        .args(["-d", "session.save_handler=memcached", "-d", "memcached.sess_binary_protocol=0"])
        .args([
            "-d",
            "session.use_cookies=0",
            "-d",
            "session.cache_limiter=",
            "-d",
            "display_errors=1",
        ])
        .args(["-d", &format!("session.save_path={}", gateway.socket.display())])
        .args(["-r", code])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs PHP; an exit code fails the test.
fn run(gateway: &Gateway, code: &str) -> String {
    let output = php(gateway, code).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Has requests made over all gateways, for as long as something happens to the nodes, and checks
/// that each of them counted.
fn increment_all(fleet: &mut Fleet, meanwhile: impl FnOnce(&mut Fleet)) {
    let gateways = std::mem::take(&mut fleet.gateways);
    let go_on = tempfile::NamedTempFile::new_in(fleet.directory.path()).unwrap();
    let requests = format!(
        "do {{ {INCREMENT} usleep(1000); clearstatcache(); }} while (file_exists('{}'));",
        go_on.path().display()
    );
    let requests = &requests;
    let answers = thread::scope(|scope| {
        let runs: Vec<_> = gateways
            .iter()
            .cycle()
            .take(PROCESSES)
            .map(|gateway| scope.spawn(move || run(gateway, requests)))
            .collect();
        // It is gone also when this fails, so that the processes end.
        let go_on = go_on;
        fleet.observers = gateways.iter().map(Gateway::client).collect();
        meanwhile(fleet);
        drop(go_on);
        runs.into_iter().map(|run| run.join().unwrap()).collect::<String>()
    });
    fleet.gateways = gateways;
    let expected = answers.split_whitespace().count().to_string();
    for gateway in &fleet.gateways {
        assert_eq!(run(gateway, READ), expected);
    }
}

/// Waits until so many further requests have been made.
fn wait_done(fleet: &mut Fleet, count: usize) {
    let observer = &mut fleet.observers[0];
    let mut made = || {
        let session = observer.get("memc.sess.key.cart").unwrap_or_default();
        session.trim_start_matches("n|i:").trim_end_matches(';').parse::<usize>().unwrap_or(0)
    };
    let end = made() + count;
    wait_until("so many requests were made", || made() >= end);
}

/// Waits until the newest update is on all nodes: each gateway uses all of them again, and has
/// written since.
fn wait_whole(fleet: &mut Fleet) {
    let nodes = fleet.nodes.len().to_string();
    for observer in &mut fleet.observers {
        wait_until("a gateway uses all nodes", || observer.stat("nodes_up") == nodes);
    }
    wait_done(fleet, PROCESSES);
}

#[test]
fn parallel_requests_of_a_visitor_miss_no_update_over_three_instances() {
    increment_all(&mut Fleet::start(2, 3), |fleet| wait_done(fleet, 80));
}

#[test]
fn e2e_no_update_is_missed_while_a_node_is_killed_and_comes_back_empty() {
    increment_all(&mut Fleet::start(2, 3), |fleet| {
        for node in [0, 1] {
            wait_done(fleet, 10);
            fleet.nodes[node].kill();
            wait_done(fleet, 10);
            fleet.nodes[node].start_again();
            wait_whole(fleet);
        }
    });
}

#[test]
fn e2e_no_update_is_missed_while_a_node_hangs_and_comes_back_old() {
    increment_all(&mut Fleet::start(2, 3), |fleet| {
        for node in [0, 1] {
            wait_done(fleet, 10);
            fleet.nodes[node].hang();
            wait_done(fleet, 10);
            fleet.nodes[node].go_on();
            wait_whole(fleet);
        }
    });
}

#[test]
fn e2e_no_update_is_missed_while_the_nodes_are_replaced() {
    increment_all(&mut Fleet::start(2, 3), |fleet| {
        wait_done(fleet, 10);
        let directory = fleet.directory.path().to_owned();
        let new = crate::fleet::Memcached::start(&directory);
        let old = std::mem::replace(&mut fleet.nodes[0], new);
        fleet.write_list();
        wait_done(fleet, 50);
        drop(old);
    });
}

#[test]
fn a_holder_that_is_killed_lets_the_next_request_in() {
    let fleet = Fleet::start(2, 2);
    let hold = "session_id('cart'); session_start() || exit(1); echo 'has'; fgets(STDIN);";
    let mut command = php(&fleet.gateways[0], hold);
    let holder = Process::start(command.stdin(Stdio::piped()));
    wait_until("it has the lock", || fleet.client().get("memc.sess.key.lock.cart").is_some());
    drop(holder);
    assert_eq!(run(&fleet.gateways[1], INCREMENT), "1 ");
    assert_eq!(run(&fleet.gateways[0], INCREMENT), "2 ");
}

#[test]
fn strict_mode_makes_a_new_id_for_an_unknown_session_and_keeps_a_known_one() {
    let fleet = Fleet::start(2, 2);
    let start =
        "ini_set('session.use_strict_mode', 1); session_id('ID'); session_start() || exit(1);
                 $_SESSION['a'] = 1; echo session_id();";
    let id = run(&fleet.gateways[0], &start.replace("ID", "unknown"));
    assert_ne!(id, "unknown");
    assert_eq!(run(&fleet.gateways[1], &start.replace("ID", &id)), id);
}

#[test]
fn a_session_is_known_by_its_new_id_only_after_it_was_regenerated() {
    let fleet = Fleet::start(2, 2);
    let id = run(
        &fleet.gateways[0],
        "session_start(); $_SESSION['a'] = 'kept'; $old = session_id();
         session_regenerate_id(true) || exit(1); echo \"$old \", session_id();",
    );
    let (old, new) = id.split_once(' ').unwrap();
    let read = |id: &str| {
        let code = format!("session_id('{id}'); session_start(); echo $_SESSION['a'] ?? 'gone';");
        run(&fleet.gateways[1], &code)
    };
    assert_eq!(read(new), "kept");
    assert_eq!(read(old), "gone");
}

#[test]
fn a_session_that_was_destroyed_is_gone_everywhere() {
    let fleet = Fleet::start(2, 2);
    assert_eq!(run(&fleet.gateways[0], INCREMENT), "1 ");
    run(&fleet.gateways[1], "session_id('cart'); session_start(); session_destroy() || exit(1);");
    assert_eq!(run(&fleet.gateways[0], INCREMENT), "1 ");
}

#[test]
fn a_session_that_is_only_looked_at_lives_on() {
    let fleet = Fleet::start(2, 2);
    let lifetime = "ini_set('session.gc_maxlifetime', SECONDS);";
    run(&fleet.gateways[0], &format!("{}{INCREMENT}", lifetime.replace("SECONDS", "60")));
    run(&fleet.gateways[1], &format!("{}{READ}", lifetime.replace("SECONDS", "1000")));
    assert_eq!(fleet.client().get("memc.sess.key.cart").as_deref(), Some("n|i:1;"));
    for node in &fleet.nodes {
        let seconds = node.seconds_left("memc.sess.key.cart");
        assert!((900..=1000).contains(&seconds), "{seconds}");
    }
}

#[test]
fn e2e_a_request_waits_longer_for_its_session_than_libmemcached_waits_for_an_answer() {
    let fleet = Fleet::start(2, 2);
    let mut holder = fleet.client();
    assert_eq!(holder.lock("cart", 60), "STORED");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| run(&fleet.gateways[1], INCREMENT));
        pause(Duration::from_secs(11));
        assert!(!waiting.is_finished());
        assert_eq!(holder.unlock("cart"), "DELETED");
        assert_eq!(waiting.join().unwrap(), "1 ");
    });
}
