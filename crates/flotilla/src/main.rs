//! The `flotilla` program: arguments, wiring and printing. What it wires is in the other crates.

mod cli;
mod client;
mod commands;
mod failure;
mod internal;
mod local;
mod patience;
mod printer;
mod reference;
mod site;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Command};
use crate::printer::Printer;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // These become another program, so nothing may run beside them: no runtime, no threads.
    if let Command::Internal { command } = &arguments.command
        && let Some(code) = internal::run_alone(command)
    {
        return code;
    }
    let printer = Printer::new(arguments.is_json());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return printer.fail(&error.into()),
    };
    match runtime.block_on(commands::run(arguments, &printer)) {
        Ok(code) => code,
        Err(error) => printer.fail(&error),
    }
}
