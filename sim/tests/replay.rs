//! The command that replays a recorded demand under a policy.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is not there fails the test"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The workshop's policy: 15/s.
fn policy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/workshop/mesh/policy.yaml")
}

/// An hour at 5/s with a peak of 75/s for ten minutes, and 12/s in the last quarter.
fn series() -> String {
    let mut csv = "time,rate\n".to_owned();
    for minute in 0..60 {
        let rate = match minute {
            20..30 => 75,
            45.. => 12,
            _ => 5,
        };
        writeln!(csv, "{},{rate}", 1_795_255_200 + minute * 60).unwrap();
    }
    csv
}

fn replay(policy: &Path, series: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("series");
    std::fs::write(&path, series).unwrap();
    Command::new(env!("CARGO_BIN_EXE_spillway-sim"))
        .arg("replay")
        .args([policy, &path])
        .args(more)
        .output()
        .unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap()
}

#[test]
fn it_says_what_would_have_spilled_and_when() {
    let output = replay(&policy(), &series(), &["-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let excess = 600.0 * 60.0;
    let spilled = number(&told, "/spillway/spilled");
    assert!(
        (excess * 0.97..excess * 1.06).contains(&spilled),
        "{spilled} of {excess}"
    );
    let first = &told["spillway"]["spells"][0];
    assert_eq!(first["from"], "2026-11-21T10:20:00Z", "{told}");
    assert!(number(first, "/spilled") > excess * 0.97, "{told}");
    // It sends all away, some seconds late.
    let watcher = number(&told, "/watcher/spilled");
    assert!((42_000.0..46_000.0).contains(&watcher), "{watcher}");
    assert_eq!(
        told["watcher"]["spells"][0]["from"], "2026-11-21T10:20:05Z",
        "{told}"
    );
    let above = |of: &str| number(&told, &format!("/{of}/aboveTheLimit"));
    assert!(
        above("watcher") > 200.0 && above("spillway") < 60.0,
        "{told}"
    );
}

/// The forms of a series lead to the same.
#[test]
fn prometheus_tells_the_same_as_csv() {
    let values: Vec<Value> = series()
        .lines()
        .skip(1)
        .map(|line| {
            let (time, rate) = line.split_once(',').unwrap();
            serde_json::json!([time.parse::<f64>().unwrap(), rate])
        })
        .collect();
    let answer = serde_json::json!({
        "status": "success",
        "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]},
    });
    let of_prometheus = replay(&policy(), &answer.to_string(), &[]);
    let of_csv = replay(&policy(), &series(), &[]);
    assert!(of_csv.status.success(), "{of_csv:?}");
    assert_eq!(of_prometheus.stdout, of_csv.stdout);
    let text = String::from_utf8(of_csv.stdout).unwrap();
    assert!(text.contains("Spillway would have spilled"), "{text}");
}

#[test]
fn errors_say_where_and_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("policy.yaml");
    let text = std::fs::read_to_string(policy()).unwrap();
    std::fs::write(&wrong, text.replace("15/s", "15ps")).unwrap();
    let cases = [
        (
            wrong.as_path(),
            series(),
            "policy.yaml",
            "spec.capacity.total.rate: write a rate",
        ),
        (
            &policy(),
            series().replace(",75", ",lots"),
            "series",
            "line 22: \"lots\" is no rate",
        ),
        (
            &policy(),
            series().replace(",75", ",999999999"),
            "",
            "replay at most 200 million",
        ),
        (Path::new("/nowhere"), series(), "/nowhere", "cannot read"),
    ];
    for (policy, series, place, message) in cases {
        let output = replay(policy, &series, &[]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(told.contains(place) && told.contains(message), "{told}");
    }
}
