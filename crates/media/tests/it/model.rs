//! Random operations on a mount and on a plain directory: both must answer the same, and hold the
//! same in the end. Some of them go through a second instance, and now and then a daemon is killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::bench::{Bench, Instance};
use crate::server::Kind;

/// A small, fixed generator, so that a seed says it all.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64, <https://prng.di.unimi.it/splitmix64.c>
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn name(&mut self) -> String {
        let names = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a"];
        names[usize::try_from(self.below(names.len() as u64)).unwrap()].to_owned()
    }

    fn bytes(&mut self) -> Vec<u8> {
        // Mostly small, sometimes across the pages and pieces that things are cut into.
        let length = match self.below(10) {
            0 => 0,
            1 => 200_000 + self.below(100_000),
            _ => self.below(5000),
        };
        let first = self.next();
        (0..length).map(|index| u8::try_from((first + index) % 251).unwrap()).collect()
    }
}

/// What is done to both.
#[derive(Debug)]
enum Operation {
    Write(String, Vec<u8>),
    Append(String, Vec<u8>),
    WriteAt(String, u64, Vec<u8>),
    Truncate(String, u64),
    CreateExclusively(String, Vec<u8>),
    Read(String, u64, u64),
    Remove(String),
    MakeDirectory(String),
    RemoveDirectory(String),
    Rename(String, String),
    List(String),
    Size(String),
    /// Write, read back through the same descriptor, cut, write again.
    Mixed(String, Vec<u8>, u64),
}

impl Operation {
    fn random(random: &mut Random) -> Self {
        let (name, other) = (random.name(), random.name());
        let (bytes, offset) = (random.bytes(), random.below(6000));
        match random.below(16) {
            0..=2 => Self::Write(name, bytes),
            3 | 4 => Self::Append(name, bytes),
            5 => Self::WriteAt(name, offset, bytes),
            6 => Self::Truncate(name, offset),
            7 => Self::CreateExclusively(name, bytes),
            8 | 9 => Self::Read(name, offset, random.below(300_000)),
            10 => Self::Remove(name),
            11 => Self::MakeDirectory(name),
            12 => Self::RemoveDirectory(name),
            13 => Self::Rename(name, other),
            14 if offset % 2 == 0 => Self::List(name),
            14 => Self::Size(name),
            _ => Self::Mixed(name, bytes, offset),
        }
    }

    fn run(&self, root: &Path) -> io::Result<Vec<u8>> {
        let done = |()| Vec::new();
        let path = |name: &String| root.join(name);
        match self {
            Self::Write(name, bytes) => fs::write(path(name), bytes).map(done),
            Self::Append(name, bytes) => {
                let mut file = OpenOptions::new().append(true).create(true).open(path(name))?;
                file.write_all(bytes).map(done)
            }
            Self::WriteAt(name, offset, bytes) => {
                let mut file = OpenOptions::new().write(true).open(path(name))?;
                file.seek(SeekFrom::Start(*offset))?;
                file.write_all(bytes).map(done)
            }
            Self::Truncate(name, length) => {
                OpenOptions::new().write(true).open(path(name))?.set_len(*length).map(done)
            }
            Self::CreateExclusively(name, bytes) => OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path(name))?
                .write_all(bytes)
                .map(done),
            Self::Read(name, offset, length) => {
                let mut file = File::open(path(name))?;
                file.seek(SeekFrom::Start(*offset))?;
                let mut seen = Vec::new();
                file.take(*length).read_to_end(&mut seen)?;
                Ok(seen)
            }
            Self::Remove(name) => fs::remove_file(path(name)).map(done),
            Self::MakeDirectory(name) => fs::create_dir(path(name)).map(done),
            Self::RemoveDirectory(name) => fs::remove_dir(path(name)).map(done),
            Self::Rename(from, to) => fs::rename(path(from), path(to)).map(done),
            Self::List(name) => list(&path(name)),
            Self::Size(name) => {
                let metadata = fs::metadata(path(name))?;
                let size = if metadata.is_dir() { 0 } else { metadata.len() };
                Ok(format!("{} {size}", metadata.is_dir()).into_bytes())
            }
            Self::Mixed(name, bytes, offset) => {
                let mut file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path(name))?;
                file.write_all(bytes)?;
                file.seek(SeekFrom::Start(offset / 2))?;
                let mut seen = Vec::new();
                (&file).take(*offset).read_to_end(&mut seen)?;
                file.set_len(*offset)?;
                file.write_all(b"end")?;
                Ok(seen)
            }
        }
    }
}

fn list(path: &Path) -> io::Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        names.push(format!("{:?} {}\n", entry.file_name(), entry.file_type()?.is_dir()));
    }
    names.sort();
    Ok(names.concat().into_bytes())
}

/// Tries random operations; `MEDIA_SEED` repeats a run.
pub(crate) fn holds(kind: Kind, operations: usize) {
    let seed = std::env::var("MEDIA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| getrandom::u64().unwrap());
    println!("seed: MEDIA_SEED={seed}");
    let mut random = Random(seed);
    let bench = Bench::new(kind);
    let mut options = [bench.options("web-1"), bench.options("web-2")];
    for options in &mut options {
        // Names are not remembered, so that both instances always know the same.
        options.staleness = std::time::Duration::ZERO;
    }
    let instances = options.map(Instance::start);
    let model = bench.path().join("model");
    fs::create_dir(&model).unwrap();
    for number in 0..operations {
        let operation = Operation::random(&mut random);
        let instance = &instances[usize::from(random.below(4) == 0)];
        if random.below(40) == 0 {
            instance.kill_daemon();
        }
        let (expected, seen) = (operation.run(&model), operation.run(&instance.root()));
        let errno = |error: &io::Error| error.raw_os_error();
        let is_same = match (&expected, &seen) {
            (Ok(expected), Ok(seen)) => expected == seen,
            (Err(expected), Err(seen)) => errno(expected) == errno(seen),
            _ => false,
        };
        let told = |outcome: &io::Result<Vec<u8>>| match outcome {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(error) => error.to_string(),
        };
        assert!(
            is_same,
            "MEDIA_SEED={seed}, operation {number}, {}: the directory says {}, the mount says {}\n{}",
            short(&operation),
            told(&expected),
            told(&seen),
            instance.log()
        );
    }
    for instance in &instances {
        assert_eq!(tree(&instance.root()), tree(&model), "MEDIA_SEED={seed}");
    }
}

fn short(operation: &Operation) -> String {
    format!("{operation:?}").chars().take(200).collect()
}

/// Returns all files with a digest of their content, and all directories.
fn tree(root: &Path) -> Vec<(PathBuf, Option<(usize, u32)>)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                found.push((name, None));
                open.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                found.push((name, Some((content.len(), crc32fast::hash(&content)))));
            }
        }
    }
    found.sort();
    found
}
