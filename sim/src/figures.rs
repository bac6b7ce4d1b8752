//! What a run comes to: the figures by which it is judged.

mod switching;

use crate::measure::{BIN, Measured};
use crate::run::Outcome;
use crate::scenario::Scenario;

/// Callers with fewer requests than this do not count for fairness: what is left is noise.
const FAIR_FROM: u64 = 100;

/// A figure of a run. Home is the first cluster, C its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// What home served, as a multiple of C.
    Load,
    /// What home served, of what it could have: min(demand, C) at every moment, with the demand that
    /// the scenario says.
    Utilisation,
    /// Seconds from the step until home serves min(demand, C) within 15 % in every later window of
    /// 0.4 s or 200/C.
    Settle,
    /// Requests above 1.02 C in any window of the five seconds after the step.
    Excess,
    /// Jain's index of the callers' shares of what they wanted that home served.
    Jain,
    /// The share of requests that were bounced at least once.
    Bounced,
    /// Bounces per request.
    Bounces,
    /// Attempts per request.
    Attempts,
    /// The share of requests that were let in although they did not fit.
    Forced,
    /// The share of requests that a cluster which is not their home let in although they did not fit.
    ForcedAway,
    /// The share of requests that ended with an error, were shed or given up.
    Failed,
    /// The own load that home told, in the mean.
    Rho,
    /// The share of what the first group of callers wanted that their home served.
    Kept,
    /// The same of the second group.
    KeptBySecond,
    /// What home served, requests a second.
    First,
    /// What the second cluster served, requests a second.
    Second,
    /// What the third cluster served, requests a second.
    Third,
    /// The 99th percentile of the time of requests that home served at once, milliseconds.
    HomeP99,
    /// The same of bounced ones.
    BouncedP99,
    /// Of the room that the second cluster has beside its own traffic, the share that others used.
    RoomUsed,
    /// Seconds from the step until a window (as for [`Self::Settle`]) begins in which the second
    /// cluster serves .85 of what it can take of the first one's excess.
    Taken,
    /// Seconds from the step until the first request is served elsewhere.
    FirstSpill,
    /// Seconds from the step until the first caller switches (Switch mode).
    Switched,
    /// Seconds from the step until a caller switches, in the mean.
    MeanSwitched,
    /// Seconds from the step until the last caller switches.
    LastSwitched,
    /// Seconds between the first and the last of them.
    SwitchSpread,
    /// The share of the callers that have left at the end.
    Away,
    /// Changes of a switch, per caller and hour.
    Changes,
}

impl Figure {
    /// As it stands in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load/C",
            Self::Utilisation => "utilisation",
            Self::Settle => "settle s",
            Self::Excess => "excess",
            Self::Jain => "Jain",
            Self::Bounced => "bounced",
            Self::Bounces => "bounces/request",
            Self::Attempts => "attempts/request",
            Self::Forced => "forced",
            Self::ForcedAway => "forced away",
            Self::Failed => "failed",
            Self::Rho => "rho",
            Self::Kept => "kept",
            Self::KeptBySecond => "kept by second",
            Self::First => "home /s",
            Self::Second => "second /s",
            Self::Third => "third /s",
            Self::HomeP99 => "home p99 ms",
            Self::BouncedP99 => "bounced p99 ms",
            Self::RoomUsed => "room used",
            Self::Taken => "taken s",
            Self::FirstSpill => "first spill s",
            Self::Switched => "switched s",
            Self::MeanSwitched => "mean switched s",
            Self::LastSwitched => "last switched s",
            Self::SwitchSpread => "spread s",
            Self::Away => "callers away",
            Self::Changes => "changes/h",
        }
    }

    /// Digits after the point that say something.
    #[must_use]
    pub const fn digits(self) -> usize {
        match self {
            Self::Excess | Self::First | Self::Second | Self::Third => 0,
            Self::HomeP99
            | Self::BouncedP99
            | Self::Changes
            | Self::MeanSwitched
            | Self::LastSwitched
            | Self::SwitchSpread => 1,
            Self::Settle | Self::Taken | Self::FirstSpill | Self::Switched => 2,
            _ => 3,
        }
    }

    /// Of a run. What a run cannot tell is no number.
    #[must_use]
    pub fn of(self, scenario: &Scenario, outcome: &Outcome) -> f64 {
        let m = &outcome.measured;
        let all = m.offered.iter().sum();
        let p99 = |latency: &hdrhistogram::Histogram<u64>| {
            if latency.is_empty() {
                f64::NAN
            } else {
                ratio(latency.value_at_quantile(0.99), 1_000)
            }
        };
        let rate = |cluster: usize| {
            let served = m.served.get(cluster).copied().unwrap_or_default();
            ratio(served, 1) / outcome.seconds
        };
        let kept = |group: usize| match (m.at_home.get(group), m.offered.get(group)) {
            (Some(home), Some(offered)) => ratio(*home, *offered),
            _ => f64::NAN,
        };
        match self {
            Self::Load => limit(scenario, 0).map_or(f64::NAN, |limit| rate(0) / limit),
            Self::Utilisation => utilisation(scenario, outcome),
            Self::Settle => settle(scenario, m),
            Self::Excess => m.excess().unwrap_or(f64::NAN),
            Self::Jain => jain(m),
            Self::Bounced => ratio(m.bounced, all),
            Self::Bounces => ratio(m.bounces, all),
            Self::Attempts => ratio(m.attempts, all),
            Self::Forced => ratio(m.forced, all),
            Self::ForcedAway => ratio(m.forced_away, all),
            Self::Failed => ratio(m.failed + m.shed + m.given_up, all),
            Self::Rho => m.rho(),
            Self::Kept => kept(0),
            Self::KeptBySecond => kept(1),
            Self::First => rate(0),
            Self::Second => rate(1),
            Self::Third => rate(2),
            Self::HomeP99 => p99(&m.latency.home),
            Self::BouncedP99 => p99(&m.latency.bounced),
            Self::RoomUsed => room_used(scenario, rate(1)),
            Self::Taken => taken(scenario, m).unwrap_or(f64::NAN),
            Self::FirstSpill => first_spill(scenario, m),
            Self::Switched => {
                let step = scenario.step.unwrap_or(f64::NAN);
                let after = m.switches.iter().find(|(time, ..)| *time >= step);
                after.map_or(f64::NAN, |(time, ..)| time - step)
            }
            Self::MeanSwitched => switching::times(scenario, m)[1],
            Self::LastSwitched => switching::times(scenario, m)[2],
            Self::SwitchSpread => {
                let [first, _, last] = switching::times(scenario, m);
                last - first
            }
            Self::Away => switching::away(scenario, m),
            Self::Changes => switching::changes(scenario, m, outcome.seconds),
        }
    }
}

