//! What was offered, what was answered and by whom: totals, sliding rates, and how long a change
//! took to show.
//!
//! Time is an argument, counted from the start of the workshop, so that every test is exact.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::worker::Answer;

/// Rates are counts of the last second.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Jobs sent.
    pub(crate) offered: u64,
    /// Answers of the home cluster.
    pub(crate) home: u64,
    /// Answers of the overflow cluster.
    pub(crate) burst: u64,
    /// Jobs whose reply was not 200, or that got none.
    pub(crate) errors: u64,
    /// Answers to a job that had been answered before.
    pub(crate) twice: u64,
    /// Answers of the overflow cluster without its prefix, or of home with it.
    pub(crate) mislabelled: u64,
}

/// How long it took from a rise of the frequency until the first spilled answer. A rise while
/// requests were spilling already is not measured, and leaves the last figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub(crate) enum FirstSpill {
    /// Nothing has been measured yet, or a fall came before anything spilled.
    #[default]
    Idle,
    /// Risen, and nothing has spilled since.
    Waiting,
    /// Seen after that many seconds.
    Seen {
        /// Seconds from the change to the answer.
        seconds: f64,
    },
}

/// The state of one moment, as the page shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    /// Seconds since the start.
    pub(crate) t: f64,
    /// Jobs sent in the last second.
    pub(crate) offered: usize,
    /// Answers of home in the last second.
    pub(crate) home: usize,
    /// Answers of the overflow cluster in the last second.
    pub(crate) burst: usize,
    /// Answers in the last second by worker.
    pub(crate) workers: BTreeMap<String, usize>,
    /// Counts since the start.
    pub(crate) totals: Totals,
    /// How long the last rise took to show.
    pub(crate) first_spill: FirstSpill,
}

/// Times of the last second.
#[derive(Debug, Default)]
struct Window(VecDeque<Duration>);

impl Window {
    fn add(&mut self, now: Duration) {
        self.0.push_back(now);
        self.count(now);
    }

