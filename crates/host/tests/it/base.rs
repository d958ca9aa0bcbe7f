//! Promises of rooms that begin in the namespaces of a unit: what the unit has mounted is seen, and
//! without it the room is not entered.

use std::fs;
use std::path::PathBuf;

use flotilla_host::room::{Base, Bind, Room};
use flotilla_host::unit::Unit;

use crate::bench::{Bench, Starter, in_room};

/// A unit that mounts a file system at `mounted` in namespaces of its own, with a file in it.
async fn mounter(bench: &Bench) -> (Unit, PathBuf) {
    let mount_point = bench.directory("mounted");
    let script = format!("echo hello > {}/greeting && exec sleep 600", mount_point.display());
    let unit = bench.unit(
        "mounter",
        bench.launcher(),
        vec![
            "own-mounts".to_owned(),
            mount_point.display().to_string(),
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            script,
        ],
    );
    unit.start().await.unwrap();
    (unit, mount_point)
}

fn room_of(unit: &Unit, mount_point: PathBuf) -> Room {
    Room {
        binds: vec![Bind::writable(&mount_point, "/srv/flotilla/media")],
        base: Some(Base { lock: unit.launch.lock.clone(), mount_point }),
        ..Room::default()
    }
}

#[tokio::test]
async fn a_room_sees_what_its_base_has_mounted() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        let (unit, mount_point) = mounter(&bench).await;
        let script = "cat /srv/flotilla/media/greeting; echo more > /srv/flotilla/media/answer";
        let visitor = in_room(bench.shell("visitor", script), room_of(&unit, mount_point.clone()));
        visitor.run_to_end(std::time::Duration::from_secs(20)).await.unwrap();
        let log = fs::read_to_string(&visitor.launch.log).unwrap();
        assert_eq!(log, "hello\n", "{starter:?}");
        // Outside there is only the empty directory.
        assert_eq!(fs::read_dir(&mount_point).unwrap().count(), 0, "{starter:?}");
        // A second one, to see that what the first wrote is in the mount and not in its own room.
        let script = "cat /srv/flotilla/media/answer";
        let second = in_room(bench.shell("second", script), room_of(&unit, mount_point));
        second.run_to_end(std::time::Duration::from_secs(20)).await.unwrap();
        assert_eq!(fs::read_to_string(&second.launch.log).unwrap(), "more\n", "{starter:?}");
    }
}

#[tokio::test]
async fn a_room_is_not_entered_while_its_base_has_nothing_mounted() {
    let bench = Bench::new(Starter::Ourselves);
    let mount_point = bench.directory("mounted");
    let base = bench.unit(
        "base",
        bench.launcher(),
        vec!["own-mounts".to_owned(), String::new(), "/bin/sleep".to_owned(), "600".to_owned()],
    );
    base.start().await.unwrap();
    let visitor = in_room(bench.shell("visitor", "exec sleep 600"), room_of(&base, mount_point));
    let error = visitor.start().await.unwrap_err().to_string();
    assert!(error.contains("is not mounted by the unit of"), "{error}");
    assert!(error.contains("the unit has not mounted it"), "{error}");
}
