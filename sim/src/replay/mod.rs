//! What a policy would have done about a recorded demand, and what the workshop's watcher would
//! have done: people choose a limit with it before they switch anything on.

mod modelled;
mod policy;
mod recorded;

use hdrhistogram::CreationError;
use serde::Serialize;

pub use policy::{Policy, PolicyErrors};
pub use recorded::{Recorded, SeriesError};

use crate::measure::BIN;
use crate::run::{Outcome, run};
use crate::scenario::{Scenario, Scheme};
use crate::table::Table;
use crate::{Demand, watcher};

/// Spells of spilling that are closer than this are one, seconds.
const TOGETHER: f64 = 60.0;
/// Rates are told over steps of this length, seconds.
const STEP: f64 = 1.0;
/// What home serves above its limit is told over steps of this length, seconds: within shorter ones
/// it is noise, or what the burst tolerance allows.
const LIMIT_STEP: f64 = 10.0;
/// More requests than this are not simulated at once.
const MOST_REQUESTS: f64 = 200e6;

/// What is assumed besides the policy and the series.
#[derive(Clone, Copy, Debug)]
pub struct Assumed {
    /// Sidecars that call, of which some want much more than others (Zipf's law).
    pub callers: usize,
    /// Ready endpoints in each cluster.
    pub endpoints: usize,
    /// Where the randomness begins.
    pub seed: u64,
}

/// A replay that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Too long.
    #[error("the series tells of {0:.0} million requests: replay at most 200 million at once")]
    TooMany(f64),
    /// The histograms cannot be made.
    #[error("{0}")]
    Histogram(#[from] CreationError),
}

/// What would have happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// The policy, in a few words.
    pub policy: String,
    /// How long the series is, seconds.
    pub seconds: f64,
    /// The highest recorded rate, requests a second.
    pub peak: f64,
    /// What home serves, requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
    /// What Spillway would have done.
    pub spillway: Course,
    /// What the watcher would have done; none where no rate says what home can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watcher: Option<Course>,
    /// The run of Spillway's, for plots.
    #[serde(skip)]
    pub run: Run,
}

/// A scenario and what came of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was simulated.
    pub scenario: Scenario,
    /// What came of it.
    pub outcome: Outcome,
}

/// What one of them would have done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// Requests.
    pub requests: u64,
    /// Those that other clusters would have served.
    pub spilled: u64,
    /// What each cluster would have served, in the policy's order.
    pub served: Vec<Served>,
    /// The most that they would have served in a second.
    pub spilled_peak: f64,
    /// Requests that home would have served above its limit: of each ten seconds what exceeds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_the_limit: Option<f64>,
    /// Requests that found room nowhere, and were served at home all the same.
    pub forced: u64,
    /// Requests that were shed.
    pub shed: u64,
    /// When something spilled.
    pub spells: Vec<Spell>,
    /// When all was sent away or brought back: how often.
    pub changes: usize,
}

/// What a cluster would have served.
#[derive(Clone, Debug, Serialize)]
pub struct Served {
    /// The cluster, or the fleet, as the policy names it.
    pub cluster: String,
    /// Requests.
    pub requests: u64,
}

/// A time in which something spilled.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spell {
    /// From when.
    pub from: String,
    /// Until when.
    pub until: String,
    /// How long, seconds.
    pub seconds: f64,
    /// How many requests.
    pub spilled: u64,
    /// The most in a second.
    pub peak: f64,
}

/// Replays a series under a policy.
///
/// # Errors
/// When the series is too long.
pub fn replay(policy: &Policy, series: &Recorded, assumed: Assumed) -> Result<Replay, ReplayError> {
    if series.requests() > MOST_REQUESTS {
        return Err(ReplayError::TooMany(series.requests() / 1e6));
    }
    let demand = Demand::Steps(series.rates.clone());
    let scenario = Scenario {
        length: series.length(),
        seed: assumed.seed,
        ..policy.scenario(demand, assumed.callers, assumed.endpoints)
    };
    let capacity = policy.capacity(assumed.endpoints);
    let course = |outcome: &Outcome| Course::new(policy, series, capacity, outcome);
    let outcome = run(&scenario)?;
    let watched = policy.watched(assumed.endpoints);
    Ok(Replay {
        policy: policy.summary(assumed.endpoints),
        seconds: series.length(),
        peak: series.peak(),
        capacity,
        spillway: course(&outcome),
        watcher: match watched {
            Some((enter, leave)) => Some(course(&run(&Scenario {
                scheme: Scheme::Watcher { enter, leave },
                ..scenario.clone()
            })?)),
            None => None,
        },
        run: Run { scenario, outcome },
    })
}