fn ratio(of: u64, all: u64) -> f64 {
    if all == 0 {
        f64::NAN
    } else {
        of as f64 / all as f64
    }
}

/// What a cluster may serve, requests a second.
fn limit(scenario: &Scenario, cluster: usize) -> Option<f64> {
    let cluster = scenario.clusters.get(cluster)?;
    cluster.limit.as_ref()?.per_second(cluster.endpoints)
}

/// What the callers whose home it is want of a cluster, requests a second.
fn own_demand(scenario: &Scenario, cluster: usize, time: f64) -> f64 {
    let own = scenario.callers.iter();
    own.filter(|callers| callers.ladder.first() == Some(&cluster))
        .map(|callers| callers.demand.at(time).0)
        .sum()
}

/// How many bins are looked at together at a limit: .4 s or 200/C.
fn window(limit: f64) -> usize {
    ((200.0 / limit).max(0.4) / BIN).round() as usize
}

fn utilisation(scenario: &Scenario, outcome: &Outcome) -> f64 {
    let Some(limit) = limit(scenario, 0) else {
        return f64::NAN;
    };
    let mut wanted = 0.0;
    let mut time = scenario.from;
    while time < scenario.length {
        wanted += own_demand(scenario, 0, time).min(limit) * BIN;
        time += BIN;
    }
    let served = outcome.measured.served.first().copied().unwrap_or_default();
    ratio(served, 1) / wanted
}

/// Of what the second cluster's limit leaves beside the demand of its own callers.
fn room_used(scenario: &Scenario, served: f64) -> f64 {
    let own = own_demand(scenario, 1, scenario.from);
    limit(scenario, 1).map_or(f64::NAN, |limit| (served - own) / (limit - own))
}

fn taken(scenario: &Scenario, m: &Measured) -> Option<f64> {
    let step = scenario.step?;
    let of = |cluster| {
        Some((
            own_demand(scenario, cluster, step),
            limit(scenario, cluster)?,
        ))
    };
    let ((demand, limit), (own, second)) = (of(0)?, of(1)?);
    let wanted = own + 0.85 * (demand - limit).min(second - own);
    let bins = window(limit);
    let first = (step / BIN).round() as usize;
    let mut windows = m.series.served.get(1)?.windows(bins).skip(first);
    let rate = |served: &[u32]| f64::from(served.iter().sum::<u32>()) / (bins as f64 * BIN);
    let at = windows.position(|served| rate(served) >= wanted)?;
    Some(at as f64 * BIN)
}

fn first_spill(scenario: &Scenario, m: &Measured) -> f64 {
    let Some(step) = scenario.step else {
        return f64::NAN;
    };
    let first = (step / BIN).round() as usize;
    let elsewhere = m.series.served.iter().skip(1);
    let spilled = elsewhere.filter_map(|bins| bins.iter().skip(first).position(|n| *n > 0));
    spilled.min().map_or(f64::NAN, |at| at as f64 * BIN)
}

fn jain(m: &Measured) -> f64 {
    let shares = m
        .callers
        .iter()
        .filter(|caller| caller.offered >= FAIR_FROM)
        .map(|caller| ratio(caller.at_home, caller.offered));
    let (n, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(n, sum, squares), share| {
        (n + 1.0, sum + share, squares + share * share)
    });
    sum * sum / (n * squares)
}

/// The beginning of the first window from which on all are good.
fn settle(scenario: &Scenario, m: &Measured) -> f64 {
    let (Some(limit), Some(step), Some(home)) =
        (limit(scenario, 0), scenario.step, m.series.served.first())
    else {
        return f64::NAN;
    };
    let bins = window(limit);
    let first = (step / BIN).round() as usize;
    let most = limit * bins as f64 * BIN;
    let windows = home.windows(bins).zip(m.series.offered.windows(bins));
    let last = (scenario.length / BIN) as usize - bins;
    let mut bad = windows
        .enumerate()
        .take(last)
        .skip(first)
        .filter(|(_, (served, offered))| {
            let sum = |bins: &[u32]| f64::from(bins.iter().sum::<u32>());
            let wanted = sum(offered).min(most);
            (sum(served) - wanted).abs() > 0.15 * wanted.max(most / 2.0)
        });
    bad.next_back()
        .map_or(0.0, |(at, _)| (at + 1 - first) as f64 * BIN)
}
