//! `flotilla config`: the configuration in force.

use crate::printer::Printer;
use crate::site::Site;

pub(crate) fn run(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        return printer.json(&site.config.effective()?);
    }
    printer.line(site.config.effective_toml().trim_end());
    Ok(())
}
