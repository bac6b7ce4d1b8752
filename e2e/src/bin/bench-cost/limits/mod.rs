//! What one sidecar bears: how many requests a second, how many policies, and changes of them.
//!
//! The load and the application are one thread of this process, so that on two cores a proxy with
//! one worker has a core to itself and is what limits the rate. A proxy with two workers shares
//! its second core with the load: its rate says little there, and its processor time a request
//! says what it would do elsewhere.

mod change;
mod memory;
mod rate;

use anyhow::{Context, Result, bail};
use spillway_e2e::bench::Report;

use crate::target_folder;

/// Policies of a configuration.
pub(crate) const POLICIES: [usize; 3] = [1, 100, 1_000];

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Rate,
    Memory,
    Change,
}

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    rounds: usize,
    parts: Vec<Part>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            rounds: 9,
            parts: Vec::new(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            match (name.as_str(), value.as_str()) {
                ("--rounds", rounds) => options.rounds = rounds.parse()?,
                ("--part", "rate") => options.parts.push(Part::Rate),
                ("--part", "memory") => options.parts.push(Part::Memory),
                ("--part", "change") => options.parts.push(Part::Change),
                ("--part", part) => bail!("no part {part}; there are rate, memory, change"),
                _ => bail!("unknown option {name}; there are --rounds, --part"),
            }
        }
        if options.parts.is_empty() {
            options.parts = vec![Part::Rate, Part::Memory, Part::Change];
        }
        Ok(options)
    }
}

/// Measures, prints and writes `limits.json`.
///
/// # Errors
/// When a proxy does not start, or does not do what it is measured for.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut report = Report::new("limits")?;
    for part in &options.parts {
        match part {
            Part::Rate => rate::measure(&mut report, options.rounds).await?,
            Part::Memory => memory::measure(&mut report).await?,
            Part::Change => change::measure(&mut report, options.rounds).await?,
        }
    }
    report.print();
    report.write(&target_folder().join("bench"))
}