    fn count(&mut self, now: Duration) -> usize {
        while self.0.front().is_some_and(|at| *at + WINDOW <= now) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

/// A worker of the fleet and the window of its answers.
#[derive(Debug)]
struct Endpoint {
    burst: bool,
    window: Window,
}

/// The counts of one workshop.
#[derive(Debug)]
pub(crate) struct Tally {
    prefix: String,
    endpoints: BTreeMap<String, Endpoint>,
    offered: Window,
    totals: Totals,
    outstanding: HashSet<u64>,
    risen: Option<Duration>,
    first_spill: FirstSpill,
}

impl Tally {
    /// A tally of the named workers (`true`: of the overflow cluster), whose answers bear `prefix`
    /// when they come from the overflow cluster.
    pub(crate) fn new(workers: impl IntoIterator<Item = (String, bool)>, prefix: &str) -> Self {
        let endpoints = workers
            .into_iter()
            .map(|(name, burst)| {
                (
                    name,
                    Endpoint {
                        burst,
                        window: Window::default(),
                    },
                )
            })
            .collect();
        Self {
            prefix: prefix.to_owned(),
            endpoints,
            offered: Window::default(),
            totals: Totals::default(),
            outstanding: HashSet::new(),
            risen: None,
            first_spill: FirstSpill::Idle,
        }
    }

    /// The frequency was changed from `old` to `new`.
    pub(crate) fn on_frequency(&mut self, now: Duration, old: u32, new: u32) {
        let spilling = self.rate(now, true) > 0;
        if new > old && !spilling {
            self.risen = Some(now);
            self.first_spill = FirstSpill::Waiting;
        } else if self.risen.take().is_some() {
            self.first_spill = FirstSpill::Idle;
        }
    }

    /// A job was sent.
    pub(crate) fn on_sent(&mut self, now: Duration, id: u64) {
        self.offered.add(now);
        self.totals.offered += 1;
        self.outstanding.insert(id);
    }

    /// A job failed: its reply was not 200, or there was none. No answer is awaited any more.
    pub(crate) fn on_error(&mut self, id: u64) {
        self.totals.errors += 1;
        self.outstanding.remove(&id);
    }

    /// An answer came by the channel. Says whether the overflow cluster computed it; `None` if no
    /// worker of that name is known.
    pub(crate) fn on_answer(&mut self, now: Duration, answer: &Answer) -> Option<bool> {
        let endpoint = self.endpoints.get_mut(&answer.by)?;
        let burst = endpoint.burst;
        endpoint.window.add(now);
        let prefixed = answer.result.starts_with(&self.prefix);
        self.totals.mislabelled += u64::from(prefixed != burst);
        self.totals.twice += u64::from(!self.outstanding.remove(&answer.id));
        if burst {
            self.totals.burst += 1;
            if let Some(risen) = self.risen.take() {
                let seconds = now.saturating_sub(risen).as_secs_f64();
                self.first_spill = FirstSpill::Seen { seconds };
            }
        } else {
            self.totals.home += 1;
        }
        Some(burst)
    }

    /// Jobs that have neither been answered nor failed.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Counts since the start.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// The state at `now`.
    pub(crate) fn snapshot(&mut self, now: Duration) -> Snapshot {
        Snapshot {
            t: now.as_secs_f64(),
            offered: self.offered.count(now),
            home: self.rate(now, false),
            burst: self.rate(now, true),
            workers: self
                .endpoints
                .iter_mut()
                .map(|(name, endpoint)| (name.clone(), endpoint.window.count(now)))
                .collect(),
            totals: self.totals,
            first_spill: self.first_spill,
        }
    }

    fn rate(&mut self, now: Duration, burst: bool) -> usize {
        self.endpoints
            .values_mut()
            .filter(|endpoint| endpoint.burst == burst)
            .map(|endpoint| endpoint.window.count(now))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn tally() -> Tally {
        Tally::new(
            [
                ("primary-1".to_owned(), false),
                ("burst-1".to_owned(), true),
            ],
            "bursty-",
        )
    }

    fn answer(id: u64, by: &str, result: &str) -> Answer {
        Answer {
            id,
            by: by.to_owned(),
            result: result.to_owned(),
        }
    }

    #[test]
    fn rates_are_of_the_last_second() {
        let mut tally = tally();
        for id in 0..20 {
            tally.on_sent(ms(100 * id), id);
            tally.on_answer(ms(100 * id), &answer(id, "primary-1", "ab"));
        }
        let now = tally.snapshot(ms(1_900));
        assert_eq!((now.offered, now.home, now.burst), (10, 10, 0));
        assert_eq!(now.workers["primary-1"], 10);
        assert_eq!(tally.snapshot(ms(2_900)).home, 0);
        assert_eq!(tally.totals().home, 20);
    }

    #[test]
    fn first_spill_is_measured_from_a_rise_of_the_frequency() {
        let mut tally = tally();
        tally.on_frequency(ms(1_000), 5, 75);
        assert_eq!(tally.snapshot(ms(1_100)).first_spill, FirstSpill::Waiting);
        tally.on_sent(ms(1_200), 1);
        tally.on_answer(ms(1_250), &answer(1, "burst-1", "bursty-ab"));
        tally.on_answer(ms(1_900), &answer(2, "burst-1", "bursty-ab"));
        assert_eq!(
            tally.snapshot(ms(2_000)).first_spill,
            FirstSpill::Seen { seconds: 0.25 }
        );
    }

    #[test]
    fn first_spill_is_not_measured_while_requests_spill_or_after_a_fall() {
        let mut tally = tally();
        tally.on_answer(ms(900), &answer(1, "burst-1", "bursty-ab"));
        tally.on_frequency(ms(1_000), 20, 75);
        assert_eq!(tally.snapshot(ms(1_000)).first_spill, FirstSpill::Idle);
        tally.on_frequency(ms(8_000), 5, 20);
        tally.on_frequency(ms(9_000), 20, 5);
        tally.on_answer(ms(9_100), &answer(2, "burst-1", "bursty-ab"));
        assert_eq!(tally.snapshot(ms(9_200)).first_spill, FirstSpill::Idle);
    }

    #[test]
    fn a_prefix_in_the_wrong_place_is_counted() {
        let mut tally = tally();
        tally.on_sent(ms(0), 1);
        tally.on_sent(ms(0), 2);
        assert_eq!(
            tally.on_answer(ms(1), &answer(1, "burst-1", "ab")),
            Some(true)
        );
        assert_eq!(
            tally.on_answer(ms(1), &answer(2, "primary-1", "bursty-ab")),
            Some(false)
        );
        assert_eq!(tally.totals().mislabelled, 2);
    }

    #[test]
    fn a_second_answer_and_a_missing_one_are_seen() {
        let mut tally = tally();
        tally.on_sent(ms(0), 1);
        tally.on_sent(ms(0), 2);
        tally.on_sent(ms(0), 3);
        tally.on_answer(ms(1), &answer(1, "primary-1", "ab"));
        tally.on_answer(ms(2), &answer(1, "primary-1", "ab"));
        tally.on_error(3);
        assert_eq!(tally.totals().twice, 1);
        assert_eq!(tally.totals().errors, 1);
        assert_eq!(tally.outstanding(), 1);
        assert_eq!(tally.on_answer(ms(2), &answer(2, "nobody", "ab")), None);
    }
}
