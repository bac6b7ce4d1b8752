//! What is measured while a scenario runs.

use hdrhistogram::{CreationError, Histogram};

use crate::random::{nanos, seconds};
use crate::requests::Outcome;

/// The length of a bin of the series, seconds.
pub const BIN: f64 = 0.02;

/// What takes longer counts as this, microseconds.
const LONGEST: u64 = 100_000_000;

/// How long after a step its excess is looked for, seconds.
const AFTER_STEP: f64 = 5.0;

/// Requests over time, in bins of [`BIN`].
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Requests whose home is the first cluster.
    pub offered: Vec<u32>,
    /// Requests that reached applications, by cluster.
    pub served: Vec<Vec<u32>>,
    /// Attempts that gates turned away.
    pub bounced: Vec<u32>,
    /// Requests that ended with an error, or that applications gave up.
    pub failed: Vec<u32>,
}

fn count(bins: &mut [u32], now: u64) {
    let at = (seconds(now) / BIN) as usize;
    let last = bins.len().saturating_sub(1);
    if let Some(bin) = bins.get_mut(at.min(last)) {
        *bin += 1;
    }
}

/// How long requests took, microseconds, as their applications see it.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Those that home served at once.
    pub home: Histogram<u64>,
    /// Those that went elsewhere straight away.
    pub spilled: Histogram<u64>,
    /// Those that were bounced.
    pub bounced: Histogram<u64>,
}

impl Latency {
    fn new() -> Result<Self, CreationError> {
        Ok(Self {
            home: Histogram::new_with_bounds(1, LONGEST, 2)?,
            spilled: Histogram::new_with_bounds(1, LONGEST, 2)?,
            bounced: Histogram::new_with_bounds(1, LONGEST, 2)?,
        })
    }
}

/// The bucket that the requests served at home after a step would need at 1.02 C: how far they
/// were above it in any window (the backlog of a fluid queue at that rate).
#[derive(Clone, Copy, Debug)]
struct Excess {
    from: u64,
    until: u64,
    rate: f64,
    last: u64,
    level: f64,
    most: f64,
}

impl Excess {
    fn count(&mut self, now: u64) {
        if now < self.from || now > self.until {
            return;
        }
        self.level = (self.level - seconds(now - self.last) * self.rate).max(0.0) + 1.0;
        self.last = now;
        self.most = self.most.max(self.level);
    }
}

/// The counts of one caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfCaller {
    /// Its group.
    pub group: usize,
    /// What it wanted.
    pub offered: u64,
    /// What its home served.
    pub at_home: u64,
}

/// Counts of the requests that began after [`Scenario::from`](crate::scenario::Scenario::from),
/// and series of all.
#[derive(Clone, Debug)]
pub struct Measured {
    from: u64,
    /// By group.
    pub offered: Vec<u64>,
    /// By group: those that its home served.
    pub at_home: Vec<u64>,
    /// By cluster: those that reached applications.
    pub served: Vec<u64>,
    /// Attempts of all requests.
    pub attempts: u64,
    /// Attempts that gates turned away.
    pub bounces: u64,
    /// Requests that were bounced at least once.
    pub bounced: u64,
    /// Requests that a gate let in although they did not fit.
    pub forced: u64,
    /// The same, where a cluster that is not their home did.
    pub forced_away: u64,
    /// Requests that were shed.
    pub shed: u64,
    /// Requests that ended with another error.
    pub failed: u64,
    /// Requests that applications gave up.
    pub given_up: u64,
    /// The sum and number of the own load that the first cluster's endpoints told at their ticks.
    rho: (f64, u64),
    /// By caller.
    pub callers: Vec<OfCaller>,
    /// How long requests took.
    pub latency: Latency,
    /// All requests over time.
    pub series: Series,
    /// When callers switched, and to what (Switch mode).
    pub switches: Vec<(f64, usize, bool)>,
    excess: Option<Excess>,
}

/// A request that has ended, as far as it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) began: u64,
    pub(crate) bounced: bool,
    pub(crate) spilled: bool,
    pub(crate) outcome: Outcome,
}

/// A request that reaches an application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LetIn {
    pub(crate) cluster: usize,
    /// It is the request's home.
    pub(crate) own: bool,
    /// It did not fit.
    pub(crate) forced: bool,
    pub(crate) group: usize,
    pub(crate) caller: usize,
    pub(crate) began: u64,
}

