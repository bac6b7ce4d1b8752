//! Why requests go where they go: for a policy and a rate, or for a line of an access log.

mod line;
mod policy;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::input;
use crate::output::{self, Output};

/// Explain where requests go, and why
///
/// With a policy and a rate: what is asked in which order, and which threshold and which rung lead
/// where. With an access log: what the reasons in its lines mean. The filter leaves its reason in the
/// filter state, which a log format shows by %FILTER_STATE(wasm.spillway.reason:PLAIN)%.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # At a rate
  spillway why policy.yaml --rate 75/s --endpoints 2

  # The lines of a proxy's log
  spillway why --log access.log")]
pub(crate) struct Why {
    /// A file with one BurstPolicy, or - for standard input
    #[arg(required_unless_present = "log", requires = "rate")]
    policy: Option<PathBuf>,

    /// What is wanted of the service, such as 75/s or 900/m
    #[arg(long, value_parser = rate, conflicts_with = "log")]
    rate: Option<spillway_core::rate::Rate>,

    /// Ready endpoints at home
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    endpoints: u32,

    /// A file with lines of an access log, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    log: Option<PathBuf>,

    /// The form of what is said
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// An explanation.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    /// What it is about.
    about: String,
    /// What was asked, in its order.
    steps: Vec<String>,
    /// What came of it.
    outcome: String,
}

pub(crate) fn run(why: &Why) -> Result<Exit, Failure> {
    let explained = match (&why.log, &why.policy, why.rate) {
        (Some(log), ..) => line::explain(&input::one(log)?)?,
        (None, Some(policy), Some(rate)) => {
            vec![policy::explain(
                policy,
                &input::one(policy)?,
                rate,
                why.endpoints,
            )?]
        }
        // The definition of the arguments excludes it.
        _ => Vec::new(),
    };
    output::tell(why.output, &explained, |all| {
        let texts = all.iter().map(text);
        texts.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Fine)
}

fn text(explained: &Explained) -> String {
    let mut text = format!("{}\n", explained.about);
    for (at, step) in explained.steps.iter().enumerate() {
        text += &format!("  {}. {step}\n", at + 1);
    }
    text += &format!("  → {}\n", explained.outcome);
    text
}

fn rate(text: &str) -> Result<spillway_core::rate::Rate, &'static str> {
    spillway_core::rate::Rate::parse(text)
}
