//! Whether policies, fleets and clusters are written as they should be, without a cluster.
//!
//! The schemas and rules of the definitions that ship are applied here as an API server applies
//! them, with the same words; but an API server tells the first kind of mistakes only, and no lines.

pub(crate) mod node;
mod object;
mod rules;
mod schema;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use spillway_api::BurstPolicy;

use self::node::{Content, Node, Place};
use self::object::{Checked, Definitions};
use crate::exit::{Exit, Failure};
use crate::input::{self, Manifest};
use crate::output::{self, FINE, Output, WRONG, counted};

/// Check that policies, fleets and clusters are written as they should be
///
/// Tells every mistake with its file, line and column, and needs no cluster. What an API server
/// would refuse is refused here, in the same words where these are rules of Spillway's. Objects of
/// other kinds are passed over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # A file, or several
  spillway validate policy.yaml fleet.yaml

  # All of a folder, for a program
  spillway validate mesh -o json")]
pub(crate) struct Validate {
    /// Files, folders, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The form of what is found
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How many files were read.
    files: usize,
    /// How many objects of Spillway's are in them.
    objects: usize,
    pub(crate) mistakes: Vec<Mistake>,
}

/// A mistake.
#[derive(Debug, Serialize)]
pub(crate) struct Mistake {
    file: String,
    line: u64,
    column: u64,
    object: String,
    path: String,
    message: String,
}

pub(crate) fn run(validate: &Validate) -> Result<Exit, Failure> {
    let report = check(&input::read(&validate.files)?)?;
    output::tell(validate.output, &report, text)?;
    Ok(if report.mistakes.is_empty() {
        Exit::Fine
    } else {
        Exit::Findings
    })
}

/// Checks all objects of Spillway's.
///
/// # Errors
/// Never in practice: see [`Definitions::new`].
pub(crate) fn check(manifests: &[Manifest]) -> Result<Report, Failure> {
    let definitions = Definitions::new().map_err(|error| {
        Failure::bad_input(error, "This is a mistake of Spillway's: report it.")
    })?;
    let mut report = Report {
        files: manifests.len(),
        objects: 0,
        mistakes: Vec::new(),
    };
    let mut known = BTreeMap::new();
    for manifest in manifests {
        let file = manifest.path.display().to_string();
        let documents = match serde_saphyr::from_multiple::<Node>(&manifest.text) {
            Ok(documents) => documents,
            Err(error) => {
                let place = error.location().map(Place::from).unwrap_or_default();
                let message = syntax(&error);
                report.mistakes.push(mistake(&file, place, "", "", message));
                continue;
            }
        };
        for object in documents.iter().flat_map(items) {
            let Some(Checked { name, place, wrong }) = definitions.check(object) else {
                continue;
            };
            report.objects += 1;
            let wrong = wrong.into_iter();
            let wrong = wrong.map(|it| mistake(&file, it.place, &name, &it.path, it.message));
            report.mistakes.extend(wrong);
            let here = format!("{file}:{}", place.line);
            if let Some(other) = known.insert(name.clone(), here) {
                let message = format!("stands in {other} too: write it once");
                report
                    .mistakes
                    .push(mistake(&file, place, &name, "", message));
            }
        }
    }
    Ok(report)
}

/// The one policy of a file, without a mistake.
///
/// # Errors
/// When there is not exactly one, or something is wrong with it.
pub(crate) fn policy(path: &Path, text: &str) -> Result<BurstPolicy, Failure> {
    let manifest = Manifest {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let report = check(std::slice::from_ref(&manifest))?;
    if !report.mistakes.is_empty() {
        return Err(report.refuse());
    }
    let wrong = |error: &dyn Display| {
        let message = format!("{}: {error}", path.display());
        Failure::bad_input(
            message,
            "Name a file with one BurstPolicy and nothing else.",
        )
    };
    let documents = serde_saphyr::from_multiple::<Value>(text).map_err(|error| wrong(&error))?;
    match documents.as_slice() {
        [policy] => serde_json::from_value(policy.clone()).map_err(|error| wrong(&error)),
        others => Err(wrong(&format!("has {}", counted(others.len(), "object")))),
    }
}

impl Report {
    /// What those say who need files without a mistake.
    pub(crate) fn refuse(&self) -> Failure {
        let mistakes = counted(self.mistakes.len(), "mistake");
        Failure::bad_input(
            format!("{mistakes}:\n{}", lines(self)),
            "Mend them: `spillway validate` tells them too.",
        )
    }
}

/// The objects of a document, a list taken apart.
fn items(document: &Node) -> &[Node] {
    match (&document.content, document.get("items")) {
        (Content::Null, _) => &[],
        (_, Some(list)) => match &list.content {
            Content::List(items) => items,
            _ => std::slice::from_ref(document),
        },
        (_, None) => std::slice::from_ref(document),
    }
}

fn mistake(file: &str, place: Place, object: &str, path: &str, message: String) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line: place.line,
        column: place.column,
        object: object.to_owned(),
        path: path.to_owned(),
        message,
    }
}

/// Why a file is no YAML. Its place is told apart.
fn syntax(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    format!("cannot be read as YAML: {text}")
}

/// As compilers tell it, so that editors find the place.
fn lines(report: &Report) -> String {
    let told = report.mistakes.iter().map(|mistake| {
        let Mistake {
            file,
            line,
            column,
            message,
            ..
        } = mistake;
        let about = [&mistake.object, &mistake.path];
        let about = about.into_iter().filter(|part| !part.is_empty());
        let about: String = about.map(|part| format!("{part}: ")).collect();
        format!("{file}:{line}:{column}: {WRONG}{about}{WRONG:#}{message}")
    });
    told.collect::<Vec<_>>().join("\n")
}

fn text(report: &Report) -> String {
    let (objects, files) = (
        counted(report.objects, "object"),
        counted(report.files, "file"),
    );
    match report.mistakes.len() {
        0 => format!("{FINE}√{FINE:#} {objects} in {files}, no mistake\n"),
        some => format!(
            "{}\n{WRONG}×{WRONG:#} {} in {objects} of {files}\n",
            lines(report),
            counted(some, "mistake")
        ),
    }
}
