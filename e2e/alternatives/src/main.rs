//! Spillway beside what people use today: the burst workshop's watcher of Prometheus, Envoy's
//! locality failover, and weights; each on the same load, in one run.
//!
//! ```text
//! bench-alternatives reaction     how fast a limit is kept, and what that costs requests
//! bench-alternatives hold         ten minutes near the limit; and what decides is away
//! ```
//!
//! The parts: [`demand`] has the loads, [`system`] the systems, [`watcher`] and [`prometheus`] what
//! one of them needs; [`run`] runs them side by side, [`figures`] says what is told of a run, and
//! [`report`] tells it. What was measured is kept in `target/bench/runs`, by load, so that loads
//! can be measured one by one and told together.

mod demand;
mod figures;
mod prometheus;
mod report;
mod run;
mod system;
mod watcher;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use spillway_e2e::bench::Report;

use self::demand::Demand;
use self::report::Measured;
use self::run::Rounds;

/// Compares Spillway with what people use today.
#[derive(Parser)]
struct Options {
    /// What is measured.
    bench: Bench,
    /// How often; without, three times, and long loads fewer times.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measures these loads only; of the others, what was measured before is told.
    #[arg(long = "load", value_name = "NAME")]
    loads: Vec<String>,
    /// Measures nothing, and tells what was measured before.
    #[arg(long)]
    tell: bool,
    /// The page whose tables are to be made anew, and the plots in the folder `images` beside it.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Loads that leave the limit and come back.
    Reaction,
    /// A long load near the limit, and what decides is away.
    Hold,
}

impl Bench {
    const fn name(self) -> &'static str {
        match self {
            Self::Reaction => "reaction",
            Self::Hold => "hold",
        }
    }

    const fn loads(self) -> &'static [Demand] {
        match self {
            Self::Reaction => &demand::REACTION,
            Self::Hold => &demand::HOLD,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let bench = options.bench.name();
    let loads = options.bench.loads();
    let names: Vec<&str> = loads.iter().map(|load| load.name).collect();
    for wanted in &options.loads {
        ensure!(
            names.contains(&wanted.as_str()),
            "no load {wanted} in {bench}: write one of {}",
            names.join(", ")
        );
    }
    let folder = target_folder().join("bench");
    let runs = folder.join("runs");
    std::fs::create_dir_all(&runs)?;
    let file = |demand: &Demand| runs.join(format!("{bench}-{}.json", demand.name));

    let wanted = |load: &&Demand| {
        options.loads.is_empty() || options.loads.iter().any(|name| name == load.name)
    };
    let mut report = Report::new(bench)?;
    for demand in loads.iter().filter(wanted).filter(|_| !options.tell) {
        let mut rounds = Vec::new();
        for seed in 1..=options.rounds.unwrap_or(demand.rounds) {
            println!("{}, round {seed}: {}", demand.name, demand.about);
            rounds.push(run::round(demand, u64::try_from(seed)?).await?);
        }
        let measured = Rounds {
            when: report.when().to_owned(),
            commit: report.commit().to_owned(),
            rounds,
        };
        std::fs::write(file(demand), serde_json::to_string(&measured)?)?;
    }

    let mut all = Vec::new();
    for demand in loads {
        // Not measured yet: it is left out.
        if let Ok(text) = std::fs::read_to_string(file(demand)) {
            let measured: Rounds = serde_json::from_str(&text)
                .with_context(|| format!("{}: measure it again", file(demand).display()))?;
            let measured = Measured {
                demand: *demand,
                measured,
            };
            measured.rows(&mut report);
            all.push(measured);
        }
    }
    report.print();
    report.write(&folder)?;
    match &options.page {
        Some(page) => report::fill(page, bench, &report, &all),
        None => Ok(()),
    }
}

fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
