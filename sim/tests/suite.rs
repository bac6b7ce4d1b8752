//! The suite's limits hold, runs repeat themselves, and a few whole runs are as they were.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is not there fails the test"
)]

use std::fmt::Write;
use std::path::Path;

use spillway_sim::suite::{self, Case};
use spillway_sim::{Figure, Scenario, Scheme, run, series};

fn case(name: &str) -> Case {
    suite::all()
        .into_iter()
        .find(|case| case.name == name)
        .unwrap()
}

#[test]
fn every_limit_holds() {
    let mut broken = String::new();
    for case in suite::all() {
        for seed in 1..=2 {
            for finding in case.run(seed).unwrap() {
                if !finding.holds() {
                    let name = finding.figure.name();
                    writeln!(
                        broken,
                        "{} (seed {seed}): {name} is {}, not {} to {}",
                        case.name, finding.value, finding.least, finding.most
                    )
                    .unwrap();
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

/// A limit that nothing can break is none: these have no gate, or no news.
#[test]
fn other_schemes_break_the_limits() {
    let broken = |case: &Case, figure| {
        let findings = case.run(1).unwrap();
        let finding = findings.iter().find(|finding| finding.figure == figure);
        !finding.unwrap().holds()
    };
    let mut split = case("uneven");
    split.scenario.scheme = Scheme::Split;
    assert!(broken(&split, Figure::Jain));
    let mut watcher = case("from-half-to-2C");
    watcher.scenario.scheme = Scheme::Watcher {
        enter: 1_000.0,
        leave: 700.0,
    };
    assert!(broken(&watcher, Figure::Excess));
    let mut bare = case("all-feedback-lost");
    bare.scenario.callers[0].bounceable = 0.0;
    assert!(broken(&bare, Figure::Load));
}

/// A run in a page of text: what happened in twenty steps, and what came of it.
fn snapshot(case: &Case) -> String {
    let outcome = run(&case.scenario).unwrap();
    let mut text = format!(
        "{}: {}\n\n{}\n",
        case.name,
        case.about,
        series::table(&outcome, case.scenario.length / 20.0).text()
    );
    for figure in [
        Figure::Load,
        Figure::Jain,
        Figure::Bounced,
        Figure::Attempts,
        Figure::Forced,
        Figure::Failed,
        Figure::Rho,
        Figure::Kept,
        Figure::HomeP99,
        Figure::BouncedP99,
    ] {
        let value = figure.of(&case.scenario, &outcome);
        writeln!(text, "{:<18}{value:.*}", figure.name(), figure.digits()).unwrap();
    }
    writeln!(text, "{:<18}{}", "events", outcome.events).unwrap();
    text
}

/// SPILLWAY_UPDATE=1 writes them anew: a change of behaviour is then a change of these files.
#[test]
fn whole_runs_are_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for name in [
        "from-half-to-2C",
        "five-clusters",
        "home-slows",
        "autoscaled",
    ] {
        let path = folder.join(format!("{name}.txt"));
        let now = snapshot(&case(name));
        if std::env::var_os("SPILLWAY_UPDATE").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let before = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            now, before,
            "{name} is not as it was; SPILLWAY_UPDATE=1 writes it anew"
        );
    }
}

#[test]
fn a_seed_repeats_itself_and_another_does_not() {
    let scenario = case("sine").scenario;
    let counts = |seed| {
        let outcome = run(&Scenario {
            seed,
            ..scenario.clone()
        })
        .unwrap();
        (
            outcome.events,
            outcome.measured.served,
            outcome.measured.bounces,
        )
    };
    assert_eq!(counts(7), counts(7));
    assert_ne!(counts(7), counts(8));
}
