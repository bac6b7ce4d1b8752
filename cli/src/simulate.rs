//! What a policy would have done about recorded traffic, before it is switched on.

use std::fs;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use clap::Args;
use spillway_sim::replay::{self, Assumed, Policy, Recorded, Replay};
use spillway_sim::series;

use crate::exit::{Exit, Failure};
use crate::input;
use crate::output::{self, Output};

/// The plot's size in characters.
const COLUMNS: usize = 72;
const ROWS: usize = 12;
/// Points of a plot in a file.
const POINTS: f64 = 400.0;

const HOME: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Blue)));
const SPILLED: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));

/// Say what a policy would have done about recorded traffic
///
/// The very decisions that ship are run against the rate that was recorded, with a virtual clock. It
/// says what would have spilled and when, and what a process that watches Prometheus and rewrites
/// routes would have done.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # A rate over time as CSV, or the answer to a range query of Prometheus
  spillway simulate policy.yaml day.csv --endpoints 4

  # With a plot for a report
  spillway simulate policy.yaml day.csv --svg day.svg")]
pub(crate) struct Simulate {
    /// A file with one BurstPolicy, or - for standard input
    policy: PathBuf,

    /// A rate over time: CSV with a time and a rate, or Prometheus' answer to a range query
    series: PathBuf,

    /// Sidecars that call
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    callers: u16,

    /// Ready endpoints in each cluster
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    endpoints: u16,

    /// Where the randomness begins
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Write a plot too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// The form of what is said
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(simulate: &Simulate) -> Result<Exit, Failure> {
    let policy = input::one(&simulate.policy)?;
    let wrong = |path: &Path, error: &dyn std::fmt::Display, advice: &str| {
        Failure::bad_input(format!("{}: {error}", path.display()), advice)
    };
    let policy = Policy::parse(&policy).map_err(|error| {
        let advice = "`spillway validate` tells each mistake with its line.";
        wrong(&simulate.policy, &error, advice)
    })?;
    let series = input::one(&simulate.series)?;
    let series = Recorded::parse(&series).map_err(|error| {
        let advice = "`spillway simulate --help` says what forms are read.";
        wrong(&simulate.series, &error, advice)
    })?;
    let assumed = Assumed {
        callers: simulate.callers.into(),
        endpoints: simulate.endpoints.into(),
        seed: simulate.seed,
    };
    let replay = replay::replay(&policy, &series, assumed)
        .map_err(|error| wrong(&simulate.series, &error, "Cut the series into parts."))?;
    if let Some(path) = &simulate.svg {
        draw(path, &replay)?;
    }
    output::tell(simulate.output, &replay, |replay| {
        format!("{}\n{}", plot(replay), replay.text())
    })?;
    Ok(Exit::Fine)
}

fn draw(path: &Path, replay: &Replay) -> Result<(), Failure> {
    let run = &replay.run;
    let step = replay.seconds / POINTS;
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("{} cannot be written: {error}", path.display());
        Failure::bad_input(message, "Name a file in a folder that is there.")
    };
    let svg = series::plot(&run.scenario, &run.outcome, &replay.policy, step);
    let svg = svg.map_err(|error| failed(&error))?;
    fs::write(path, svg).map_err(|error| failed(&error))
}

/// Requests a second over time, one column a step: what home served, and above it what others did.
fn plot(replay: &Replay) -> String {
    let step = replay.seconds / COLUMNS as f64;
    let lines = series::lines(&replay.run.outcome.measured.series, step);
    let (home, others) = match lines.get(1..) {
        Some([home, rest @ ..]) => (home.rates.as_slice(), rest),
        _ => (&[][..], &[][..]),
    };
    let served = others.iter().filter(|line| line.name.starts_with("served"));
    let mut spilled = vec![0.0; home.len()];
    for line in served {
        for (all, rate) in spilled.iter_mut().zip(&line.rates) {
            *all += rate;
        }
    }
    let columns: Vec<(f64, f64)> = home.iter().copied().zip(spilled).take(COLUMNS).collect();
    let top = columns
        .iter()
        .fold(1.0, |top: f64, (home, more)| top.max(home + more));
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        let height = (row as f64 + 0.5) / ROWS as f64 * top;
        let label = if row + 1 == ROWS {
            format!("{top:.0}/s")
        } else {
            String::new()
        };
        text += &format!("{label:>9} │");
        for (home, more) in &columns {
            text += &match () {
                () if *home >= height => format!("{HOME}█{HOME:#}"),
                () if home + more >= height => format!("{SPILLED}░{SPILLED:#}"),
                () => " ".to_owned(),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let length = format!("{:.0} s", replay.seconds);
    text += &format!("{:>9} └{}\n", "0/s", "─".repeat(columns.len()));
    text += &format!(
        "{:>10} 0 s{length:>width$}\n",
        "",
        width = columns.len().saturating_sub(3)
    );
    text += &format!(
        "{:>10} {HOME}█{HOME:#} served at home  {SPILLED}░{SPILLED:#} spilled\n",
        ""
    );
    text
}
