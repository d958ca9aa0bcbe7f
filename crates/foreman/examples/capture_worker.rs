//! Captures without end, to be killed by a test; or measures how long a scan takes.
//!
//! `capture_worker work ROOT` works on `ROOT/site.git` and `ROOT/workshop`, whose worktree has the name
//! `workshop`. `capture_worker measure ROOT COUNT` makes a site of so many files.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::capture::rest::Limits;
use flotilla_core::error::chain;
use flotilla_foreman::capture::{CaptureError, Captures, Options, Request};
use flotilla_foreman::clock;
use flotilla_foreman::repository::Repository;
use flotilla_foreman::store::Store;
use flotilla_host::git::Worktree;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| match words.as_slice() {
        ["work", root] => runtime.block_on(work(Path::new(root))),
        ["measure", root, count] => {
            let count = count.parse()?;
            runtime.block_on(measure(Path::new(root), count))
        }
        _ => Err("usage: capture_worker work ROOT | measure ROOT COUNT".into()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Captures and brings in until it is killed.
async fn work(root: &Path) -> Outcome<()> {
    let captures = loop {
        match open(root).await {
            Ok(captures) => break captures,
            Err(error) => say(&chain(error.as_ref())),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    loop {
        let taken = captures.take(&Request::at(clock::now())).await;
        let brought = match taken {
            Ok(Some(record)) => captures.bring_in(record.number).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match brought {
            Ok(()) | Err(CaptureError::Unfinished { .. } | CaptureError::Restless { .. }) => {}
            Err(error) => say(&chain(&error)),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn open(root: &Path) -> Outcome<Captures> {
    let repository = Repository::open(root.join("site.git")).await?;
    let store = Store::open(&root.join("foreman.db"))?;
    let worktree = Worktree::new(repository.git().clone(), "workshop", root.join("workshop"));
    let options = Options {
        limits: Limits { settle: Duration::from_millis(1), ..Limits::default() },
        lock_age: Duration::from_millis(300),
        ..Options::new(worktree, "main".to_owned(), root.join("seen"))
    };
    Ok(Captures::open(options, Arc::new(repository), store).await?)
}

/// Makes a site of many files, unless it is there, and tells how long looks at it take.
async fn measure(root: &Path, count: u32) -> Outcome<()> {
    let site = root.join("site");
    let count = if site.exists() { 0 } else { count };
    for number in 0..count {
        let directory = site.join(format!("wp-content/plugins/p{}/d{}", number / 500, number % 20));
        std::fs::create_dir_all(&directory)?;
        let text = format!("<?php // {number}\n").repeat(100);
        std::fs::write(directory.join(format!("file-{number}.php")), text)?;
    }
    std::fs::create_dir_all(site.join("wp-includes"))?;
    std::fs::write(site.join("wp-includes/version.php"), "<?php\n$wp_version = '6.8.1';\n")?;
    let repository = Repository::open(root.join("site.git")).await?;
    let revision = repository.import(&site, "main", "Import").await?;
    let captures = open(root).await?;
    captures.check_out(&revision).await?;
    look(&captures, "the first look").await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    look(&captures, "reading every file").await?;
    for _ in 0..5 {
        look(&captures, "a look, nothing changed").await?;
    }
    let changed = site_file(root, 1);
    std::fs::write(changed, "<?php // changed\n")?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    look(&captures, "a look, one file changed").await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    look(&captures, "a look, at rest").await?;
    let start = Instant::now();
    let record = captures.take(&Request::at(clock::now())).await?.ok_or("nothing was captured")?;
    say(&format!("the capture: {:?}: {}", start.elapsed(), record.subject()));
    let start = Instant::now();
    captures.bring_in(record.number).await?;
    say(&format!("bringing it in: {:?}", start.elapsed()));
    drop(captures);
    let start = Instant::now();
    let captures = open(root).await?;
    say(&format!("opening again: {:?}", start.elapsed()));
    look(&captures, "a look after opening").await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    look(&captures, "a look after opening, at rest").await?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    say(peak);
    Ok(())
}

fn site_file(root: &Path, number: u32) -> std::path::PathBuf {
    let directory = format!("workshop/wp-content/plugins/p{}/d{}", number / 500, number % 20);
    root.join(directory).join(format!("file-{number}.php"))
}

async fn look(captures: &Captures, what: &str) -> Outcome<()> {
    let (start, worked) = (Instant::now(), worked_millis()?);
    let seen = captures.look().await?;
    let worked = worked_millis()? - worked;
    say(&format!("{what}: {:?}, {worked} ms of a processor: {seen:?}", start.elapsed()));
    Ok(())
}

/// Returns how long this process has used a processor.
fn worked_millis() -> Outcome<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let all = [usage.user_time(), usage.system_time()];
    Ok(all.iter().map(|time| time.tv_sec() * 1_000 + time.tv_usec() / 1_000).sum())
}

fn say(text: &str) {
    // Nobody is left to tell when the standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}
