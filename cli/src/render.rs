//! Objects into files, for those who bring them into clusters by another tool.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use spillway_controller::target::directory;

use crate::exit::{Exit, Failure};
use crate::output::{self, Output, counted};
use crate::planned::{Sources, Told};

/// Write what every cluster is to have into files
///
/// It is what the controller would write into the clusters, a folder for each: for those who bring
/// objects into clusters by another tool. Files that are as they should be are not touched; those
/// that nobody wants any more are removed, if they are Spillway's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What a GitOps tool applies; SPILLWAY_IMAGE and SPILLWAY_TOKENS stand in the environment
  spillway render mesh --out deploy

  # What it would write
  spillway render mesh --out deploy --dry-run")]
pub(crate) struct Render {
    #[command(flatten)]
    sources: Sources,

    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// The form of what is said
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendered {
    #[serde(flatten)]
    told: Told,
    written: Vec<PathBuf>,
    removed: Vec<PathBuf>,
}

pub(crate) fn run(render: &Render) -> Result<Exit, Failure> {
    let planned = render.sources.plan()?;
    let failed = |error: directory::FileError| {
        Failure::bad_input(error, "Name a folder that can be written by --out.")
    };
    let changes = directory::changes(&render.out, &planned.plan).map_err(failed)?;
    let (written, removed): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|change| change.after.is_some());
    let paths = |of: Vec<directory::Change>| of.into_iter().map(|change| change.path).collect();
    let rendered = Rendered {
        told: planned.told(),
        written: paths(written),
        removed: paths(removed),
    };
    if !render.dry_run {
        directory::write(&render.out, &planned.plan).map_err(failed)?;
    }
    output::tell(render.output, &rendered, |rendered| {
        text(rendered, render.dry_run)
    })?;
    Ok(if rendered.told.is_fine() {
        Exit::Fine
    } else {
        Exit::Findings
    })
}

fn text(rendered: &Rendered, dry_run: bool) -> String {
    let Rendered {
        told,
        written,
        removed,
    } = rendered;
    let mut text = told.text();
    for (verb, paths) in [("write", written), ("remove", removed)] {
        for path in paths.iter().filter(|_| dry_run) {
            text += &format!("would {verb} {}\n", path.display());
        }
    }
    let (written, removed) = (
        counted(written.len(), "file"),
        counted(removed.len(), "file"),
    );
    text += &if dry_run {
        format!("{written} to write, {removed} to remove\n")
    } else {
        format!("{written} written, {removed} removed\n")
    };
    text
}
