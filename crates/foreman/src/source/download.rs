//! Downloads a file with curl, and checks that it is the one that was meant.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_host::command::{Command, CommandError};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::SourceError;

const ATTEMPTS_MAX: u32 = 3;
const TIME_LIMIT: Duration = Duration::from_secs(900);
const BYTES_MAX: &str = "1073741824";
const SAY_EVERY: Duration = Duration::from_secs(2);
const MEGABYTE: u64 = 1_000_000;
/// Exit codes of curl that say that the server cannot go on where a download broke off.
const CANNOT_RESUME: [i32; 2] = [33, 36];

/// Downloads a file; a download that breaks off goes on where it was.
pub(super) async fn fetch<S: Fn(String)>(
    url: &str,
    file: &Path,
    say: &S,
) -> Result<(), SourceError> {
    say(format!("Downloading {url}"));
    remove(file).await?;
    let mut attempt = 1;
    loop {
        match run_curl(url, file, say).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt == ATTEMPTS_MAX || !is_worth_another(&error) => {
                remove(file).await?;
                return Err(SourceError::Download { url: url.to_owned(), source: error });
            }
            Err(CommandError::Failed { status, .. })
                if status.code().is_some_and(|code| CANNOT_RESUME.contains(&code)) =>
            {
                remove(file).await?;
            }
            Err(_) => {}
        }
        attempt += 1;
    }
}

/// Downloads a file whose SHA-1 stands beside it.
pub(super) async fn fetch_with_sha1<S: Fn(String)>(
    url: &str,
    file: &Path,
    say: &S,
) -> Result<PathBuf, SourceError> {
    let sum_file = file.with_extension("sha1");
    let sum_url = format!("{url}.sha1");
    fetch(&sum_url, &sum_file, say).await?;
    let sum = tokio::fs::read(&sum_file).await.map_err(SourceError::file("read", &sum_file))?;
    let sum = String::from_utf8_lossy(&sum).trim().to_ascii_lowercase();
    if sum.len() != 40 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SourceError::NoChecksum(sum_url));
    }
    fetch(url, file, say).await?;
    let actual = digest::<Sha1>(file).await?;
    compare("SHA-1", sum, actual, url)?;
    Ok(file.to_owned())
}

/// Checks a file against a SHA-256, when there is one.
pub(super) async fn check_sha256(
    file: &Path,
    expected: Option<&str>,
    origin: impl Display,
) -> Result<(), SourceError> {
    let Some(expected) = expected else { return Ok(()) };
    let actual = digest::<Sha256>(file).await?;
    compare("SHA-256", expected.trim().to_ascii_lowercase(), actual, origin)
}

fn compare(
    kind: &'static str,
    expected: String,
    actual: String,
    origin: impl Display,
) -> Result<(), SourceError> {
    if expected == actual {
        return Ok(());
    }
    Err(SourceError::Checksum { origin: origin.to_string(), kind, expected, actual })
}

async fn digest<D: Digest + Send + 'static>(file: &Path) -> Result<String, SourceError> {
    let path = file.to_owned();
    let hash = move || {
        let mut file = File::open(&path).map_err(SourceError::file("open", &path))?;
        let (mut hash, mut buffer) = (D::new(), vec![0; 256 * 1024]);
        loop {
            let count = file.read(&mut buffer).map_err(SourceError::file("read", &path))?;
            if count == 0 {
                break;
            }
            hash.update(buffer.get(..count).unwrap_or_default());
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    tokio::task::spawn_blocking(hash).await?
}

async fn run_curl<S: Fn(String)>(url: &str, file: &Path, say: &S) -> Result<(), CommandError> {
    let protocols = if url.starts_with("https:") { "=https" } else { "=http,https" };
    let command = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--max-redirs", "5"])
        .args(["--proto", protocols, "--connect-timeout", "15"])
        .args(["--speed-limit", "1000", "--speed-time", "30", "--max-filesize", BYTES_MAX])
        .args(["--continue-at", "-", "--output"])
        .arg(file)
        .args(["--url", url])
        .time_limit(TIME_LIMIT);
    let run = command.run();
    tokio::pin!(run);
    loop {
        tokio::select! {
            outcome = &mut run => return outcome.map(|_output| ()),
            () = tokio::time::sleep(SAY_EVERY) => {
                let size = tokio::fs::metadata(file).await.map_or(0, |metadata| metadata.len());
                say(format!("Downloading {url}: {} MB", size / MEGABYTE));
            }
        }
    }
}

/// Whether trying again may help: not when the server has said no, or curl is not there.
fn is_worth_another(error: &CommandError) -> bool {
    // 18: the transfer broke off; 28: too slow; 33 and 36: cannot resume; 52 and 56: no answer.
    let codes = [18, 28, 33, 36, 52, 56];
    match error {
        CommandError::Failed { status, .. } => {
            status.code().is_some_and(|code| codes.contains(&code))
        }
        _ => false,
    }
}

async fn remove(file: &Path) -> Result<(), SourceError> {
    match tokio::fs::remove_file(file).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SourceError::file("remove", file)(error))
        }
        _ => Ok(()),
    }
}
