//! Findings, by category.

use anstyle::{AnsiColor, Color, Style};
use serde::Serialize;

use crate::output::{FINE, WRONG};

const WARNING: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));

/// All that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Nothing is wrong; there may be warnings.
    pub(super) success: bool,
    pub(super) categories: Vec<Category>,
}

/// What belongs together.
#[derive(Debug, Serialize)]
pub(super) struct Category {
    pub(super) name: String,
    pub(super) checks: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) description: String,
    pub(super) result: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Success,
    Warning,
    Error,
}

impl Report {
    pub(super) fn new(categories: Vec<Category>) -> Self {
        let categories: Vec<Category> = categories
            .into_iter()
            .filter(|category| !category.checks.is_empty())
            .collect();
        let mut findings = categories.iter().flat_map(|category| &category.checks);
        Self {
            success: findings.all(|finding| finding.result != Level::Error),
            categories,
        }
    }

    /// As people know it from other meshes.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for category in &self.categories {
            let line = "-".repeat(category.name.chars().count());
            text += &format!("{}\n{line}\n", category.name);
            for finding in &category.checks {
                text += &finding.text();
            }
            text.push('\n');
        }
        let count = |level| {
            let findings = self.categories.iter().flat_map(|it| &it.checks);
            findings.filter(|it| it.result == level).count()
        };
        let counts = format!(
            "{} right, {} to look at, {} wrong",
            count(Level::Success),
            count(Level::Warning),
            count(Level::Error)
        );
        let mark = if self.success {
            format!("{FINE}√{FINE:#}")
        } else {
            format!("{WRONG}×{WRONG:#}")
        };
        format!("{text}{mark} {counts}\n")
    }
}

impl Finding {
    fn text(&self) -> String {
        let mark = match self.result {
            Level::Success => format!("{FINE}√{FINE:#}"),
            Level::Warning => format!("{WARNING}‼{WARNING:#}"),
            Level::Error => format!("{WRONG}×{WRONG:#}"),
        };
        let more = [&self.reason, &self.mend].into_iter().flatten();
        let more: String = more.map(|line| format!("    {line}\n")).collect();
        format!("{mark} {}\n{more}", self.description)
    }
}

impl Category {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            checks: Vec::new(),
        }
    }

    pub(super) fn fine(&mut self, description: impl Into<String>) {
        self.checks.push(Finding {
            description: description.into(),
            result: Level::Success,
            reason: None,
            mend: None,
        });
    }

    pub(super) fn warn(
        &mut self,
        description: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(Level::Warning, description, reason, mend);
    }

    pub(super) fn wrong(
        &mut self,
        description: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(Level::Error, description, reason, mend);
    }

    fn add(
        &mut self,
        result: Level,
        description: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.checks.push(Finding {
            description: description.into(),
            result,
            reason: Some(reason.into()),
            mend: Some(mend.into()),
        });
    }
}
