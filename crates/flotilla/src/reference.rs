//! The reference page of all commands, made from the command line's own definition.

use clap::{Arg, Command, CommandFactory};

use crate::cli::Arguments;

/// Writes the page.
pub(crate) fn markdown() -> String {
    let mut root = Arguments::command();
    root.build();
    let mut page = String::from(
        "# Commands\n\nMade from the program itself; `cargo xtask reference` writes it anew.\n",
    );
    page.push_str(&section(&root));
    for command in shown_commands(&root) {
        page.push_str(&section(command));
        page.extend(shown_commands(command).map(section));
    }
    page.truncate(page.trim_end().len());
    page
}

fn shown_commands(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn section(command: &Command) -> String {
    let mut command = command.clone();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage().to_string().replace("Usage: ", "");
    let mut text = format!("\n## {name}\n\n{about}\n\n```text\n{usage}\n```\n");
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .collect();
    if arguments.is_empty() {
        return text;
    }
    text.push_str("\n| argument | meaning |\n| --- | --- |\n");
    text.extend(arguments.into_iter().map(row));
    text
}

fn row(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let default: Vec<String> = argument
        .get_default_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    let default = match default.is_empty() {
        true => String::new(),
        false => format!(" (default: `{}`)", default.join(" ")),
    };
    format!("| `{}` | {help}{default} |\n", shown(argument))
}

fn shown(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .and_then(|names| names.first().map(ToString::to_string));
    match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => with_value(format!("-{short}, --{long}"), value),
        (None, Some(long)) => with_value(format!("--{long}"), value),
        (Some(short), None) => with_value(format!("-{short}"), value),
        (None, None) => format!("[{}]", value.unwrap_or_default()),
    }
}

fn with_value(flag: String, value: Option<String>) -> String {
    match value {
        Some(value) => format!("{flag} <{value}>"),
        None => flag,
    }
}