impl Course {
    fn new(policy: &Policy, series: &Recorded, capacity: Option<f64>, outcome: &Outcome) -> Self {
        let m = &outcome.measured;
        let mut spilled = Vec::new();
        for cluster in m.series.served.iter().skip(1) {
            let steps = steps(cluster, STEP);
            spilled.resize(steps.len(), 0);
            for (all, of_cluster) in spilled.iter_mut().zip(steps) {
                *all += of_cluster;
            }
        }
        let home = m.series.served.first().map(|home| steps(home, LIMIT_STEP));
        let above = |capacity: f64| {
            let over = home.iter().flatten();
            let over = over.map(|n| (*n as f64 - capacity * LIMIT_STEP).max(0.0));
            over.sum::<f64>().round()
        };
        let served = policy
            .clusters
            .iter()
            .cloned()
            .zip(m.served.iter().copied());
        Self {
            requests: m.offered.iter().sum(),
            spilled: m.served.iter().skip(1).sum(),
            served: served
                .map(|(cluster, requests)| Served { cluster, requests })
                .collect(),
            spilled_peak: spilled.iter().max().map_or(0.0, |most| *most as f64 / STEP),
            above_the_limit: capacity.map(above),
            forced: m.forced,
            shed: m.shed,
            spells: spells(&spilled, series),
            changes: m.switches.len(),
        }
    }
}

/// The requests of each step of this length.
fn steps(bins: &[u32], length: f64) -> Vec<u64> {
    let sum = |step: &[u32]| step.iter().map(|n| u64::from(*n)).sum();
    let together = (length / BIN).round() as usize;
    bins.chunks(together.max(1)).map(sum).collect()
}

/// The times in which something spilled, from the numbers of each step.
fn spells(spilled: &[u64], series: &Recorded) -> Vec<Spell> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (at, _) in spilled.iter().enumerate().filter(|(_, n)| **n > 0) {
        match all.last_mut() {
            Some((_, until)) if (at - *until) as f64 * STEP <= TOGETHER => *until = at + 1,
            _ => all.push((at, at + 1)),
        }
    }
    let spell = |(from, until): (usize, usize)| {
        let within = spilled.get(from..until).unwrap_or_default();
        Spell {
            from: series.time(from as f64 * STEP),
            until: series.time(until as f64 * STEP),
            seconds: (until - from) as f64 * STEP,
            spilled: within.iter().sum(),
            peak: within.iter().max().map_or(0.0, |most| *most as f64 / STEP),
        }
    };
    all.into_iter().map(spell).collect()
}

impl Replay {
    /// As a page of text.
    #[must_use]
    pub fn text(&self) -> String {
        let courses = || {
            let watcher = self.watcher.iter().map(|course| ("watcher", course));
            core::iter::once(("Spillway", &self.spillway)).chain(watcher)
        };
        let mut table = Table::new([
            "",
            "requests",
            "spilled",
            "share",
            "most/s",
            "above the limit",
            "forced",
            "shed",
            "spells",
            "changes",
        ]);
        for (name, course) in courses() {
            let above = course
                .above_the_limit
                .map_or("-".to_owned(), |above| format!("{above:.0}"));
            let share = course.spilled as f64 / course.requests.max(1) as f64;
            table.add([
                name.to_owned(),
                course.requests.to_string(),
                course.spilled.to_string(),
                format!("{:.1} %", share * 100.0),
                format!("{:.0}", course.spilled_peak),
                above,
                course.forced.to_string(),
                course.shed.to_string(),
                course.spells.len().to_string(),
                course.changes.to_string(),
            ]);
        }
        let mut text = format!(
            "{}\n{:.0} s, at most {:.1}/s\n\n{}",
            self.policy,
            self.seconds,
            self.peak,
            table.text()
        );
        for (name, course) in courses() {
            let mut table = Table::new(["from", "until", "seconds", "spilled", "most/s"]);
            for spell in &course.spells {
                table.add([
                    spell.from.clone(),
                    spell.until.clone(),
                    format!("{:.0}", spell.seconds),
                    spell.spilled.to_string(),
                    format!("{:.0}", spell.peak),
                ]);
            }
            if !course.spells.is_empty() {
                text += &format!("\n{name} would have spilled\n{}", table.text());
            }
        }
        text += &format!(
            "\nThe watcher asks Prometheus every {:.0} s for the rate of the last {:.0} s, with a scrape every {:.0} s.\n",
            watcher::LOOK,
            watcher::RANGE,
            watcher::SCRAPE
        );
        text
    }
}
