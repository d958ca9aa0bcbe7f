//! `flotilla media`: brings a directory of uploads into the bucket, and looks whether all is there.

use std::path::Path;

use flotilla_core::error::{ErrorKind, Failure};
use flotilla_media::{Import, Problem, Progress as Done, Store, TransferError, import, verify};

use crate::cli::Media;
use crate::failure::{configuration, unavailable};
use crate::internal::media::{DIRECTORY_MODE, FILE_MODE, store_options};
use crate::local::media_settings;
use crate::printer::{Printer, Progress, amount};
use crate::site::Site;

/// How many problems are printed; the rest are counted.
const PROBLEMS_SHOWN: usize = 20;

pub(crate) async fn run(site: &Site, command: Media, printer: &Printer) -> anyhow::Result<()> {
    let store = store(site)?;
    match command {
        Media::Import { uploads, compare, .. } => {
            bring_in(&store, existing(&uploads)?, compare, printer).await
        }
        Media::Verify { uploads, .. } => {
            look(&store, uploads.as_deref().map(existing).transpose()?, printer).await
        }
    }
}

fn existing(directory: &Path) -> Result<&Path, Failure> {
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(configuration(format!("there is no directory `{}`", directory.display()))
        .with_hint("name the site's old `wp-content/uploads`"))
}

fn store(site: &Site) -> anyhow::Result<Store> {
    let settings = media_settings(site)?.ok_or_else(|| {
        let media = site.layout.media();
        configuration("this site keeps its media in a directory, not in a bucket").with_hint(
            format!(
                "copy files into `{}`; or take `media.store` out of flotilla.toml",
                media.display()
            ),
        )
    })?;
    Store::new(&store_options(&settings)).map_err(|error| configuration(error.to_string()).into())
}

async fn bring_in(
    store: &Store,
    directory: &Path,
    compares_content: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    let order = Import {
        directory: directory.to_owned(),
        compares_content,
        file_mode: FILE_MODE,
        directory_mode: DIRECTORY_MODE,
    };
    let mut progress = printer.progress();
    let outcome = import(store, &order, |done| show(&mut progress, "Importing", done)).await;
    progress.done();
    let report = outcome.map_err(explained)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({
            "stored": report.stored,
            "skipped": report.skipped,
            "bytes": report.bytes,
            "left_out": report.left_out,
            "problems": named(&report.problems),
        }))?;
    } else {
        printer.line(format!(
            "{} files stored ({}), {} were there already",
            report.stored,
            amount(report.bytes),
            report.skipped
        ));
        tell(printer, &report.problems, report.left_out);
    }
    if report.left_out == 0 {
        return Ok(());
    }
    Err(refused(format!("{} files were left out", report.left_out)).into())
}

async fn look(store: &Store, directory: Option<&Path>, printer: &Printer) -> anyhow::Result<()> {
    let mut progress = printer.progress();
    let outcome = verify(store, directory, |done| show(&mut progress, "Verifying", done)).await;
    progress.done();
    let report = outcome.map_err(explained)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({
            "files": report.files,
            "bytes": report.bytes,
            "compared": report.compared,
            "wrong": report.wrong,
            "problems": named(&report.problems),
        }))?;
    } else {
        printer.line(format!(
            "{} files ({}) can be read; the content of {} was compared",
            report.files,
            amount(report.bytes),
            report.compared
        ));
        tell(printer, &report.problems, report.wrong);
    }
    if report.wrong == 0 {
        return Ok(());
    }
    Err(refused(format!("{} files are missing or damaged", report.wrong)).into())
}

fn show(progress: &mut Progress<'_>, what: &str, done: Done) {
    let text = format!("{} of {} files", done.files, done.files_total);
    progress.reached(what, &text, done.bytes + done.files, done.bytes_total + done.files_total);
}

fn tell(printer: &Printer, problems: &[Problem], count: u64) {
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        printer.line(format!("{}: {}", problem.name, problem.reason));
    }
    let shown = u64::try_from(problems.len().min(PROBLEMS_SHOWN)).unwrap_or(u64::MAX);
    if count > shown {
        printer.line(format!("… and {} more", count - shown));
    }
}

fn named(problems: &[Problem]) -> Vec<serde_json::Value> {
    let one =
        |problem: &Problem| serde_json::json!({ "name": problem.name, "reason": problem.reason });
    problems.iter().map(one).collect()
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorKind::Refused, message)
}

fn explained(error: TransferError) -> anyhow::Error {
    match error {
        TransferError::Store(error) => unavailable(error.to_string())
            .with_hint("what was stored stays; run the command again to go on. The store of the fleet itself runs with it (`flotilla up`)")
            .into(),
        error => error.into(),
    }
}
