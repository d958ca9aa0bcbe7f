//! What clients of others are promised.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{ACCESS_KEY, BUCKET, SECRET_KEY};
use crate::process::Process;

const SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);

/// boto3 comes with `make tools`.
#[tokio::test]
async fn e2e_every_promise_is_kept_to_a_client_that_others_wrote() {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = crate_directory.join("../../target/tools/venv/bin/python");
    assert!(python.exists(), "{} is missing; `make tools` installs it", python.display());
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path()).await;
    let mut command = Command::new(python);
    command.arg(crate_directory.join("tests/conformance.py"));
    command.arg(format!("http://{}", process.address)).args([BUCKET, ACCESS_KEY, SECRET_KEY]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(SCRIPT_TIMEOUT, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{told}");
    println!("{}", said.lines().last().unwrap_or_default());
}
