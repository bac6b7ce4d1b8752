//! A run over time: as a table, and as a plot.

use crate::measure::{BIN, Series};
use crate::plot::{self, Colour};
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::table::Table;

/// What is drawn over time.
pub struct Line {
    /// What it is.
    pub name: String,
    colour: Colour,
    /// Requests a second, in steps.
    pub rates: Vec<f64>,
}

/// Colours of what clusters served, home first.
const SERVED: [Colour; 4] = [Colour::Blue, Colour::Orange, Colour::Green, Colour::Purple];

/// Bins of the series that are taken together, for steps of `step` seconds.
fn together(step: f64) -> usize {
    ((step / BIN).round() as usize).max(1)
}

/// Requests a second, in steps of so many bins.
fn rates(bins: &[u32], together: usize) -> Vec<f64> {
    let rate = |bins: &[u32]| f64::from(bins.iter().sum::<u32>()) / (bins.len() as f64 * BIN);
    bins.chunks_exact(together).map(rate).collect()
}

fn cluster(at: usize) -> String {
    if at == 0 {
        "served at home".to_owned()
    } else {
        format!("served by cluster {}", at + 1)
    }
}

/// Rates over time, in steps of `step` seconds: what was offered, what each cluster served (home
/// first), and what was bounced or failed.
#[must_use]
pub fn lines(series: &Series, step: f64) -> Vec<Line> {
    let together = together(step);
    let line = |name: &str, colour, bins: &[u32]| Line {
        name: name.to_owned(),
        colour,
        rates: rates(bins, together),
    };
    let mut lines = vec![line("offered", Colour::Grey, &series.offered)];
    for (at, (bins, colour)) in series.served.iter().zip(SERVED.iter().cycle()).enumerate() {
        lines.push(line(&cluster(at), *colour, bins));
    }
    lines.push(line("bounced", Colour::Sky, &series.bounced));
    if series.failed.iter().any(|failed| *failed > 0) {
        lines.push(line("failed", Colour::Red, &series.failed));
    }
    lines
}

/// Requests a second over time, in steps of `step` seconds.
#[must_use]
pub fn table(outcome: &Outcome, step: f64) -> Table {
    let lines = lines(&outcome.measured.series, step);
    let names = lines.iter().map(|line| line.name.clone());
    let mut table = Table::new(core::iter::once("seconds".to_owned()).chain(names));
    let steps = lines.first().map_or(0, |line| line.rates.len());
    for at in 0..steps {
        let rates = lines.iter().filter_map(|line| line.rates.get(at));
        let cells = rates.map(|rate| format!("{rate:.1}"));
        table.add(core::iter::once(format!("{:.2}", at as f64 * step)).chain(cells));
    }
    table
}

/// The same as a plot, an SVG.
///
/// # Errors
/// In words, where it cannot be drawn.
pub fn plot(
    scenario: &Scenario,
    outcome: &Outcome,
    title: &str,
    step: f64,
) -> Result<String, String> {
    let lines = lines(&outcome.measured.series, step);
    let lines = lines
        .iter()
        .map(|line| plot::Line::of_rates(&line.name, line.colour, &line.rates, step));
    plot::svg(title, scenario.length, &lines.collect::<Vec<_>>())
}
