//! Promises of rooms: constant paths, nothing else of `/srv`, a private `/tmp`, read-only code.

use std::fs;

use flotilla_host::room::{Bind, Room, Scratch};
use nix::unistd::Uid;

use crate::bench::{Bench, Starter, gone, in_room};

#[tokio::test]
async fn a_room_shows_directories_at_constant_paths() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        let (code, data, tmp) =
            (bench.directory("code"), bench.directory("data"), bench.directory("tmp"));
        fs::write(code.join("index.php"), "code").unwrap();
        fs::create_dir(code.join("uploads")).unwrap();
        fs::write(bench.path().join("config"), "settings").unwrap();
        let room = Room {
            binds: vec![
                Bind::read_only(&code, "/srv/flotilla/site"),
                Bind::writable(&data, "/srv/flotilla/site/uploads"),
                Bind::read_only(bench.path().join("config"), "/srv/flotilla/config"),
                Bind::writable(&data, "/srv/flotilla/data"),
            ],
            tmp: Some(tmp.clone()),
            has_own_pids: false,
            scratch: None,
            base: None,
        };
        let script = "cd /srv/flotilla
            { cat site/index.php config; echo; ls /srv; ls
              echo x 2>/dev/null > site/new && echo site is writable
              echo x 2>/dev/null > config && echo config is writable
              echo x > /tmp/mark; echo x > site/uploads/picture; } > data/seen 2>&1";
        let unit = in_room(bench.shell("look", script), room);
        let error = unit.run_to_end(std::time::Duration::from_secs(20)).await;
        let seen = fs::read_to_string(data.join("seen")).unwrap_or_default();
        error.unwrap();
        assert_eq!(seen, "codesettings\nflotilla\nconfig\ndata\nsite\n", "{starter:?}");
        assert!(tmp.join("mark").exists() && data.join("picture").exists());
        assert!(!code.join("new").exists());
        assert_eq!(fs::read_to_string(bench.path().join("config")).unwrap(), "settings");
    }
}

#[tokio::test]
async fn nothing_of_a_room_is_left_outside() {
    let bench = Bench::new(Starter::Ourselves);
    let data = bench.directory("data");
    let room =
        Room { binds: vec![Bind::writable(&data, "/srv/flotilla/inner")], ..Room::default() };
    let unit = in_room(bench.shell("stay", "exec sleep 600"), room);
    unit.start().await.unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/srv/flotilla/inner"), "{mounts}");
    unit.stop().await.unwrap();
    assert!(data.is_dir());
}

#[tokio::test]
async fn another_user_in_a_room_reaches_what_lies_in_a_closed_directory() {
    if !Uid::effective().is_root() {
        // Only root can become another user.
        return;
    }
    let bench = Bench::new(Starter::Ourselves);
    let closed = bench.directory("closed");
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let data = bench.directory("closed/data");
    let nobody = (Some(Uid::from_raw(65_534)), None);
    nix::unistd::chown(&data, nobody.0, nobody.1).unwrap();
    let room = Room { binds: vec![Bind::writable(&data, "/srv/flotilla/data")], ..Room::default() };
    let mut unit = in_room(bench.shell("other", "id -u > /srv/flotilla/data/uid"), room);
    unit.launch.user = Some("nobody".to_owned());
    unit.run_to_end(std::time::Duration::from_secs(20)).await.unwrap();
    assert_eq!(fs::read_to_string(data.join("uid")).unwrap(), "65534\n");
}

#[tokio::test]
async fn a_room_without_its_source_is_not_entered() {
    let bench = Bench::new(Starter::Ourselves);
    let room = Room {
        binds: vec![Bind::read_only(bench.path().join("absent"), "/srv/flotilla/site")],
        ..Room::default()
    };
    let unit = in_room(bench.shell("lost", "exec sleep 600"), room);
    let error = unit.start().await.unwrap_err().to_string();
    assert!(error.contains("cannot show `") && error.contains("No such file"), "{error}");
    gone(&unit).await;
}

#[tokio::test]
async fn scratch_is_empty_at_first_shares_one_limit_and_leaves_nothing() {
    for starter in Starter::all() {
        let bench = Bench::new(starter);
        let (code, data) = (bench.directory("code"), bench.directory("data"));
        for name in ["cache", "logs"] {
            fs::create_dir(code.join(name)).unwrap();
        }
        let site = std::path::Path::new("/srv/flotilla/site");
        let room = Room {
            binds: vec![Bind::read_only(&code, site), Bind::writable(&data, "/srv/flotilla/data")],
            scratch: Some(Scratch {
                root: "/srv/flotilla/scratch".into(),
                targets: vec![site.join("cache"), site.join("logs")],
                bytes_max: 1 << 20,
            }),
            ..Room::default()
        };
        let script = "cd /srv/flotilla/site
            { ls cache logs
              echo page > cache/page && cat cache/page
              head -c 3000000 /dev/zero 2>/dev/null > cache/large || echo cache is full
              echo x 2>/dev/null > logs/one || echo logs are full
              rm cache/large; echo x > logs/two && ls logs
              echo x 2>/dev/null > new || echo code is read-only; } > ../data/seen 2>&1";
        let unit = in_room(bench.shell("scratch", script), room);
        let outcome = unit.run_to_end(std::time::Duration::from_secs(20)).await;
        let seen = fs::read_to_string(data.join("seen")).unwrap_or_default();
        outcome.unwrap();
        let expected =
            "cache:\n\nlogs:\npage\ncache is full\nlogs are full\none\ntwo\ncode is read-only\n";
        assert_eq!(seen, expected, "{starter:?}");
        assert_eq!(fs::read_dir(code.join("cache")).unwrap().count(), 0);
    }
}
