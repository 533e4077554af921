//! docs/COMMANDS.md: every command with its arguments and options, written from what `--help` is made of.

use std::fmt::Write as _;

use clap::{Arg, Command, builder::StyledStr};

use super::command_line;
use crate::documents;

/// A text of help in a cell of a table.
fn cell(text: &StyledStr) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// How an argument is written on the command line.
fn written(arg: &Arg) -> String {
    let names = arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    let value = names.unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg.get_long().map(|long| format!("`--{long}`"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    match (flags.is_empty(), arg.get_action().takes_values()) {
        (true, _) => format!("`{value}`"),
        (false, true) => format!("{} {value}", flags.join(", ")),
        (false, false) => flags.join(", "),
    }
}

/// What an argument means, with what it takes and where else it comes from.
fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or(arg.get_help()).map(cell).unwrap_or_default();
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() && !values.is_empty() {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        let _ = write!(text, "; one of {}", values.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, "; variable `{}`", variable.to_string_lossy());
    }
    text
}

/// The arguments that a test picks, as a table.
fn table(command: &Command, picked: impl Fn(&Arg) -> bool) -> String {
    let of_every_command = |arg: &Arg| matches!(arg.get_id().as_str(), "help" | "version");
    let args = command.get_arguments().filter(|arg| !of_every_command(arg) && !arg.is_hide_set() && picked(arg));
    let mut text = String::new();
    for arg in args {
        if text.is_empty() {
            text.push_str("\n| Argument | Meaning | Default |\n|---|---|---|\n");
        }
        // A flag that takes no value has one all the same: that it is not there.
        let defaults = arg.get_default_values().iter().filter(|_| arg.get_action().takes_values());
        let defaults: Vec<String> = defaults.map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let default = if arg.is_required_set() { "required".to_owned() } else { defaults.join(", ") };
        let _ = writeln!(text, "| {} | {} | {default} |", written(arg), meaning(arg));
    }
    text
}

fn describe(command: &mut Command, path: &str, text: &mut String) {
    if command.get_subcommands().next().is_none() {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
        let _ = write!(text, "\n## `{path}`\n\n{}\n\n```text\n{usage}\n```\n", about.trim());
        text.push_str(&table(command, |arg| !arg.is_global_set()));
        if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
            // Examples stand below all else, indented: as a list of commands here.
            for paragraph in more.to_string().trim().split("\n\n") {
                let _ = match paragraph.strip_prefix("Examples:\n") {
                    Some(examples) => {
                        let examples = examples.lines().map(str::trim).collect::<Vec<_>>().join("\n");
                        write!(text, "\n```sh\n{examples}\n```\n")
                    }
                    None => write!(text, "\n{paragraph}\n"),
                };
            }
        }
    }
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        let path = format!("{path} {}", below.get_name());
        describe(below, &path, text);
    }
}

#[test]
fn the_generated_reference_of_commands_is_what_the_code_says() {
    let mut root = command_line();
    root.build();
    let mut text = format!(
        "# Commands\n\n{}\nEvery command of `liminal`, as `--help` describes it. Exit codes and output for scripts: \
         [OPERATIONS.md](OPERATIONS.md#commands-in-scripts).\n\n## Options of every command\n",
        documents::notice()
    );
    text.push_str(&table(&root, Arg::is_global_set));
    describe(&mut root, "liminal", &mut text);
    documents::hold("docs/COMMANDS.md", &text);
}
