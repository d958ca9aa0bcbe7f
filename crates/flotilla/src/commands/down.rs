//! `flotilla down`: stops the fleet, keeps its data.

use flotilla_targets::local;

use crate::printer::Printer;
use crate::site::Site;

pub(crate) async fn run(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    let mut progress = printer.progress();
    progress.doing("Stopping the fleet");
    let outcome = local::down(&site.layout).await;
    progress.done();
    let stopped = outcome?;
    if stopped.is_empty() {
        printer.say("The fleet was not running");
    } else {
        printer.say(format!(
            "Stopped {} parts; the data stays in {}",
            stopped.len(),
            site.layout.data_dir().display()
        ));
    }
    Ok(())
}
