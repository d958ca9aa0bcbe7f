//! What instances are promised of each other: what one has closed, all can read.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use crate::bench::{Instance, PATIENCE, eventually};

pub(crate) type Check = fn(&[Instance]);

/// How many create files of the same names at once, as many as WordPress workers would.
const CREATORS: usize = 48;
const ROUNDS: usize = 3;

pub(crate) const QUICK: &[(&str, Check)] = &[
    ("what one instance has closed all can read at once", seen_at_once),
    ("what one instance overwrites all read anew at once", overwritten),
    ("an open file goes on to show the version that was opened", one_version),
    ("a file has the same time and size everywhere", same_attributes),
    ("what one instance removes or renames is gone elsewhere soon", gone_soon),
    ("the last close of an overwritten file wins as a whole", last_close_wins),
    ("an instance that changes its mind about a name is understood", changed_kinds),
];

/// A store that lets two of those win who change one version with `If-Match` loses lines.
const APPENDED: &str = "lines that instances append at the same time are all there";
const APPENDED_TO_MUCH: &str = "lines appended to a long file are all there";
pub(crate) const APPENDS: [&str; 2] = [APPENDED, APPENDED_TO_MUCH];

pub(crate) const RACES: &[(&str, Check)] = &[
    ("of all who create a name exclusively one succeeds", one_creator),
    (APPENDED, no_line_lost),
    (APPENDED_TO_MUCH, no_line_lost_of_a_long_file),
    ("directories that deny everything are listed on every instance", private_directories),
];

fn path(instance: &Instance, name: &str) -> PathBuf {
    instance.root().join(name)
}

fn seen_at_once(instances: &[Instance]) {
    for round in 0..10 {
        let (writer, name) = (&instances[round % 3], format!("seen-{round}"));
        fs::create_dir(path(writer, &name)).unwrap();
        for reader in instances {
            // That it is not there must not be remembered.
            assert!(fs::metadata(path(reader, &format!("{name}/a"))).is_err());
        }
        fs::write(path(writer, &format!("{name}/a")), format!("content {round}")).unwrap();
        for reader in instances {
            let seen = fs::read_to_string(path(reader, &format!("{name}/a"))).unwrap();
            assert_eq!(seen, format!("content {round}"));
        }
    }
}

fn overwritten(instances: &[Instance]) {
    for round in 0..20 {
        let content = "x".repeat(round + 1);
        fs::write(path(&instances[round % 3], "overwritten"), &content).unwrap();
        for reader in instances {
            assert_eq!(fs::read_to_string(path(reader, "overwritten")).unwrap(), content);
        }
    }
}

fn one_version(instances: &[Instance]) {
    let content = |letter: u8| vec![letter; 300_000];
    fs::write(path(&instances[0], "version"), content(b'1')).unwrap();
    let reader = File::open(path(&instances[1], "version")).unwrap();
    let mut seen = vec![0; 100_000];
    reader.read_exact_at(&mut seen, 0).unwrap();
    fs::write(path(&instances[0], "version"), content(b'2')).unwrap();
    assert_eq!(fs::read(path(&instances[1], "version")).unwrap(), content(b'2'));
    reader.read_exact_at(&mut seen, 200_000).unwrap();
    assert!(seen.iter().all(|byte| *byte == b'1'));
}

fn same_attributes(instances: &[Instance]) {
    fs::write(path(&instances[0], "attributes"), "hello").unwrap();
    let look = |instance: &Instance| {
        let metadata = fs::metadata(path(instance, "attributes")).unwrap();
        (metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.mode())
    };
    let first = look(&instances[0]);
    assert!(instances.iter().all(|instance| look(instance) == first));
    let set = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options()
        .write(true)
        .open(path(&instances[1], "attributes"))
        .unwrap()
        .set_modified(set)
        .unwrap();
    for instance in instances {
        eventually("the time that was set", PATIENCE, || {
            (look(instance).0 == 1_000_000_000).then_some(())
        });
    }
}

fn gone_soon(instances: &[Instance]) {
    for name in ["gone-1", "gone-2"] {
        fs::write(path(&instances[0], name), name).unwrap();
        for instance in instances {
            assert_eq!(fs::read_to_string(path(instance, name)).unwrap(), name);
        }
    }
    fs::remove_file(path(&instances[1], "gone-1")).unwrap();
    fs::rename(path(&instances[1], "gone-2"), path(&instances[1], "gone-3")).unwrap();
    for instance in instances {
        // Opening asks the bucket; only names may be remembered, and not for long.
        assert!(File::open(path(instance, "gone-1")).is_err());
        assert_eq!(fs::read_to_string(path(instance, "gone-3")).unwrap(), "gone-2");
        eventually("the end of a name", PATIENCE, || {
            fs::metadata(path(instance, "gone-2")).is_err().then_some(())
        });
    }
}

