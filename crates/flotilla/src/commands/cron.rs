//! `flotilla cron`: what is scheduled, and what was run.

use std::time::Duration;

use anyhow::Context;
use flotilla_core::layout;
use flotilla_host::command::Command;
use serde::{Deserialize, Serialize};

use crate::local::workshop;
use crate::printer::{Printer, duration, table};
use crate::site::Site;

const TIME_LIMIT: Duration = Duration::from_secs(60);
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What `cron.php list` tells; times are seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Listing {
    scheduled: Vec<Scheduled>,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Scheduled {
    hook: String,
    due: u64,
    count: u32,
    schedule: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Run {
    hook: String,
    due: u64,
    begun_at: Option<f64>,
    ended_at: Option<f64>,
    outcome: Option<String>,
    message: Option<String>,
}

pub(crate) async fn run(
    site: &Site,
    hook: Option<String>,
    limit: u16,
    printer: &Printer,
) -> anyhow::Result<()> {
    let place = workshop(site).await?;
    let script = format!("{}/cron.php", layout::PHP);
    let mut words = vec![script, "list".to_owned(), limit.to_string()];
    words.extend(hook);
    let spec = serde_json::to_string(&place.inside(words))?;
    let output = Command::new(std::env::current_exe()?)
        .called("cron.php")
        .args(["internal", "inside", &spec])
        .time_limit(TIME_LIMIT)
        .output_limit(OUTPUT_BYTES_MAX)
        .run()
        .await?;
    let listing: Listing =
        serde_json::from_slice(&output.stdout).context("`cron.php` says no JSON")?;
    if printer.is_json() {
        return printer.json(&listing);
    }
    let now = flotilla_foreman::clock::now().0 / 1000;
    let rows: Vec<Vec<String>> = listing.scheduled.iter().map(|one| one.row(now)).collect();
    printer.line(table(&["SCHEDULED", "DUE", "RECURS", "EVENTS"], &rows));
    printer.line("");
    let rows: Vec<Vec<String>> = listing.runs.iter().map(|one| one.row(now)).collect();
    printer.line(table(&["RUN", "BEGAN", "LATE", "TOOK", "OUTCOME", ""], &rows));
    Ok(())
}

impl Scheduled {
    fn row(&self, now: u64) -> Vec<String> {
        let due = match self.due.checked_sub(now) {
            Some(left) => format!("in {}", duration(Duration::from_secs(left))),
            None => "now".to_owned(),
        };
        let recurs = self.schedule.clone().unwrap_or_else(|| "once".to_owned());
        vec![self.hook.clone(), due, recurs, self.count.to_string()]
    }
}

impl Run {
    fn row(&self, now: u64) -> Vec<String> {
        let between = |from: f64, to: f64| {
            Duration::try_from_secs_f64(to - from).map(duration).unwrap_or_default()
        };
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
        let (now, due) = (now as f64, self.due as f64);
        let ago = |at| format!("{} ago", between(at, now));
        let outcome = match (&self.outcome, self.begun_at) {
            (Some(outcome), _) => outcome.clone(),
            (None, Some(_)) => "runs".to_owned(),
            (None, None) => "begins".to_owned(),
        };
        let took = self.begun_at.zip(self.ended_at).map(|(from, to)| between(from, to));
        vec![
            self.hook.clone(),
            self.begun_at.map(ago).unwrap_or_default(),
            self.begun_at.map(|at| between(due, at)).unwrap_or_default(),
            took.unwrap_or_default(),
            outcome,
            self.message.clone().unwrap_or_default(),
        ]
    }
}
