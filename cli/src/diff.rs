//! What would change, and where.

use std::path::PathBuf;

use anstyle::Style;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;
use spillway_controller::target::directory::{self, Change};

use crate::exit::{Exit, Failure};
use crate::output::{self, FINE, Output, WRONG, counted};
use crate::planned::{Sources, Told};

/// Say what would change in which cluster
///
/// Compares what every cluster is to have with what `spillway render` wrote before. Tokens of the
/// mesh are not shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # In a pipeline: ends with 1 where something would change; SPILLWAY_IMAGE and SPILLWAY_TOKENS
  # stand in the environment
  spillway diff mesh --against deploy")]
pub(crate) struct Diff {
    #[command(flatten)]
    sources: Sources,

    /// The folder that was rendered
    #[arg(long, value_name = "DIR")]
    against: PathBuf,

    /// The form of what is said
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Differences {
    #[serde(flatten)]
    told: Told,
    changes: Vec<Difference>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    path: String,
    action: Action,
    diff: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Action {
    Create,
    Change,
    Remove,
}

pub(crate) fn run(diff: &Diff) -> Result<Exit, Failure> {
    let planned = diff.sources.plan()?;
    let changes = directory::changes(&diff.against, &planned.plan).map_err(|error| {
        Failure::bad_input(
            error,
            "Name a folder that `spillway render` wrote by --against.",
        )
    })?;
    let mut tokens: Vec<String> = planned
        .input
        .mesh
        .tokens
        .iter()
        .map(str::to_owned)
        .collect();
    let before = changes.iter().filter_map(|change| change.before.as_deref());
    tokens.extend(before.flat_map(tokens_of));
    let differences = Differences {
        told: planned.told(),
        changes: changes
            .iter()
            .map(|change| difference(change, diff, &tokens))
            .collect(),
    };
    output::tell(diff.output, &differences, text)?;
    Ok(
        if differences.told.is_fine() && differences.changes.is_empty() {
            Exit::Fine
        } else {
            Exit::Findings
        },
    )
}

fn difference(change: &Change, diff: &Diff, tokens: &[String]) -> Difference {
    let path = change
        .path
        .strip_prefix(&diff.against)
        .unwrap_or(&change.path);
    let path = path.display().to_string();
    let part = |text: &Option<String>| {
        let text = text.clone().unwrap_or_default();
        tokens
            .iter()
            .fold(text, |text, token| text.replace(token, "TOKEN"))
    };
    let (before, after) = (part(&change.before), part(&change.after));
    let name = |text: &Option<String>, side| match text {
        Some(_) => format!("{side}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let (from, to) = (name(&change.before, "a"), name(&change.after, "b"));
    let text = TextDiff::from_lines(&before, &after);
    let told = text.unified_diff().header(&from, &to).to_string();
    Difference {
        action: match (&change.before, &change.after) {
            (None, _) => Action::Create,
            (_, None) => Action::Remove,
            _ => Action::Change,
        },
        // Only a token differs.
        diff: if told.is_empty() {
            format!("--- {from}\n+++ {to}\n")
        } else {
            told
        },
        path,
    }
}

/// The tokens in a plugin that was rendered before: they may still be in force.
fn tokens_of(text: &str) -> Vec<String> {
    let object: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let tokens = object.pointer("/spec/pluginConfig/tokens");
    let tokens = tokens.and_then(Value::as_array).into_iter().flatten();
    tokens
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn text(differences: &Differences) -> String {
    let mut text = String::new();
    for line in differences
        .changes
        .iter()
        .flat_map(|change| change.diff.lines())
    {
        let style = match line.as_bytes().first() {
            Some(b'+') => FINE,
            Some(b'-') => WRONG,
            _ => Style::new(),
        };
        text += &format!("{style}{line}{style:#}\n");
    }
    text += &differences.told.text();
    let of = |action| {
        let changes = differences.changes.iter();
        changes.filter(|change| change.action == action).count()
    };
    text += &format!(
        "{} to create, {} to change, {} to remove\n",
        counted(of(Action::Create), "file"),
        of(Action::Change),
        of(Action::Remove)
    );
    text
}
