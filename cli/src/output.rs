//! What goes to standard output: text for people, JSON and YAML for programs.

use std::io::{self, Write};

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

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listing {
    #[default]
    Text,
    /// Text with all that there is
    Wide,
    Json,
    Yaml,
}

impl From<Listing> for Output {
    fn from(listing: Listing) -> Self {
        match listing {
            Listing::Text | Listing::Wide => Self::Text,
            Listing::Json => Self::Json,
            Listing::Yaml => Self::Yaml,
        }
    }
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
    let _ = try_print(text);
}

/// As [`print`], for what would go on for ever.
///
/// # Errors
/// When nobody reads it any more.
pub(crate) fn try_print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The text without its colours, where standard output is not to have any.
pub(crate) fn plain_where_needed(text: &str) -> String {
    match anstream::AutoStream::choice(&io::stdout()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

/// A number with its noun.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Rows of cells as columns, as wide as they have to be; the last is not filled up.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
