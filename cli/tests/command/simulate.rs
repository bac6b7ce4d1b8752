//! `spillway simulate`.

use insta::assert_snapshot;
use serde_json::Value;

use crate::run::{POLICY, folder, run, said, spillway};

/// Ten minutes at 5/s with a peak of 75/s in the middle.
const PEAK: &str = "time,rate\n0,5\n240,75\n360,5\n540,5\n";

#[test]
fn the_plot_and_the_page() {
    let folder = folder(&[("policy.yaml", POLICY), ("peak.csv", PEAK)]);
    let words = ["simulate", "policy.yaml", "peak.csv", "--svg", "peak.svg"];
    assert_snapshot!(run(folder.path(), &words));
    let svg = std::fs::read_to_string(folder.path().join("peak.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("served at home"),
        "{svg}"
    );
}

#[test]
fn programs_read_it() {
    let folder = folder(&[("policy.yaml", POLICY), ("peak.csv", PEAK)]);
    let mut command = spillway(folder.path());
    let output = command
        .args(["simulate", "policy.yaml", "peak.csv", "-o", "json"])
        .output();
    let told: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let spilled = told["spillway"]["spilled"].as_u64().unwrap();
    let excess = 120 * 60;
    assert!(
        (excess * 9 / 10..excess * 12 / 10).contains(&spilled),
        "{told}"
    );
}

#[test]
fn what_cannot_be_read() {
    let folder = folder(&[
        ("policy.yaml", POLICY),
        ("wrong.yaml", &POLICY.replace("15/s", "15")),
        ("wrong.csv", "time,rate\n0,5\n1,many\n"),
        ("peak.csv", PEAK),
        ("two/a.yaml", POLICY),
        ("two/b.yaml", POLICY),
    ]);
    let told = [
        ("wrong.yaml", "peak.csv"),
        ("policy.yaml", "wrong.csv"),
        ("two", "peak.csv"),
    ]
    .map(|(policy, series)| run(folder.path(), &["simulate", policy, series]));
    assert_snapshot!(told.join(""));
    let mut command = spillway(folder.path());
    let output = command
        .args([
            "simulate",
            "policy.yaml",
            "peak.csv",
            "--svg",
            "no/peak.svg",
        ])
        .output();
    assert_eq!(
        output.as_ref().unwrap().status.code(),
        Some(65),
        "{}",
        said(&output.unwrap())
    );
}
