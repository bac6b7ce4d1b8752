//! The results of a benchmark: a table to read, and a file to compare.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

/// One number.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
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
    /// One that was measured once.
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &'static str) -> Self {
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
    #[must_use]
    pub fn median(name: &str, rounds: &[f64], unit: &'static str) -> Self {
        let sorted = sorted(rounds);
        Self {
            min: sorted.first().copied().map(rounded),
            max: sorted.last().copied().map(rounded),
            rounds: Some(sorted.len()),
            ..Self::new(name, median(rounds), unit)
        }
    }

    /// The same row with what it should be: `<=N`, `>=N`, `<N`, `>N` or `=N`.
    #[must_use]
    pub fn aim(self, aim: &'static str) -> Self {
        Self {
            aim: Some(aim),
            ..self
        }
    }
}

/// The middle one of several values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    sorted(values)
        .get(values.len() / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
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

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    when: String,
    commit: String,
    machine: Machine,
    rows: Vec<Row>,
}

impl Report {
    /// Nothing yet, of the benchmark of this name on this machine.
    ///
    /// # Errors
    /// When the machine or the commit cannot be told.
    pub fn new(bench: &'static str) -> Result<Self> {
        Ok(Self {
            bench,
            when: now()?,
            commit: commit()?,
            machine: machine()?,
            rows: Vec::new(),
        })
    }

    /// One more row.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// When it was made.
    #[must_use]
    pub fn when(&self) -> &str {
        &self.when
    }

    /// The state of the code.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The machine, in words.
    #[must_use]
    pub fn machine(&self) -> String {
        let Machine { cpu, cores, memory } = &self.machine;
        format!("{cores} cores of {cpu}, {memory} GiB")
    }

    /// Prints the table.
    pub fn print(&self) {
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

    /// Writes `BENCH.json` into this folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
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
