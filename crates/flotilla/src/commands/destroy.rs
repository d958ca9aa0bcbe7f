//! `flotilla destroy`: stops the fleet and removes its data, after asking.

use std::io::{BufRead, IsTerminal};

use flotilla_core::error::{ErrorKind, Failure};
use flotilla_targets::local;

use crate::printer::Printer;
use crate::site::Site;

pub(crate) async fn run(site: &Site, is_sure: bool, printer: &Printer) -> anyhow::Result<()> {
    let data_dir = site.layout.data_dir();
    if !data_dir.exists() {
        printer.say(format!("There is nothing to remove in {}", site.directory.display()));
        return Ok(());
    }
    if !is_sure && !ask(site, printer)? {
        return Err(Failure::new(ErrorKind::Refused, "nothing was removed")
            .with_hint("type the word `destroy`, or use --yes")
            .into());
    }
    let mut progress = printer.progress();
    progress.doing("Stopping the fleet and removing its data");
    let outcome = local::destroy(&site.layout).await;
    progress.done();
    outcome?;
    printer.say(format!("Removed {}", data_dir.display()));
    Ok(())
}

fn ask(site: &Site, printer: &Printer) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    printer.say(format!(
        "This removes the code's history, the database with all orders, and all media of {}.\n\
         Type `destroy` to go on:",
        site.layout.data_dir().display()
    ));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "destroy")
}