fn one_creator(instances: &[Instance]) {
    for round in 0..ROUNDS {
        let name = format!("reserved-{round}.jpg");
        let barrier = Barrier::new(CREATORS);
        let winners: usize = std::thread::scope(|scope| {
            let creators: Vec<_> = (0..CREATORS)
                .map(|number| {
                    let (barrier, path) = (&barrier, path(&instances[number % 3], &name));
                    scope.spawn(move || {
                        barrier.wait();
                        match OpenOptions::new().write(true).create_new(true).open(path) {
                            Ok(mut file) => {
                                write!(file, "{number}").unwrap();
                                1
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
                                0
                            }
                        }
                    })
                })
                .collect();
            creators.into_iter().map(|creator| creator.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
    }
}

fn append_lines(instances: &[Instance], name: &str, lines: usize) {
    std::thread::scope(|scope| {
        for (number, instance) in instances.iter().enumerate() {
            scope.spawn(move || {
                for line in 0..lines {
                    let mut log = OpenOptions::new()
                        .append(true)
                        .create(true)
                        .open(path(instance, name))
                        .unwrap();
                    log.write_all(format!("{number} {line}\n").as_bytes()).unwrap();
                    log.flush().unwrap();
                }
            });
        }
    });
}

fn check_lines(instances: &[Instance], name: &str, lines: usize, before: usize) {
    for instance in instances {
        let content = fs::read_to_string(path(instance, name)).unwrap();
        assert_each_line_once(&content[before..], instances.len(), lines);
    }
}

/// Each of so many writers wrote so many lines, "writer line"; they are all there, each once.
pub(crate) fn assert_each_line_once(content: &str, writers: usize, lines: usize) {
    let mut seen: Vec<&str> = content.lines().collect();
    seen.sort_unstable();
    let mut expected: Vec<String> = (0..writers)
        .flat_map(|number| (0..lines).map(move |line| format!("{number} {line}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

fn no_line_lost(instances: &[Instance]) {
    append_lines(instances, "log.txt", 15);
    check_lines(instances, "log.txt", 15, 0);
}

fn no_line_lost_of_a_long_file(instances: &[Instance]) {
    let long = 6 * 1024 * 1024;
    fs::write(path(&instances[0], "long.txt"), vec![b'-'; long]).unwrap();
    append_lines(instances, "long.txt", 3);
    check_lines(instances, "long.txt", 3, long);
}

fn last_close_wins(instances: &[Instance]) {
    fs::write(path(&instances[0], "contested"), "old").unwrap();
    let mut files: Vec<File> = instances
        .iter()
        .map(|instance| File::create(path(instance, "contested")).unwrap())
        .collect();
    for (number, file) in files.iter_mut().enumerate() {
        file.write_all(&vec![b'0' + u8::try_from(number).unwrap(); 1000 * (number + 1)]).unwrap();
    }
    // Until one of them is closed, everybody else has the old one.
    assert_eq!(files.len(), 3);
    for number in [2, 0, 1] {
        drop(files.get(number).unwrap().try_clone().unwrap());
        let content = fs::read(path(&instances[number], "contested")).unwrap();
        assert_eq!(content, vec![b'0' + u8::try_from(number).unwrap(); 1000 * (number + 1)]);
    }
    drop(files);
    let seen: Vec<Vec<u8>> =
        instances.iter().map(|instance| fs::read(path(instance, "contested")).unwrap()).collect();
    assert!(seen.iter().all(|content| *content == seen[0] && content.len() == 2000));
}

fn changed_kinds(instances: &[Instance]) {
    fs::create_dir(path(&instances[0], "kind")).unwrap();
    assert!(fs::metadata(path(&instances[1], "kind")).unwrap().is_dir());
    fs::remove_dir(path(&instances[0], "kind")).unwrap();
    fs::write(path(&instances[0], "kind"), "a file").unwrap();
    eventually("the file", PATIENCE, || {
        let content = fs::read_to_string(path(&instances[1], "kind"));
        (content.is_ok_and(|content| content == "a file")).then_some(())
    });
}

fn private_directories(instances: &[Instance]) {
    let listed = |instance: &Instance| {
        fs::read_to_string(instance.own().join("private-directories")).unwrap_or_default()
    };
    fs::create_dir_all(path(&instances[0], "woocommerce_uploads/2026")).unwrap();
    fs::write(path(&instances[0], "woocommerce_uploads/.htaccess"), "deny from all").unwrap();
    fs::create_dir(path(&instances[1], "logs")).unwrap();
    fs::write(path(&instances[1], "logs/.htaccess"), "Require all denied\n").unwrap();
    fs::write(path(&instances[1], ".htaccess"), "Options -Indexes\n").unwrap();
    for instance in instances {
        eventually("both directories", PATIENCE, || {
            (listed(instance) == "logs\nwoocommerce_uploads\n").then_some(())
        });
    }
    fs::remove_file(path(&instances[2], "logs/.htaccess")).unwrap();
    for instance in instances {
        eventually("one directory", PATIENCE, || {
            (listed(instance) == "woocommerce_uploads\n").then_some(())
        });
    }
}
