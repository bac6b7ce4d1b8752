//! What a request costs: host calls, which cross the boundary, and fuel, which counts instructions.
//!
//! Both are exact and the same on every machine, so a change of the filter shows in review as a change of
//! one line of a checked-in table, long before a benchmark could see it through the noise.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wasmtime::{Result, format_err};

use crate::status::HostFunction;

/// Host calls by function, and fuel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How often each function was called.
    pub calls: BTreeMap<HostFunction, u64>,
    /// Instructions, roughly: the unit of wasmtime's meter.
    pub fuel: u64,
}

impl Cost {
    pub(crate) fn count(&mut self, function: HostFunction) {
        *self.calls.entry(function).or_default() += 1;
    }

    /// All host calls together.
    #[must_use]
    pub fn total_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    fn by_function(&self) -> String {
        let calls: Vec<String> = self
            .calls
            .iter()
            .map(|(f, n)| format!("{} {n}", f.name()))
            .collect();
        calls.join(", ")
    }
}

/// A row of the table as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    calls: u64,
    fuel: u64,
    by_function: String,
}

/// The table as text.
#[must_use]
pub fn render(costs: &[(&str, Cost)]) -> String {
    let mut table = String::from(
        "# Host calls and fuel of one request and its response, from the context's creation to its deletion.\n\
         # Checked by the tests; SPILLWAY_UPDATE=1 writes it anew.\n",
    );
    let width = costs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let _ = writeln!(
        table,
        "{:width$}  {:>5}  {:>7}  by function",
        "path", "calls", "fuel"
    );
    for (name, cost) in costs {
        let _ = writeln!(
            table,
            "{name:width$}  {:>5}  {:>7}  {}",
            cost.total_calls(),
            cost.fuel,
            cost.by_function()
        );
    }
    table
}

fn parse(table: &str) -> Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for line in table.lines().filter(|l| !l.starts_with('#')).skip(1) {
        let mut words = line.split_whitespace();
        let mut word = || {
            words
                .next()
                .ok_or_else(|| format_err!("a row of the cost table is too short: {line}"))
        };
        let (name, calls, fuel) = (word()?.to_owned(), word()?.parse()?, word()?.parse()?);
        let by_function = words.collect::<Vec<_>>().join(" ");
        rows.insert(
            name,
            Row {
                calls,
                fuel,
                by_function,
            },
        );
    }
    Ok(rows)
}

/// What differs between the table and what was measured, a line each: any difference in host calls, and
/// fuel that differs by more than the part `tolerance` of what the table says.
///
/// # Errors
/// When the table is no such table.
pub fn differences(table: &str, costs: &[(&str, Cost)], tolerance: f64) -> Result<Vec<String>> {
    let mut rows = parse(table)?;
    let mut found = Vec::new();
    for (name, cost) in costs {
        let Some(row) = rows.remove(*name) else {
            found.push(format!("{name}: not in the table"));
            continue;
        };
        let by_function = cost.by_function();
        if row.by_function != by_function || row.calls != cost.total_calls() {
            found.push(format!(
                "{name}: {} host calls, were {}",
                cost.total_calls(),
                row.calls
            ));
            found.push(format!("    now:  {by_function}"));
            found.push(format!("    were: {}", row.by_function));
        }
        let change = (cost.fuel as f64 - row.fuel as f64) / row.fuel as f64;
        if change.is_nan() || change.abs() > tolerance {
            found.push(format!(
                "{name}: {} fuel, was {} ({:+.1} %)",
                cost.fuel,
                row.fuel,
                100.0 * change
            ));
        }
    }
    found.extend(
        rows.keys()
            .map(|name| format!("{name}: in the table, and no longer measured")),
    );
    Ok(found)
}
