//! What came of a flight.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::load::{Reply, Unanswered};
use super::rate::Plan;

/// Answers with more prefixes than this are counted together: who answers decides what they are.
const MOST_PREFIXES: usize = 256;
/// The prefix under which they are.
const OTHERS: &str = "(others)";
/// An hour in microseconds: no latency is told as more.
const LONGEST: u64 = 3_600_000_000;

/// Who answered so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) unanswered: BTreeMap<Unanswered, u64>,
    /// The number of the first request, counted from 0, that another prefix than home's answered.
    pub(super) first_spill: Option<u64>,
}

/// The answers with one prefix.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) latency: Latency,
}

/// Latencies in microseconds, to three digits.
#[derive(Debug, Default)]
pub(super) struct Latency(Option<Histogram<u64>>);

impl Tally {
    pub(super) fn count(&mut self, reply: &Reply, home: &str) {
        match &reply.result {
            Err(reason) => *self.unanswered.entry(*reason).or_default() += 1,
            Ok(answer) => {
                if answer.prefix != home {
                    let first = self.first_spill.unwrap_or(u64::MAX);
                    self.first_spill = Some(first.min(reply.number));
                }
                let is_known = self.groups.contains_key(&answer.prefix);
                let prefix = if is_known || self.groups.len() < MOST_PREFIXES {
                    &answer.prefix
                } else {
                    OTHERS
                };
                let group = self.groups.entry(prefix.to_owned()).or_default();
                *group.statuses.entry(answer.status).or_default() += 1;
                group.latency.record(reply.latency);
            }
        }
    }

    /// How many requests were answered.
    pub(super) fn answered(&self) -> u64 {
        self.groups.values().map(Group::requests).sum()
    }

    /// How many were answered, or will not be.
    pub(super) fn ended(&self) -> u64 {
        self.answered() + self.unanswered.values().sum::<u64>()
    }

    /// How many were answered with another prefix than home's.
    pub(super) fn spilled(&self, home: &str) -> u64 {
        let others = self.groups.iter().filter(|(prefix, _)| *prefix != home);
        others.map(|(_, group)| group.requests()).sum()
    }

    /// Whether every request was answered by a service that could.
    pub(super) fn is_fine(&self) -> bool {
        let mut statuses = self.groups.values().flat_map(|it| it.statuses.keys());
        let given_up = |reason: &Unanswered| *reason == Unanswered::GivenUp;
        self.unanswered.keys().all(given_up) && !statuses.any(|it| *it == 429 || *it >= 500)
    }
}

impl Group {
    pub(super) fn requests(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// As `200: 12, 503: 1`.
    pub(super) fn statuses(&self) -> String {
        let statuses = self.statuses.iter();
        let statuses = statuses.map(|(status, count)| format!("{status}: {count}"));
        statuses.collect::<Vec<_>>().join(", ")
    }
}

impl Latency {
    fn record(&mut self, latency: Duration) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, LONGEST, 3).ok();
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros.max(1));
        }
    }

    /// In milliseconds.
    pub(super) fn at(&self, quantile: f64) -> f64 {
        let histogram = self.0.as_ref();
        let micros = histogram.map_or(0, |histogram| histogram.value_at_quantile(quantile));
        micros as f64 / 1_000.0
    }
}

/// Where the first request spilled.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstSpill {
    /// Requests before it.
    pub(super) after: u64,
    pub(super) at: Duration,
    pub(super) rate: f64,
}

impl FirstSpill {
    pub(super) fn of(tally: &Tally, plan: &Plan) -> Option<Self> {
        let after = tally.first_spill?;
        let at = plan.at(after);
        Some(Self {
            after,
            at,
            rate: plan.rate_at(at),
        })
    }
}
