//! How flotilla speaks: data on standard output, talk on standard error, progress on a terminal.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure;

/// Prints for one run of the program.
#[derive(Debug)]
pub(crate) struct Printer {
    is_json: bool,
}

impl Printer {
    pub(crate) const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints a line of data.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        // A closed pipe (`| head`) is the reader's decision.
        drop(writeln!(std::io::stdout().lock(), "{}", text.as_ref()));
    }

    /// Prints data as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string(value)?);
        Ok(())
    }

    /// Says something to the person at the terminal.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        drop(writeln!(std::io::stderr().lock(), "{}", text.as_ref()));
    }

    /// Prints an error and returns its exit code.
    pub(crate) fn fail(&self, error: &anyhow::Error) -> ExitCode {
        let failure = failure::of(error);
        if self.is_json {
            drop(self.json(&serde_json::json!({ "error": failure })));
        }
        self.say(format!("error: {}", failure.message));
        if let Some(hint) = &failure.hint {
            self.say(format!("\nhint: {hint}"));
        }
        ExitCode::from(failure.kind.exit_code())
    }

    /// Starts to show what is being done: a line that changes on a terminal, lines elsewhere.
    pub(crate) fn progress(&self) -> Progress<'_> {
        let is_live = std::io::stderr().is_terminal() && !self.is_json;
        let target =
            if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress { printer: self, bar, is_live, last: String::new() }
    }
}

/// Something under way.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    bar: ProgressBar,
    is_live: bool,
    last: String,
}

impl Progress<'_> {
    /// Says what is being done now.
    pub(crate) fn doing(&mut self, what: impl Into<String>) {
        let what = what.into();
        if what == self.last {
            return;
        }
        if self.is_live {
            self.bar.set_message(what.clone());
        } else {
            self.printer.say(&what);
        }
        self.last = what;
    }

    /// Says how far something is: at each step on a terminal, else at each tenth.
    pub(crate) fn reached(&mut self, what: &str, detail: &str, done: u64, total: u64) {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        if self.is_live {
            self.doing(format!("{what}: {percent} %, {detail}"));
        } else {
            self.doing(format!("{what}: {} %", percent / 10 * 10));
        }
    }

    /// Ends; nothing of the changing line is left.
    pub(crate) fn done(self) {
        self.bar.finish_and_clear();
    }
}

/// Says how long something took, as people read it.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", time.as_secs_f64()),
        60_000..3_600_000 => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
        3_600_000..86_400_000 => {
            format!("{} h {} min", time.as_secs() / 3600, time.as_secs() / 60 % 60)
        }
        _ => format!("{} d {} h", time.as_secs() / 86_400, time.as_secs() / 3600 % 24),
    }
}

/// Says when something was, in UTC; `seconds` are since 1970.
pub(crate) fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.map(|time| time.to_string().replace('T', " ").replace('Z', "")).unwrap_or_default()
}

/// Says how much something is, as people read it.
pub(crate) fn amount(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Puts rows under a head, columns aligned.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = vec![
            vec!["web-1".to_owned(), "ok".to_owned()],
            vec!["web-10".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", "STATE"], &rows), "NAME    STATE\nweb-1   ok\nweb-10");
    }

    #[test]
    fn durations_have_the_unit_people_would_choose() {
        for (millis, text) in [
            (40, "40 ms"),
            (2_140, "2.1 s"),
            (125_000, "2 min 5 s"),
            (7_260_000, "2 h 1 min"),
            (180_000_000, "2 d 2 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
