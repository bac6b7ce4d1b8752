//! The page about the command, made from its own definition.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::exit::Exit;

/// What stands before the examples in a subcommand's help.
const EXAMPLES: &str = "Examples:\n";

/// The examples of a subcommand's help, each a line of a shell.
#[must_use]
pub fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let lines = help.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("spillway "))
        .map(str::to_owned)
        .collect()
}

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let command = crate::command(None);
    let mut page = "# The command `spillway`\n\n\
        <!-- Made from the command's own help: SPILLWAY_UPDATE=1 make test-cli writes it anew. -->\n\n"
        .to_owned();
    let about = command.get_about().map(ToString::to_string);
    let _ = writeln!(
        page,
        "{}\n\nUnder the name `kubectl-spillway` in the path it is `kubectl spillway`. Colours are \
         for terminals only, and not where `NO_COLOR` is set.\n\n\
         It ends with a status that does not depend on the form of its output:\n\n\
         | status | |\n|---|---|",
        sentence(&about.unwrap_or_default())
    );
    for (exit, words) in Exit::ALL {
        let _ = writeln!(page, "| {} | {words} |", exit.code());
    }
    let _ = writeln!(
        page,
        "\nClusters are reached as kubectl reaches them:\n\n| argument | |\n|---|---|"
    );
    arguments(&mut page, &command);
    for subcommand in command.get_subcommands() {
        section(
            &mut page,
            subcommand
                .clone()
                .bin_name(format!("spillway {}", subcommand.get_name())),
        );
    }
    page
}

fn section(page: &mut String, mut command: Command) {
    let _ = writeln!(page, "\n## `{}`\n", command.get_name());
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "{}\n", sentence(&about));
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = writeln!(page, "```\n{usage}\n```\n");
    let _ = writeln!(page, "| argument | |\n|---|---|");
    arguments(page, &command);
    let examples = command.get_after_help().map(ToString::to_string);
    if let Some(examples) = examples
        .as_deref()
        .and_then(|help| help.strip_prefix(EXAMPLES))
    {
        let lines = examples
            .lines()
            .map(|line| line.strip_prefix("  ").unwrap_or(line));
        let _ = writeln!(
            page,
            "\n```sh\n{}\n```",
            lines.collect::<Vec<_>>().join("\n")
        );
    }
}

fn arguments(page: &mut String, command: &Command) {
    let all = command.get_arguments();
    let all = all.filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()));
    for argument in all {
        let _ = writeln!(page, "| `{}` | {} |", name(argument), help(argument));
    }
}

/// As it is written.
fn name(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default();
    let values = values
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    let takes = argument.get_action().takes_values();
    match (argument.get_short(), argument.get_long()) {
        (_, None) if takes => values,
        (short, long) => {
            let short = short.map(|short| format!("-{short}"));
            let long = long.map(|long| format!("--{long}"));
            let names = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
            if takes {
                format!("{names} {values}")
            } else {
                names
            }
        }
    }
}

fn help(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut help = help
        .map(ToString::to_string)
        .unwrap_or_default()
        .replace('\n', " ");
    let choices = argument.get_possible_values();
    if argument.get_action().takes_values() && !choices.is_empty() {
        let choices = choices
            .iter()
            .map(|choice| format!("`{}`", choice.get_name()));
        let _ = write!(help, ": {}", choices.collect::<Vec<_>>().join(", "));
    }
    let default = argument.get_default_values().first();
    if let Some(default) = default.filter(|_| argument.get_action().takes_values()) {
        let _ = write!(help, " (default `{}`)", default.to_string_lossy());
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(help, " (environment `{}`)", variable.to_string_lossy());
    }
    help
}

/// The first paragraph of a help has no full stop.
fn sentence(text: &str) -> String {
    let paragraphs = text.trim().split("\n\n");
    let sentences = paragraphs.map(|paragraph| format!("{}.", paragraph.trim_end_matches('.')));
    sentences.collect::<Vec<_>>().join(" ")
}
