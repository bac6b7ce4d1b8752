//! Differences as they are shown: without what is secret.

use anstyle::Style;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use crate::output::{FINE, WRONG, counted};
use crate::planned::{Planned, Told};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Differences {
    #[serde(flatten)]
    pub(super) told: Told,
    pub(super) changes: Vec<Difference>,
    /// Clusters that could not be compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) silent: Vec<String>,
    /// Changes that an API server would not take, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) refused: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) action: Action,
    pub(super) diff: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Action {
    Create,
    Change,
    Remove,
}

/// A path, and what stands there and should.
pub(super) type Texts = (String, Option<String>, Option<String>);

pub(super) fn differences(texts: &[Texts], planned: &Planned) -> Vec<Difference> {
    let tokens = planned.input.mesh.tokens.iter().map(str::to_owned);
    let mut tokens: Vec<String> = tokens.collect();
    let before = texts.iter().filter_map(|(_, before, _)| before.as_deref());
    tokens.extend(before.flat_map(tokens_of));
    texts
        .iter()
        .map(|texts| difference(texts, &tokens))
        .collect()
}

fn difference((path, before, after): &Texts, tokens: &[String]) -> Difference {
    let part = |text: &Option<String>| {
        let text = text.clone().unwrap_or_default();
        tokens
            .iter()
            .fold(text, |text, token| text.replace(token, "TOKEN"))
    };
    let name = |text: &Option<String>, side| match text {
        Some(_) => format!("{side}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let (from, to) = (name(before, "a"), name(after, "b"));
    let action = match (before, after) {
        (None, _) => Action::Create,
        (_, None) => Action::Remove,
        _ => Action::Change,
    };
    let (before, after) = (part(before), part(after));
    let text = TextDiff::from_lines(&before, &after);
    let told = text.unified_diff().header(&from, &to).to_string();
    Difference {
        action,
        // Only a token differs.
        diff: if told.is_empty() {
            format!("--- {from}\n+++ {to}\n")
        } else {
            told
        },
        path: path.clone(),
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

pub(super) fn text(differences: &Differences) -> String {
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
    for refused in &differences.refused {
        text += &format!("{WRONG}×{WRONG:#} would be refused: {refused}\n");
    }
    if !differences.silent.is_empty() {
        text += &format!("not compared: {}\n", differences.silent.join(", "));
    }
    text += &format!(
        "{} to create, {} to change, {} to remove\n",
        counted(of(Action::Create), "object"),
        of(Action::Change),
        of(Action::Remove)
    );
    text
}
