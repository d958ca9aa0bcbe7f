//! Promises of the first process: it keeps its programs, stops them in order, and takes all with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flotilla_host::init::{Init, Program};
use flotilla_host::room::{Bind, Room};
use flotilla_host::session::is_alive;
use flotilla_host::unit::Unit;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Bench, Starter, eventually, gone, in_room};

fn program(name: &str, script: &str) -> Program {
    Program {
        name: name.to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        stop_signal: Signal::SIGTERM as i32,
        reload_signal: None,
        user: None,
    }
}

/// Makes a room with its own process ids, where `/srv/flotilla/data` is the bench's `data`.
fn house(bench: &Bench, programs: Vec<Program>, stop_timeout_seconds: u64) -> Unit {
    let leftovers = vec!["/srv/flotilla/data/old".into()];
    house_of(bench, &Init { programs, restarts: true, stop_timeout_seconds, leftovers })
}

fn house_of(bench: &Bench, init: &Init) -> Unit {
    let data = bench.directory("data");
    fs::write(data.join("old"), "").unwrap();
    let spec = serde_json::to_string(init).unwrap();
    let args = vec!["internal".to_owned(), "init".to_owned(), spec];
    let room = Room {
        binds: vec![Bind::writable(data, "/srv/flotilla/data")],
        tmp: None,
        has_own_pids: true,
        scratch: None,
        base: None,
    };
    in_room(bench.unit("house", bench.launcher(), args), room)
}

/// Finds the process outside that is known inside as the one that holds a file open.
fn opener(file: &Path) -> Option<Pid> {
    let number = fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let number: i32 = process.file_name().to_str()?.parse().ok()?;
        let link = fs::read_link(process.path().join("fd/7")).ok()?;
        let (link, file) = (fs::metadata(process.path().join("fd/7")).ok().map(|_| link)?, file);
        (link.file_name() == file.file_name()).then_some(number)
    })?;
    Some(Pid::from_raw(number)).filter(|pid| is_alive(*pid))
}

fn marked(bench: &Bench, mark: &str) -> String {
    // The name makes it unique among benches that run at the same time.
    format!(
        "{mark}-{}",
        bench.path().file_name().unwrap().to_string_lossy().trim_start_matches('.')
    )
}

fn sleeper(bench: &Bench, mark: &str) -> String {
    format!("exec 7> /srv/flotilla/data/{}; exec sleep 600", marked(bench, mark))
}

async fn found(bench: &Bench, mark: &str) -> Pid {
    let file = bench.path().join("data").join(marked(bench, mark));
    eventually(mark, || opener(&file)).await
}

#[tokio::test]
async fn killing_the_outer_process_kills_all_in_the_room() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        // A grandchild in a session of its own.
        let script = format!("setsid sh -c '{}' & wait", sleeper(&bench, "deep"));
        let unit = house(&bench, vec![program("parent", &script)], 5);
        unit.start().await.unwrap();
        let deep = found(&bench, "deep").await;
        kill(unit.holder().unwrap().unwrap(), Signal::SIGKILL).unwrap();
        eventually("the end of all", || (!is_alive(deep)).then_some(())).await;
    }
}

#[tokio::test]
async fn programs_have_process_ids_of_their_own_and_leftovers_are_removed() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        let script = "test -e /srv/flotilla/data/old && echo old is there
            echo $$ > /srv/flotilla/data/pid; exec sleep 600";
        let unit = house(&bench, vec![program("one", script)], 5);
        unit.start().await.unwrap();
        let pid: i32 = bench.written("data/pid").await.trim().parse().unwrap();
        assert!(pid < 50, "{pid}");
        assert!(!bench.path().join("data/old").exists());
        assert!(unit.stop().await.unwrap());
        assert_eq!(fs::read_to_string(&unit.launch.log).unwrap(), "");
    }
}

#[tokio::test]
async fn a_killed_master_is_started_again_and_its_workers_are_killed() {
    let bench = Bench::new(Starter::Ourselves);
    let (master, worker) = (marked(&bench, "master"), sleeper(&bench, "worker"));
    let script = format!("sh -c '{worker}' & exec 7> /srv/flotilla/data/{master}; wait");
    let unit = house(&bench, vec![program("master", &script)], 5);
    unit.start().await.unwrap();
    let (first, worker) = (found(&bench, "master").await, found(&bench, "worker").await);
    kill(first, Signal::SIGKILL).unwrap();
    let file = bench.path().join("data").join(master);
    eventually("the end of the worker", || (!is_alive(worker)).then_some(())).await;
    eventually("a new master", || opener(&file).filter(|pid| *pid != first)).await;
    assert!(unit.holder().unwrap().is_some());
}

