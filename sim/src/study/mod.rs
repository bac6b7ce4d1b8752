//! The tables of `docs/simulation.md`: what the studies behind the decisions said, beside what the
//! shipped decisions do.
//!
//! The prose of that page is written by hand; what stands between `<!-- table: NAME -->` and
//! `<!-- end -->` is made by this module, and so are its plots.

mod bursts;
mod rules;
mod schemes;
mod switching;

use hdrhistogram::CreationError;

use crate::figures::Figure;
use crate::run::run;
use crate::scenario::Scenario;
use crate::series;
use crate::suite;
use crate::table::Table;

/// A figure over several seeds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    mean: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let start = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        let (n, sum, least, most) = values.into_iter().filter(|value| value.is_finite()).fold(
            start,
            |(n, sum, least, most), value| {
                (n + 1.0, sum + value, value.min(least), value.max(most))
            },
        );
        Self {
            mean: sum / n,
            least,
            most,
        }
    }

    /// The mean, and in brackets the least and the most.
    fn text(&self, digits: usize) -> String {
        let Self { mean, least, most } = self;
        if mean.is_nan() {
            "–".to_owned()
        } else {
            format!("{mean:.digits$} ({least:.digits$}–{most:.digits$})")
        }
    }
}

/// How often each scenario is run.
#[derive(Clone, Copy, Debug)]
pub struct Seeds(pub u64);

impl Seeds {
    /// Figures of a scenario.
    fn run<const N: usize>(
        self,
        scenario: &Scenario,
        figures: [Figure; N],
    ) -> Result<[Spread; N], CreationError> {
        let mut values = figures.map(|_| Vec::new());
        for seed in 1..=self.0 {
            let scenario = Scenario {
                seed,
                ..scenario.clone()
            };
            let outcome = run(&scenario)?;
            for (figure, values) in figures.iter().zip(&mut values) {
                values.push(figure.of(&scenario, &outcome));
            }
        }
        Ok(values.map(Spread::of))
    }
}

/// A row: the setting, the figure, what the studies said, what was simulated.
type Row = [String; 4];

/// Rows for figures of one scenario; each figure with what the studies said of it.
fn rows<const N: usize>(
    seeds: Seeds,
    setting: &str,
    scenario: &Scenario,
    figures: [(Figure, &str); N],
) -> Result<Vec<Row>, CreationError> {
    let spreads = seeds.run(scenario, figures.map(|(figure, _)| figure))?;
    let rows = figures.iter().zip(spreads).map(|((figure, said), spread)| {
        [
            setting.to_owned(),
            figure.name().to_owned(),
            (*said).to_owned(),
            spread.text(figure.digits()),
        ]
    });
    Ok(rows.collect())
}

fn claims(rows: Vec<Row>) -> Table {
    let mut table = Table::new(["setting", "figure", "studies", "simulated"]);
    for row in rows {
        table.add(row);
    }
    table
}

/// A table of the page by its name; `None` where there is none.
///
/// # Errors
/// As [`run`].
pub fn table(name: &str, seeds: Seeds) -> Result<Option<Table>, CreationError> {
    Ok(Some(match name {
        "schemes" => schemes::table(seeds)?,
        "tolerance" => claims(rules::tolerance(seeds)?),
        "classes" => claims(rules::classes(seeds)?),
        "credit" => claims(rules::credit(seeds)?),
        "concurrency" => claims(rules::concurrency(seeds)?),
        "gateway" => claims(rules::gateway(seeds)?),
        "switch" => claims(switching::alone(seeds)?),
        "sharing" => switching::table(seeds)?,
        "lies" => claims(switching::lies(seeds)?),
        "bursts" => bursts::table(seeds)?,
        "suite" => suite_table(seeds)?,
        _ => return Ok(None),
    }))
}

/// The scenarios that are drawn.
pub const PLOTS: [&str; 4] = ["from-half-to-2C", "sine", "home-slows", "autoscaled"];

/// A plot of a scenario of the suite, an SVG; `None` where there is no scenario of this name.
///
/// # Errors
/// In words.
pub fn plot(name: &str) -> Result<Option<String>, String> {
    let Some(case) = suite::all().into_iter().find(|case| case.name == name) else {
        return Ok(None);
    };
    let outcome = run(&case.scenario).map_err(|error| error.to_string())?;
    let step = case.scenario.length / 100.0;
    series::plot(&case.scenario, &outcome, case.about, step).map(Some)
}

fn suite_table(seeds: Seeds) -> Result<Table, CreationError> {
    let mut table = Table::new(["scenario", "what happens", "figures, and what they must be"]);
    for case in suite::all() {
        let mut values = vec![Vec::new(); case.bounds.len()];
        for seed in 1..=seeds.0 {
            for (finding, values) in case.run(seed)?.iter().zip(&mut values) {
                values.push(finding.value);
            }
        }
        let figures = case
            .bounds
            .iter()
            .zip(values)
            .map(|((figure, least, most), values)| {
                let digits = figure.digits();
                let spread = Spread::of(values).text(digits);
                format!(
                    "{} {spread} [{least:.digits$}, {most:.digits$}]",
                    figure.name()
                )
            });
        let figures = figures.collect::<Vec<_>>().join("; ");
        table.add([case.name, case.about, &figures]);
    }
    Ok(table)
}

/// The page with its tables made anew.
///
/// # Errors
/// In words: a table that there is not, a mark without an end, or as [`run`].
pub fn page(text: &str, seeds: Seeds) -> Result<String, String> {
    crate::page::fill(text, |name, _| {
        let table = table(name, seeds).map_err(|error| error.to_string())?;
        let table = table.ok_or_else(|| format!("there is no table {name}"))?;
        Ok(table.markdown())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_its_prose() {
        let text = "before\n<!-- table: gateway -->\nold\n<!-- end -->\nafter\n";
        let page = page(text, Seeds(1)).unwrap();
        assert!(
            page.starts_with("before\n<!-- table: gateway -->\n| setting |"),
            "{page}"
        );
        assert!(
            page.ends_with("|\n<!-- end -->\nafter\n") && !page.contains("old"),
            "{page}"
        );
        assert!(super::page("<!-- table: none -->\n<!-- end -->", Seeds(1)).is_err());
        assert!(super::page("<!-- table: gateway -->", Seeds(1)).is_err());
    }
}
