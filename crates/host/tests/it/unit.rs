//! Promises of services: one at a time, found again, kept, stopped in a bounded time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use flotilla_host::lock::lock_holder;
use flotilla_host::tasks::Tasks;
use flotilla_host::unit::UnitError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, Starter, eventually, gone};

#[tokio::test]
async fn a_service_runs_once_however_many_start_it() {
    let bench = Bench::new(Starter::Ourselves);
    let unit = bench.shell("sleeper", "exec sleep 600");
    let mut starts = JoinSet::new();
    for _ in 0..8 {
        let unit = unit.clone();
        starts.spawn(async move { unit.start().await.unwrap() });
    }
    let started = starts.join_all().await;
    assert_eq!(started.iter().filter(|was_started| **was_started).count(), 1, "{started:?}");
    assert!(!unit.start().await.unwrap());
}

#[tokio::test]
async fn asking_for_a_service_all_the_time_does_not_hinder_its_start() {
    let bench = Bench::new(Starter::Ourselves);
    let unit = bench.shell("sleeper", "exec sleep 600");
    let asked = CancellationToken::new();
    let tasks = Tasks::new();
    let (lock, done) = (unit.launch.lock.clone(), asked.clone());
    tasks.spawn("ask", async move {
        while !done.is_cancelled() {
            lock_holder(&lock).unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..10 {
        assert!(unit.start().await.unwrap());
        assert!(unit.stop().await.unwrap());
    }
    asked.cancel();
    assert!(tasks.shut_down(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_a_service_writes_into_its_lock_leads_nobody_to_a_stranger() {
    let bench = Bench::new(Starter::Ourselves);
    for words in ["1", "nonsense", "", &std::process::id().to_string()] {
        // The lock's number is the first free one when it is taken.
        let script = format!(
            "for file in /proc/self/fd/*; do case $(readlink $file) in *.lock) \
             echo {words} > $file ;; esac; done; echo > $0.written; exec sleep 600"
        );
        let unit = bench.shell("liar", &script);
        unit.start().await.unwrap();
        bench.written("launcher.written").await;
        let content = fs::read_to_string(&unit.launch.lock).unwrap();
        assert_eq!(content.trim(), words, "it did not write");
        let holder = unit.holder().unwrap().unwrap();
        assert_eq!(getsid(Some(holder)).unwrap(), holder);
        assert_ne!(holder, Pid::this());
        assert!(unit.stop().await.unwrap());
        fs::remove_file(bench.path().join("launcher.written")).unwrap();
    }
}

#[tokio::test]
async fn a_service_may_open_as_many_files_as_the_machine_lets_it() {
    let bench = Bench::new(Starter::Ourselves);
    let mut unit = bench.shell("opener", "echo $(ulimit -Sn) > limit; exec sleep 600");
    unit.launch.directory = bench.path().to_owned();
    let script = format!(
        "#!/bin/sh\nulimit -Sn 64 && ulimit -Hn 512 && exec {} \"$@\"\n",
        bench.launcher().display()
    );
    unit.own_program = bench.path().join("with-few");
    fs::write(&unit.own_program, script).unwrap();
    fs::set_permissions(&unit.own_program, fs::Permissions::from_mode(0o755)).unwrap();
    unit.start().await.unwrap();
    assert_eq!(bench.written("limit").await.trim(), "512");
    unit.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_leads_a_session_of_its_own() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        let unit = bench.shell("sleeper", "exec sleep 600");
        unit.start().await.unwrap();
        let pid = unit.holder().unwrap().unwrap();
        assert_eq!(getsid(Some(pid)).unwrap(), pid);
        unit.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_service_is_started_again_and_left_running_by_its_keeper() {
    let bench = Bench::new(Starter::Ourselves);
    let unit = bench.shell("sleeper", "exec sleep 600");
    let tasks = Tasks::new();
    let (kept, stopping) = (unit.clone(), tasks.stopping());
    tasks.spawn("keep", async move { kept.keep(stopping).await });
    let first = eventually("a first process", || unit.holder().unwrap()).await;
    kill(first, Signal::SIGKILL).unwrap();
    let second =
        eventually("a second process", || unit.holder().unwrap().filter(|pid| *pid != first)).await;
    assert!(tasks.shut_down(Duration::from_secs(5)).await);
    assert_eq!(unit.holder().unwrap(), Some(second));
}

#[tokio::test]
async fn a_keeper_tells_about_restarts_and_the_last_error() {
    let bench = Bench::new(Starter::Ourselves);
    let unit = bench.shell("sleeper", "echo some words; exec sleep 600");
    let tasks = Tasks::new();
    let (sender, mut states) = tokio::sync::mpsc::unbounded_channel();
    let (kept, stopping) = (unit.clone(), tasks.stopping());
    tasks.spawn("keep", async move {
        kept.keep_reporting(stopping, |state| sender.send(state.clone()).unwrap()).await;
    });
    let first = states.recv().await.unwrap();
    eventually("its words", || {
        fs::read_to_string(&unit.launch.log).ok().filter(|log| log.contains("words"))
    })
    .await;
    kill(Pid::from_raw(first.pid.unwrap()), Signal::SIGKILL).unwrap();
    let ended = states.recv().await.unwrap();
    assert_eq!((ended.pid, ended.restarts), (None, 0));
    assert_eq!(ended.last_error.as_deref(), Some("`sleeper` ended: some words"));
    let again = states.recv().await.unwrap();
    assert!(again.pid.is_some() && again.restarts == 1, "{again:?}");
    assert!(tasks.shut_down(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_service_that_ignores_the_signal_is_killed_with_its_children() {
    let bench = Bench::new(Starter::Ourselves);
    let mut unit = bench.shell(
        "deaf",
        "trap '' TERM; sleep 600 & echo $! > \"$(dirname \"$0\")\"/child; while :; do sleep 1; done",
    );
    unit.stop_timeout = Duration::from_millis(200);
    unit.start().await.unwrap();
    let child: i32 = bench.written("child").await.trim().parse().unwrap();
    assert!(unit.stop().await.unwrap());
    assert_eq!(lock_holder(&unit.launch.lock).unwrap(), None);
    assert!(!flotilla_host::session::is_alive(Pid::from_raw(child)));
}

#[tokio::test]
async fn what_a_killed_service_leaves_behind_is_killed_before_it_starts_again() {
    let bench = Bench::new(Starter::Ourselves);
    let unit = bench.shell("parent", "sleep 600 & echo $! > \"$(dirname \"$0\")\"/child; wait");
    unit.start().await.unwrap();
    let child = Pid::from_raw(bench.written("child").await.trim().parse().unwrap());
    kill(unit.holder().unwrap().unwrap(), Signal::SIGKILL).unwrap();
    gone(&unit).await;
    assert!(flotilla_host::session::is_alive(child));
    assert!(unit.start().await.unwrap());
    assert!(!flotilla_host::session::is_alive(child));
}

#[tokio::test]
async fn a_service_does_not_keep_the_lock_of_the_service_that_started_it() {
    let bench = Bench::new(Starter::Ourselves);
    let inner = bench.shell("inner", "exec sleep 600");
    let spec = serde_json::to_string(&inner.launch).unwrap();
    let outer = bench.shell("outer", &format!("\"$0\" internal launch '{spec}' & wait"));
    outer.start().await.unwrap();
    eventually("the inner service", || inner.holder().unwrap()).await;
    kill(outer.holder().unwrap().unwrap(), Signal::SIGKILL).unwrap();
    eventually("a free lock", || lock_holder(&outer.launch.lock).unwrap().is_none().then_some(()))
        .await;
    assert!(inner.holder().unwrap().is_some());
}

#[tokio::test]
async fn a_service_that_cannot_start_says_why() {
    let bench = Bench::new(Starter::Ourselves);
    let mut no_user = bench.shell("no-user", "exec sleep 600");
    no_user.launch.user = Some("no-such-user".to_owned());
    let cases = [
        (
            bench.unit("missing", "/nowhere/tool", vec![]),
            "`missing` did not start",
            "/nowhere/tool",
        ),
        (bench.shell("hasty", "echo broken >&2; exit 3"), "`hasty` did not start: ", "broken"),
        (no_user, "`no-user` did not start: ", "there is no user `no-such-user`"),
    ];
    for (unit, start, reason) in cases {
        let error = match unit.start().await {
            Err(error) => error.to_string(),
            // It lived for a moment; then its end is seen by whoever keeps it.
            Ok(_) => {
                gone(&unit).await;
                format!("{start}{}", fs::read_to_string(&unit.launch.log).unwrap())
            }
        };
        assert!(error.starts_with(start) && error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_program_that_does_one_thing_is_waited_for() {
    let bench = Bench::new(Starter::Ourselves);
    let limit = Duration::from_secs(20);
    bench.shell("good", "exit 0").run_to_end(limit).await.unwrap();
    let error = bench.shell("bad", "echo no; exit 3").run_to_end(limit).await.unwrap_err();
    assert_eq!(error.to_string(), "`bad` failed with exit status: 3: no");
    let slow = bench.shell("slow", "sleep 600 & wait");
    let error = slow.run_to_end(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, UnitError::TimedOut { .. }), "{error}");
    assert_eq!(lock_holder(&slow.launch.lock).unwrap(), None);
}

#[tokio::test]
async fn an_ordinary_user_can_run_services() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        let unit = bench.shell("who", "id -u > \"$(dirname \"$0\")\"/uid; exec sleep 600");
        unit.start().await.unwrap();
        let uid: u32 = bench.written("uid").await.trim().parse().unwrap();
        assert_eq!(uid == 65_534, starter == Starter::Ordinary);
        assert!(unit.stop().await.unwrap());
        assert!(!unit.stop().await.unwrap());
    }
}
