//! `flotilla config`: the configuration in force.

use crate::printer::Printer;
use crate::site::Site;

pub(crate) fn run(site: &Site, printer: &Printer) {
    printer.line(site.config.effective_toml().trim_end());
}
