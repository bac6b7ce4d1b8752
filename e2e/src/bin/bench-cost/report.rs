//! The results: a table to read, and a file to compare.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::scene::Scene;
use crate::variant::FILTER;

/// One number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounds: Option<usize>,
}

impl Row {
    pub(crate) fn new(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value: rounded(value),
            unit,
            aim: None,
            min: None,
            max: None,
            rounds: None,
        }
    }

    /// The median of several rounds, with the least and the most.
    fn median(name: &str, rounds: &[f64], unit: &'static str) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        Self {
            min: sorted.first().copied().map(rounded),
            max: sorted.last().copied().map(rounded),
            rounds: Some(sorted.len()),
            ..Self::new(name, middle, unit)
        }
    }

    fn aim(self, aim: &'static str) -> Self {
        Self {
            aim: Some(aim),
            ..self
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The machine that was measured on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    cpu: String,
    cores: usize,
    #[serde(rename = "memoryGiB")]
    memory: u64,
}

/// What a cell was measured to cost, µs a request, by round.
pub(crate) struct Sample<'a> {
    pub(crate) scene: Scene,
    pub(crate) variant: &'a str,
    pub(crate) micros: &'a [f64],
}

/// All results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    when: String,
    commit: String,
    machine: Machine,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            bench: "cost",
            when: now()?,
            commit: commit()?,
            machine: machine()?,
            rows: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// What each variant costs in each scene, and the filter's cost as a ratio to each other's.
    pub(crate) fn costs(&mut self, samples: &[Sample<'_>]) {
        for scene in Scene::ALL {
            let name = scene.name();
            let of_scene = || samples.iter().filter(|sample| sample.scene == scene);
            for sample in of_scene() {
                let row = format!("{name}/cpu-of-{}", sample.variant);
                self.add(Row::median(&row, sample.micros, "µs"));
            }
            let Some(filter) = of_scene().find(|sample| sample.variant == FILTER) else {
                continue;
            };
            for other in of_scene().filter(|sample| sample.variant != FILTER) {
                let pairs = filter.micros.iter().zip(other.micros);
                let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
                let row = format!("{name}/cpu-vs-{}", other.variant);
                let row = Row::median(&row, &ratios, "ratio");
                let aimed = other.variant == "lua";
                self.add(if aimed { row.aim("<=1.0") } else { row });
            }
        }
    }

    pub(crate) fn filter_size(&mut self, filter: &Path) -> Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
        let size = std::fs::metadata(filter)?.len() as f64 / 1024.0;
        self.add(Row::new("filter/size", size, "KiB").aim("<=200"));
        Ok(())
    }

    /// The host calls that the filter's tests have counted, where their table is there.
    pub(crate) fn host_calls(&mut self, table: &Path) -> Result<()> {
        let Ok(table) = std::fs::read_to_string(table) else {
            return Ok(());
        };
        // After comments and the line of titles: the path, then the number of calls.
        for line in table.lines().filter(|line| !line.starts_with('#')).skip(1) {
            let mut words = line.split_whitespace();
            let (Some(path), Some(calls)) = (words.next(), words.next()) else {
                continue;
            };
            let calls: f64 = calls
                .parse()
                .with_context(|| format!("no number of calls: {line}"))?;
            self.add(Row::new(&format!("{path}/host-calls"), calls, "calls"));
        }
        Ok(())
    }

    pub(crate) fn print(&self) {
        let width = self.rows.iter().map(|row| row.name.len()).max();
        let width = width.unwrap_or_default();
        for row in &self.rows {
            let range = match (row.min, row.max, row.rounds) {
                (Some(min), Some(max), Some(rounds)) => {
                    format!("{min:.3} to {max:.3} in {rounds} rounds")
                }
                _ => String::new(),
            };
            let aim = row.aim.map(|aim| format!("aim {aim}")).unwrap_or_default();
            let line = format!(
                "{:width$}  {:>9.3} {:<12} {aim:<10}  {range}",
                row.name, row.value, row.unit
            );
            println!("{}", line.trim_end());
        }
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.json", self.bench));
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

fn commit() -> Result<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn machine() -> Result<Machine> {
    let field = |file: &str, name: &str| -> Result<String> {
        let text = std::fs::read_to_string(file)?;
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        let (_, value) = value.with_context(|| format!("no {name} in {file}"))?;
        Ok(value.trim().to_owned())
    };
    let memory = field("/proc/meminfo", "MemTotal")?;
    let kib: u64 = memory.trim_end_matches(" kB").parse()?;
    Ok(Machine {
        cpu: field("/proc/cpuinfo", "model name")?,
        cores: std::thread::available_parallelism()?.get(),
        memory: (kib + (1 << 19)) >> 20,
    })
}

/// The time as RFC 3339 writes it, in UTC.
fn now() -> Result<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(date_time(seconds))
}

/// Days to a date: Howard Hinnant's `civil_from_days`, for years from 1970 on.
fn date_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(date_time(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(date_time(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date_time(1_795_255_200), "2026-11-21T10:00:00Z");
        assert_eq!(date_time(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(date_time(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn a_median_is_between_the_least_and_the_most() {
        let row = Row::median("x", &[3.0, 1.0, 2.0], "µs");
        assert_eq!((row.min, row.value, row.max), (Some(1.0), 2.0, Some(3.0)));
    }
}
