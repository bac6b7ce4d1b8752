//! A run over time: as a table, and as a plot.

use plotters::prelude::*;

use crate::measure::{BIN, Series};
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::table::Table;

/// What is drawn over time.
pub struct Line {
    /// What it is.
    pub name: String,
    colour: RGBColor,
    /// Requests a second, in steps.
    pub rates: Vec<f64>,
}

/// Colours that people who see few of them tell apart (Okabe and Ito).
const OFFERED: RGBColor = RGBColor(0x66, 0x66, 0x66);
const SERVED: [RGBColor; 4] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
];
const BOUNCED: RGBColor = RGBColor(0x56, 0xb4, 0xe9);
const FAILED: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

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
    let mut lines = vec![line("offered", OFFERED, &series.offered)];
    for (at, (bins, colour)) in series.served.iter().zip(SERVED.iter().cycle()).enumerate() {
        lines.push(line(&cluster(at), *colour, bins));
    }
    lines.push(line("bounced", BOUNCED, &series.bounced));
    if series.failed.iter().any(|failed| *failed > 0) {
        lines.push(line("failed", FAILED, &series.failed));
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
    let most = lines
        .iter()
        .flat_map(|line| &line.rates)
        .fold(1.0, |a: f64, b| a.max(*b));
    // A third more, where the names of the lines stand.
    let top = most * 1.35;
    let mut svg = String::new();
    let drawn = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(&mut svg, (860, 360)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..scenario.length, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("seconds")
            .y_desc("requests/s")
            .x_label_formatter(&|seconds| format!("{seconds:.0}"))
            .y_label_formatter(&|rate| format!("{rate:.0}"))
            .draw()?;
        for line in lines {
            let points = line.rates.iter().enumerate();
            let points = points.map(|(at, rate)| ((at as f64 + 0.5) * step, *rate));
            let colour = line.colour;
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
        Ok(())
    };
    drawn().map_err(|error| error.to_string())?;
    Ok(svg)
}
