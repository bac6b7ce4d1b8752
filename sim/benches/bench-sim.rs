//! How many requests a second are simulated, on one core.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use spillway_e2e::bench::{Report, Row};
use spillway_sim::{Scenario, run, suite};

/// Times that each scenario is run.
const ROUNDS: u64 = 7;

/// Few callers, many callers, and a mesh of clusters with their own limits.
const SCENARIOS: [&str; 3] = ["from-nothing-to-5C", "thousand-callers", "five-clusters"];

fn main() -> Result<()> {
    let mut report = Report::new("sim")?;
    for name in SCENARIOS {
        let case = suite::all().into_iter().find(|case| case.name == name);
        let case = case.with_context(|| format!("no scenario {name}"))?;
        let (mut requests, mut events) = (Vec::new(), Vec::new());
        for seed in 1..=ROUNDS {
            let scenario = Scenario {
                seed,
                ..case.scenario.clone()
            };
            let start = Instant::now();
            let outcome = run(&scenario)?;
            let seconds = start.elapsed().as_secs_f64();
            requests.push(outcome.requests as f64 / seconds);
            events.push(outcome.events as f64 / seconds);
        }
        // Ten million a minute.
        let row = Row::median(&format!("{name}/requests"), &requests, "requests/s");
        report.add(row.aim(">=166667"));
        report.add(Row::median(&format!("{name}/events"), &events, "events/s"));
    }
    report.print();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    report.write(&target.join("bench"))
}
