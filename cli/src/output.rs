//! What goes to standard output: text for people, JSON and YAML for programs.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// What is found.
pub(crate) const WRONG: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
/// What is well.
pub(crate) const FINE: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));

/// The form of what is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}

/// Says something in its form.
pub(crate) fn tell<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let failed = |error: String| Failure::bad_input(error, "Ask for another form by -o.");
    let told = match output {
        Output::Text => text(value),
        Output::Json => {
            serde_json::to_string_pretty(value).map_err(|error| failed(error.to_string()))? + "\n"
        }
        Output::Yaml => {
            serde_saphyr::to_string(value).map_err(|error| failed(error.to_string()))?
        }
    };
    print(&told);
    Ok(())
}

/// Writes to standard output, with colours where it is a terminal that may have them. Who reads no
/// further, as `head`, is not told more.
pub(crate) fn print(text: &str) {
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
}

/// A number with its noun.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
