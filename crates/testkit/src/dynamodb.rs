//! An emulator of DynamoDB with a table for sessions.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The table's name.
pub const TABLE: &str = "sessions";
/// The region that it is in.
pub const REGION: &str = "us-east-1";
/// Both halves of the keys that the emulator takes.
pub const KEY: &str = "test";

/// How long it may take to be ready, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/venv/bin/ministack");

/// ministack, as a process of its own; dropping it kills it.
#[derive(Debug)]
pub struct Emulator {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
}

impl Emulator {
    /// Starts it and makes the table; blocks until that is there.
    ///
    /// # Errors
    /// It is not installed, or is not ready in time.
    pub fn start() -> anyhow::Result<Self> {
        ensure!(Path::new(PROGRAM).is_file(), "`{PROGRAM}` is missing; `make tools` installs it");
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let port = address.port().to_string();
        // The kernel kills it when the test dies.
        #[expect(clippy::disallowed_methods, reason = "dropping it and the kernel end it")]
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", PROGRAM])
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", &port)
            .env("EDGE_PORT", &port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let emulator = Self { address, process };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let answer = emulator.ask("CreateTable", &table()).unwrap_or_default();
            // It may have been made by an attempt whose answer came too late.
            if answer.contains("TableArn") || answer.contains("ResourceInUseException") {
                return Ok(emulator);
            }
            ensure!(Instant::now() < deadline, "the emulator makes no table: {answer}");
            #[expect(clippy::disallowed_methods, reason = "it blocks on purpose")]
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Returns `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how many items the table has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn items(&self) -> anyhow::Result<u64> {
        let answer = self.ask("Scan", &json!({ "TableName": TABLE, "Select": "COUNT" }))?;
        let answer: Value = serde_json::from_str(&answer)?;
        answer.get("Count").and_then(Value::as_u64).with_context(|| format!("no count: {answer}"))
    }

    fn ask(&self, operation: &str, input: &Value) -> anyhow::Result<String> {
        #[expect(clippy::disallowed_methods, reason = "curl bounds its time")]
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "5"])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:dynamodb")])
            .args(["--user", &format!("{KEY}:{KEY}")])
            .args(["-H", "Content-Type: application/x-amz-json-1.0"])
            .args(["-H", &format!("X-Amz-Target: DynamoDB_20120810.{operation}")])
            .args(["-d", &input.to_string(), &self.endpoint()])
            .output()?;
        if !output.status.success() {
            bail!("curl: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn table() -> Value {
    json!({
        "TableName": TABLE, "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
        "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
    })
}