impl Measured {
    pub(crate) fn new(
        scenario: &crate::scenario::Scenario,
        groups_of_callers: impl IntoIterator<Item = usize>,
    ) -> Result<Self, CreationError> {
        let clusters = scenario.clusters.len();
        let bins = (scenario.length / BIN).ceil() as usize + 1;
        let limit = scenario.clusters.first().and_then(|home| {
            let limit = home.limit.as_ref()?;
            limit.per_second(home.endpoints)
        });
        let excess = scenario.step.zip(limit).map(|(step, limit)| Excess {
            from: nanos(step),
            until: nanos(step + AFTER_STEP),
            rate: 1.02 * limit,
            last: nanos(step),
            level: 0.0,
            most: 0.0,
        });
        Ok(Self {
            from: nanos(scenario.from),
            offered: vec![0; scenario.callers.len()],
            at_home: vec![0; scenario.callers.len()],
            served: vec![0; clusters],
            attempts: 0,
            bounces: 0,
            bounced: 0,
            forced: 0,
            forced_away: 0,
            shed: 0,
            failed: 0,
            given_up: 0,
            rho: (0.0, 0),
            callers: groups_of_callers
                .into_iter()
                .map(|group| OfCaller {
                    group,
                    ..OfCaller::default()
                })
                .collect(),
            latency: Latency::new()?,
            series: Series {
                offered: vec![0; bins],
                served: vec![vec![0; bins]; clusters],
                bounced: vec![0; bins],
                failed: vec![0; bins],
            },
            switches: Vec::new(),
            excess,
        })
    }

    fn counts(&self, began: u64) -> bool {
        began >= self.from
    }

    pub(crate) fn on_offered(&mut self, group: usize, caller: usize, home: usize, now: u64) {
        if home == 0 {
            count(&mut self.series.offered, now);
        }
        if !self.counts(now) {
            return;
        }
        if let Some(offered) = self.offered.get_mut(group) {
            *offered += 1;
        }
        if let Some(caller) = self.callers.get_mut(caller) {
            caller.offered += 1;
        }
    }

    pub(crate) fn on_attempt(&mut self, began: u64) {
        self.attempts += u64::from(self.counts(began));
    }

    pub(crate) fn on_bounce(&mut self, began: u64, now: u64) {
        self.bounces += u64::from(self.counts(began));
        count(&mut self.series.bounced, now);
    }

    /// A request reaches the application of a cluster.
    pub(crate) fn on_let_in(&mut self, let_in: &LetIn, now: u64) {
        let cluster = let_in.cluster;
        if let Some(bins) = self.series.served.get_mut(cluster) {
            count(bins, now);
        }
        if cluster == 0
            && let Some(excess) = &mut self.excess
        {
            excess.count(now);
        }
        if !self.counts(let_in.began) {
            return;
        }
        self.forced += u64::from(let_in.forced);
        self.forced_away += u64::from(let_in.forced && !let_in.own);
        if let Some(served) = self.served.get_mut(cluster) {
            *served += 1;
        }
        if !let_in.own {
            return;
        }
        if let Some(home) = self.at_home.get_mut(let_in.group) {
            *home += 1;
        }
        if let Some(caller) = self.callers.get_mut(let_in.caller) {
            caller.at_home += 1;
        }
    }

    pub(crate) fn on_end(&mut self, ended: &Ended, now: u64) {
        let lost = ended.outcome != Outcome::Served;
        if lost {
            count(&mut self.series.failed, now);
        }
        if !self.counts(ended.began) {
            return;
        }
        self.bounced += u64::from(ended.bounced);
        if lost {
            self.shed += u64::from(ended.outcome == Outcome::Shed);
            self.failed += u64::from(ended.outcome != Outcome::Shed);
            return;
        }
        let histogram = if ended.bounced {
            &mut self.latency.bounced
        } else if ended.spilled {
            &mut self.latency.spilled
        } else {
            &mut self.latency.home
        };
        histogram.saturating_record((now - ended.began) / 1_000);
    }

    pub(crate) fn on_given_up(&mut self, began: u64, now: u64) {
        count(&mut self.series.failed, now);
        self.given_up += u64::from(self.counts(began));
    }

    pub(crate) fn on_rho(&mut self, rho: u32, now: u64) {
        if self.counts(now) {
            self.rho.0 += f64::from(rho);
            self.rho.1 += 1;
        }
    }

    /// The mean own load that the first cluster told, 1 being its capacity.
    #[must_use]
    pub fn rho(&self) -> f64 {
        self.rho.0 / self.rho.1.max(1) as f64 / 1_000.0
    }

    /// The most by which home's requests were above 1.02 C after the step, in any window of the
    /// five seconds after it; requests.
    #[must_use]
    pub fn excess(&self) -> Option<f64> {
        self.excess.map(|excess| excess.most)
    }
}