#[tokio::test]
async fn programs_are_asked_to_stop_in_the_reverse_order_of_their_start() {
    let bench = Bench::new(Starter::Ourselves);
    let script = |name: &str| {
        format!(
            "trap 'echo {name} >> /srv/flotilla/data/order; exit 0' TERM
             echo > /srv/flotilla/data/{name}; while :; do sleep 0.01; done"
        )
    };
    let programs = vec![program("first", &script("first")), program("second", &script("second"))];
    let unit = house(&bench, programs, 20);
    unit.start().await.unwrap();
    bench.written("data/first").await;
    bench.written("data/second").await;
    assert!(unit.stop().await.unwrap());
    assert_eq!(fs::read_to_string(bench.path().join("data/order")).unwrap(), "second\nfirst\n");
}

#[tokio::test]
async fn a_program_that_ignores_the_signal_does_not_hold_up_the_end() {
    let bench = Bench::new(Starter::Ourselves);
    let deaf = format!("trap '' TERM; {}", sleeper(&bench, "deaf"));
    let unit = house(&bench, vec![program("deaf", &deaf)], 1);
    unit.start().await.unwrap();
    let deaf = found(&bench, "deaf").await;
    assert!(unit.stop().await.unwrap());
    eventually("its end", || (!is_alive(deaf)).then_some(())).await;
}

#[tokio::test]
async fn programs_do_not_inherit_blocked_or_ignored_signals() {
    let bench = Bench::new(Starter::Ourselves);
    let script = "grep -E '^Sig(Blk|Ign):' /proc/self/status > /srv/flotilla/data/signals
        echo end >> /srv/flotilla/data/signals; exec sleep 600";
    let unit = house(&bench, vec![program("one", script)], 5);
    unit.start().await.unwrap();
    let signals = eventually("signals", || {
        fs::read_to_string(bench.path().join("data/signals"))
            .ok()
            .filter(|text| text.ends_with("end\n"))
    })
    .await;
    for line in signals.lines().filter_map(|line| line.strip_prefix("Sig")) {
        let (kind, mask) = line.split_once(":\t").unwrap();
        // The real-time signals 32 and 33 are the C library's own.
        let mask = u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff;
        assert_eq!(mask, 0, "{kind} of {signals}");
    }
}

#[tokio::test]
async fn programs_cannot_touch_the_lock_that_says_whom_to_kill() {
    let bench = Bench::new(Starter::Ourselves);
    let script = "for file in /proc/self/fd/*; do readlink $file; done > /srv/flotilla/data/files
        echo end >> /srv/flotilla/data/files; exec sleep 600";
    let unit = house(&bench, vec![program("one", script)], 5);
    unit.start().await.unwrap();
    let path = bench.path().join("data/files");
    let files = eventually("the files", || {
        fs::read_to_string(&path).ok().filter(|text| text.ends_with("end\n"))
    });
    let files = files.await;
    assert!(!files.contains(".lock"), "{files}");
    assert!(unit.holder().unwrap().is_some());
}

#[tokio::test]
async fn a_room_that_restarts_nothing_ends_with_its_program() {
    let bench = Bench::new(Starter::Ourselves);
    let mut once = program("once", "id -u > /srv/flotilla/data/user");
    let is_root = nix::unistd::Uid::effective().is_root();
    if is_root {
        once.user = Some("nobody".to_owned());
    }
    let init = Init {
        programs: vec![once],
        restarts: false,
        stop_timeout_seconds: 5,
        leftovers: Vec::new(),
    };
    let unit = house_of(&bench, &init);
    fs::set_permissions(bench.path().join("data"), fs::Permissions::from_mode(0o777)).unwrap();
    unit.start().await.unwrap();
    gone(&unit).await;
    let user = fs::read_to_string(bench.path().join("data/user")).unwrap();
    let expected = if is_root { 65_534 } else { nix::unistd::Uid::effective().as_raw() };
    assert_eq!(user.trim(), expected.to_string());
}

#[tokio::test]
async fn a_program_that_is_missing_ends_the_start() {
    let bench = Bench::new(Starter::Ourselves);
    let mut missing = program("missing", "");
    missing.program = "/nowhere/tool".into();
    let unit = house(&bench, vec![missing], 5);
    // It is launched well; the first process then finds out.
    let outcome = unit.start().await.map(|_| ());
    eventually("its end", || unit.holder().unwrap().is_none().then_some(())).await;
    let log = fs::read_to_string(&unit.launch.log).unwrap();
    assert!(log.contains("No such file"), "{outcome:?} {log}");
}
