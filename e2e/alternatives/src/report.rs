//! What is told of the rounds: rows, tables and plots.

use std::path::Path;

use anyhow::{Context, Result};
use spillway_e2e::bench::{Report, Row, median};
use spillway_sim::page;
use spillway_sim::plot::{self, Colour, Line};
use spillway_sim::table::Table;

use crate::demand::{Demand, LIMIT};
use crate::figures::{Figure, slots};
use crate::run::{Round, Rounds, Run};
use crate::system::System;

/// Seconds between the points of a plot.
const STEP: f64 = 2.5;

/// A load and its rounds.
pub(crate) struct Measured {
    pub(crate) demand: Demand,
    pub(crate) measured: Rounds,
}

impl Measured {
    fn rounds(&self) -> &[Round] {
        &self.measured.rounds
    }

    fn runs(&self, system: System) -> impl Iterator<Item = &Run> {
        let runs = self.rounds().iter().flat_map(|round| &round.runs);
        runs.filter(move |run| run.system == system)
    }

    /// A figure in each round; not where there is none.
    fn values(&self, system: System, figure: Figure) -> Vec<f64> {
        self.runs(system)
            .filter_map(|run| figure.of(&self.demand, run))
            .collect()
    }

    /// Its rows.
    pub(crate) fn rows(&self, report: &mut Report) {
        let load = self.demand.name;
        for figure in self.demand.figures {
            for system in System::ALL {
                let values = self.values(system, *figure);
                if values.is_empty() {
                    continue;
                }
                let name = format!("{load}/{}/{}", system.name(), figure.name());
                let row = Row::median(&name, &values, figure.unit());
                report.add(match aim(load, system, *figure) {
                    Some(aim) => row.aim(aim),
                    None => row,
                });
            }
        }
        let stalls: Vec<f64> = self
            .rounds()
            .iter()
            .map(|round| round.stalls.iter().fold(0.0, |sum, stall| sum + stall) * 1e3)
            .collect();
        report.add(Row::median(
            &format!("{load}/machine/stood-still"),
            &stalls,
            "ms",
        ));
    }

    /// Medians, with the least and the most.
    fn table(&self) -> String {
        let titles = self.demand.figures.iter().map(|figure| figure.title());
        let mut table = Table::new(std::iter::once("").chain(titles));
        for system in System::ALL {
            let cells = self.demand.figures.iter().map(|figure| {
                let values = self.values(system, *figure);
                cell(&values, self.rounds().len(), *figure)
            });
            table.add(std::iter::once(system.title().to_owned()).chain(cells));
        }
        table.markdown()
    }

    fn conditions(&self) -> String {
        let requests = self.runs(System::Spillway).map(|run| run.requests.len());
        let stalls: Vec<f64> = self
            .rounds()
            .iter()
            .flat_map(|round| round.stalls.clone())
            .collect();
        let Rounds { when, commit, .. } = &self.measured;
        let (name, about) = (self.demand.name, self.demand.about);
        let rounds = match self.rounds().len() {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        let requests: usize = requests.sum();
        let longest = stalls.iter().copied().fold(0.0, f64::max) * 1e3;
        let stood = match stalls.len() {
            0 => "the machine never stood still for more than 20 ms".to_owned(),
            times => format!(
                "times that the machine stood still for more than 20 ms: {times}, the longest {longest:.0} ms"
            ),
        };
        format!(
            "- {name}: {about}. Measured {rounds} from {when} on, commit {commit}; {requests} requests to each system; {stood}.\n"
        )
    }

    /// What the primary of each system served in the first round.
    fn plot(&self) -> Result<String> {
        let seconds = self.demand.seconds;
        let step = (seconds / 60.0).max(STEP);
        let rates = |times: &[f64]| -> Vec<f64> {
            let counts = slots(times, step, seconds);
            counts.iter().map(|count| count / step).collect()
        };
        let first = self.rounds().first().context("no round")?;
        let asked = first.runs.first().map(|run| {
            let times: Vec<f64> = run.requests.iter().map(|request| request.at).collect();
            rates(&times)
        });
        let mut lines = vec![
            Line::of_rates("asked for", Colour::Grey, &asked.unwrap_or_default(), step),
            Line {
                name: "limit".to_owned(),
                colour: Colour::Red,
                points: vec![(0.0, LIMIT), (seconds, LIMIT)],
            },
        ];
        let colours = [Colour::Purple, Colour::Green, Colour::Orange, Colour::Blue];
        // Ours above the others.
        for (run, colour) in first.runs.iter().rev().zip(colours) {
            lines.push(Line::of_rates(
                run.system.title(),
                colour,
                &rates(&run.home),
                step,
            ));
        }
        let title = "Requests a second at the primary's applications";
        plot::svg(title, seconds, &lines).map_err(anyhow::Error::msg)
    }
}

/// What Spillway is to reach: a step is seen within the second in which 18 requests too many have
/// come, at most these (M·B) are above the limit at once, none is lost, and nearly all never move.
fn aim(load: &str, system: System, figure: Figure) -> Option<&'static str> {
    match (system, figure) {
        (System::Spillway, Figure::Reaction) if matches!(load, "step" | "flash" | "away") => {
            Some("<=2")
        }
        (System::Spillway, Figure::Peak) => Some("<=18"),
        (System::Spillway, Figure::Failed | Figure::Changes) => Some("=0"),
        _ => None,
    }
}

fn cell(values: &[f64], rounds: usize, figure: Figure) -> String {
    let digits = usize::from(matches!(figure, Figure::Reaction | Figure::Return));
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.is_empty() {
        return "–".to_owned();
    }
    let middle = median(values);
    if rounds == 1 {
        return format!("{middle:.digits$}");
    }
    let missing = match rounds - values.len() {
        0 => String::new(),
        some => format!(", {some} never"),
    };
    format!("{middle:.digits$} ({least:.digits$}–{most:.digits$}{missing})")
}

/// Makes the tables and plots of a page that are this benchmark's.
pub(crate) fn fill(path: &Path, bench: &str, report: &Report, all: &[Measured]) -> Result<()> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let page = page::fill(&text, |name, old| {
        let Some(name) = name
            .strip_prefix(bench)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return Ok(old.to_owned());
        };
        if name == "conditions" {
            let loads = all.iter().map(Measured::conditions);
            return Ok(format!(
                "Machine: {}.\n\n{}",
                report.machine(),
                loads.collect::<String>()
            ));
        }
        // What was not measured stays.
        let measured = all.iter().find(|measured| measured.demand.name == name);
        Ok(measured.map_or_else(|| old.to_owned(), Measured::table))
    });
    std::fs::write(path, page.map_err(anyhow::Error::msg)?)?;
    let images = path.with_file_name("images");
    for measured in all {
        let image = images.join(format!("{bench}-{}.svg", measured.demand.name));
        std::fs::write(image, measured.plot()?)?;
    }
    Ok(())
}
