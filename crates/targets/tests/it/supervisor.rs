//! Promises of a whole fleet: it comes up, stays up, is found again, follows its inventory, and
//! goes away.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_host::files::read_json;
use flotilla_host::lock::lock_holder;
use flotilla_targets::local::layout::slot_lock;
use flotilla_targets::local::ports::{Book, CACHE, DATABASE, SESSIONS, slot_role};
use flotilla_targets::local::supervisor::SupervisorState;
use flotilla_targets::local::{destroy, down, is_running, running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::bench::{Bench, Owner, eventually};

const SERVICES: [&str; 7] =
    ["balancer", "cache", "database", "foreman", "sessions-1", "sessions-2", "supervisor"];

/// Returns the services that run, with their processes.
fn alive(bench: &Bench) -> BTreeMap<String, i32> {
    running(&bench.layout)
        .into_iter()
        .map(|name| {
            let lock = match name.strip_prefix("slot ") {
                Some(slot) => {
                    let (instance, slot) = slot.split_once('/').unwrap();
                    let slot = SlotName::ALL.into_iter().find(|one| one.as_str() == slot).unwrap();
                    slot_lock(&bench.layout.instances().join(instance), slot)
                }
                None => bench.layout.lock(&name),
            };
            let holder = lock_holder(&lock).unwrap().unwrap_or_default();
            (name, holder)
        })
        .collect()
}

/// Waits until exactly the services of a fleet with these instances run.
async fn whole(bench: &Bench, instances: &[&str]) -> BTreeMap<String, i32> {
    let mut expected: Vec<String> = SERVICES.map(str::to_owned).into();
    for instance in instances {
        expected.extend([format!("agent-{instance}"), format!("slot {instance}/blue")]);
    }
    expected.sort();
    eventually(&format!("{expected:?}, {:?}", state(bench)), || {
        let now = alive(bench);
        (now.keys().cloned().collect::<Vec<_>>() == expected).then_some(now)
    })
    .await
}

fn state(bench: &Bench) -> SupervisorState {
    read_json(&bench.layout.supervisor_state()).unwrap().unwrap_or_default()
}

async fn up(bench: &Bench) {
    bench.services.supervisor().start().await.unwrap();
    eventually("a running stage", || {
        let now = state(bench);
        assert_eq!(now.error, None);
        let pid = lock_holder(&bench.layout.lock("supervisor")).unwrap();
        let log = || std::fs::read_to_string(bench.layout.log("supervisor"));
        assert!(pid.is_some(), "the supervisor ended: {now:?} {:?}", log());
        (now.stage == "running" && pid.map(i32::unsigned_abs) == Some(now.pid)).then_some(())
    })
    .await;
}

async fn life_of_a_fleet(bench: Bench) {
    bench.inventory("web-1");
    up(&bench).await;
    let first = whole(&bench, &["web-1"]).await;

    // A supervisor that is killed takes nothing with it, and the next one finds all.
    kill(Pid::from_raw(first["supervisor"]), Signal::SIGKILL).unwrap();
    eventually("its end", || (!is_running(&bench.layout)).then_some(())).await;
    assert_eq!(running(&bench.layout).len(), first.len() - 1);
    up(&bench).await;
    let mut second = whole(&bench, &["web-1"]).await;
    assert_ne!(second.insert("supervisor".to_owned(), first["supervisor"]), None);
    assert_eq!(second, first);

    // A service that is killed comes back.
    for name in ["cache", "database", "sessions-2", "agent-web-1", "foreman"] {
        kill(Pid::from_raw(first[name]), Signal::SIGKILL).unwrap();
        eventually(name, || alive(&bench).get(name).filter(|pid| **pid != first[name]).copied())
            .await;
        eventually("a counted restart", || {
            state(&bench).units.get(name).filter(|unit| unit.restarts == 1).cloned()
        })
        .await;
    }

    // Instances come and go with the inventory.
    bench.inventory("web-1 web-2");
    whole(&bench, &["web-1", "web-2"]).await;
    bench.inventory("web-2");
    whole(&bench, &["web-2"]).await;
    let (one, two) = (InstanceName::numbered(1), InstanceName::numbered(2));
    eventually("no directory", || (!bench.layout.instance(&one).exists()).then_some(())).await;
    let mode = bench.layout.token(&two).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let book = Book::read(&bench.layout).unwrap().unwrap();
    assert!(book.port(&slot_role(&two, SlotName::Green)).is_some());

    let mut stopped = down(&bench.layout).await.unwrap();
    assert_eq!(stopped.first().map(String::as_str), Some("supervisor"));
    stopped.sort();
    assert_eq!(stopped.len(), SERVICES.len() + 2, "{stopped:?}");
    assert_eq!(running(&bench.layout), Vec::<String>::new());
    assert_eq!(down(&bench.layout).await.unwrap(), Vec::<String>::new());

    // It comes up as it was.
    up(&bench).await;
    whole(&bench, &["web-2"]).await;
    destroy(&bench.layout).await.unwrap();
    let left = std::fs::read_dir(bench.layout.data_dir()).into_iter().flatten().flatten();
    let left: Vec<_> = left.map(|entry| entry.path()).collect();
    assert!(!bench.layout.data_dir().exists(), "{left:?} is left");
}

#[tokio::test]
async fn a_fleet_lives_through_kills_and_goes_down() {
    life_of_a_fleet(Bench::new(Owner::Ourselves)).await;
}

#[tokio::test]
async fn a_fleet_of_an_ordinary_user_does_the_same() {
    // Only root can become an ordinary user; whoever else runs this is one, and that was tested.
    if Uid::effective().is_root() {
        life_of_a_fleet(Bench::new(Owner::Ordinary)).await;
    }
}

#[tokio::test]
async fn two_fleets_share_a_machine() {
    let (one, two) = (Bench::new(Owner::Ourselves), Bench::new(Owner::Ourselves));
    tokio::join!(up(&one), up(&two));
    let ports = |bench: &Bench| {
        let book = Book::read(&bench.layout).unwrap().unwrap();
        [DATABASE, SESSIONS[0], SESSIONS[1], CACHE].map(|role| book.port(role).unwrap())
    };
    assert!(ports(&one).iter().all(|port| !ports(&two).contains(port)));
    down(&one.layout).await.unwrap();
    whole(&two, &[]).await;
}

#[tokio::test]
async fn what_a_dead_supervisor_left_goes_down_and_a_taken_port_is_replaced() {
    let bench = Bench::new(Owner::Ourselves);
    bench.inventory("web-1");
    up(&bench).await;
    let first = whole(&bench, &["web-1"]).await;
    for name in ["supervisor", "agent-web-1", "sessions-1"] {
        kill(Pid::from_raw(first[name]), Signal::SIGKILL).unwrap();
        eventually(name, || (!running(&bench.layout).contains(&name.to_owned())).then_some(()))
            .await;
    }
    down(&bench.layout).await.unwrap();
    assert_eq!(running(&bench.layout), Vec::<String>::new());

    let before = Book::read(&bench.layout).unwrap().unwrap();
    let taken = before.port(DATABASE).unwrap();
    let _stranger = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    up(&bench).await;
    whole(&bench, &["web-1"]).await;
    let after = Book::read(&bench.layout).unwrap().unwrap();
    assert_ne!(after.port(DATABASE), Some(taken));
    assert_eq!(after.port(SESSIONS[0]), before.port(SESSIONS[0]));
}
