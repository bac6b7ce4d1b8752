//! What is told of a run.

use crate::demand::{Demand, LIMIT};
use crate::run::Run;
use crate::system::System;

/// Requests are compared with the limit in slots of so many seconds: within a second, chance alone
/// exceeds it.
const SLOT: f64 = 5.0;

/// Whether nearly all requests have moved is judged in slots of so many seconds.
const SHORT: f64 = 2.0;

/// Nearly all.
const MOST: f64 = 0.9;

/// So few requests in a slot tell nothing.
const FEW: f64 = 4.0;

/// A request that takes longer is too late, seconds.
const LATE: f64 = 1.0;

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// From the moment in which the load exceeds the limit until a request goes elsewhere, seconds.
    Reaction,
    /// Requests that the primary served above its limit.
    Above,
    /// The most that it served above its limit in any window of time, requests.
    Peak,
    /// Requests that were not served, or not within a second.
    Bad,
    /// Those of them that were not served.
    Failed,
    /// What 99 % of the requests take at most, milliseconds.
    Slowest,
    /// From the moment in which the load falls below the limit until the last request goes
    /// elsewhere, seconds.
    Return,
    /// Requests that went elsewhere although the primary had room within its limit.
    Needless,
    /// How often nearly all requests have moved to the other cluster.
    Changes,
}

impl Figure {
    /// All of a load that leaves the limit.
    pub(crate) const REACTION: [Self; 9] = [
        Self::Reaction,
        Self::Above,
        Self::Peak,
        Self::Bad,
        Self::Failed,
        Self::Slowest,
        Self::Return,
        Self::Needless,
        Self::Changes,
    ];

    /// All of one that wanders around it.
    pub(crate) const NEAR: [Self; 7] = [
        Self::Changes,
        Self::Above,
        Self::Peak,
        Self::Bad,
        Self::Failed,
        Self::Slowest,
        Self::Needless,
    ];

    /// Its name in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reaction => "first-spill",
            Self::Above => "above-limit",
            Self::Peak => "above-limit-at-once",
            Self::Bad => "failed-or-late",
            Self::Failed => "failed",
            Self::Slowest => "p99",
            Self::Return => "return",
            Self::Needless => "needless",
            Self::Changes => "changes",
        }
    }

    /// Its unit.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Reaction | Self::Return => "s",
            Self::Slowest => "ms",
            Self::Changes => "changes",
            _ => "requests",
        }
    }

    /// Its name for readers.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Reaction => "first spill after, s",
            Self::Above => "above the limit",
            Self::Peak => "most at once",
            Self::Bad => "failed or over 1 s",
            Self::Failed => "of these failed",
            Self::Slowest => "p99, ms",
            Self::Return => "home again after, s",
            Self::Needless => "sent away without need",
            Self::Changes => "changes",
        }
    }

    /// Its value for a run; `None` where there is none: nothing ever spilled, some always do, or
    /// some still do at the end.
    pub(crate) fn of(self, demand: &Demand, run: &Run) -> Option<f64> {
        match self {
            Self::Reaction => reaction(demand, run),
            Self::Above => Some(above(demand, run)),
            Self::Peak => Some(peak(&run.home)),
            Self::Bad => Some(count(run, |request| !request.ok || request.took > LATE)),
            Self::Failed => Some(count(run, |request| !request.ok)),
            Self::Slowest => slowest(run),
            Self::Return => back(demand, run),
            Self::Needless => Some(needless(demand, run)),
            Self::Changes => Some(changes(demand, run)),
        }
    }
}

/// How many of these times lie in each slot.
pub(crate) fn slots(times: &[f64], slot: f64, seconds: f64) -> Vec<f64> {
    let mut counts = vec![0.0; (seconds / slot).ceil() as usize];
    for time in times {
        if let Some(count) = counts.get_mut((time / slot) as usize) {
            *count += 1.0;
        }
    }
    counts
}

fn count(run: &Run, which: impl Fn(&crate::run::Request) -> bool) -> f64 {
    run.requests.iter().filter(|request| which(request)).count() as f64
}

/// Whether some requests go elsewhere at any rate: then there is no reaction and no return.
fn always(run: &Run) -> bool {
    run.system == System::Weights
}

fn reaction(demand: &Demand, run: &Run) -> Option<f64> {
    let exceeds = demand.exceeds()?;
    let first = run.away.first().filter(|_| !always(run))?;
    Some(first - exceeds)
}

fn back(demand: &Demand, run: &Run) -> Option<f64> {
    let falls = demand.falls()?;
    let last = run.away.last().filter(|_| !always(run))?;
    let left = run.home.last().is_some_and(|home| home > last);
    left.then(|| (last - falls).max(0.0))
}

fn above(demand: &Demand, run: &Run) -> f64 {
    let served = slots(&run.home, SLOT, demand.seconds);
    served
        .iter()
        .map(|count| (count - LIMIT * SLOT).max(0.0))
        .sum()
}

fn needless(demand: &Demand, run: &Run) -> f64 {
    let served = slots(&run.home, SLOT, demand.seconds);
    let elsewhere = slots(&run.away, SLOT, demand.seconds);
    let slots = served.iter().zip(&elsewhere);
    slots
        .map(|(home, away)| (LIMIT * SLOT - home).clamp(0.0, *away))
        .sum()
}

/// The bucket that the requests would have needed at the limit's rate.
fn peak(times: &[f64]) -> f64 {
    let (mut last, mut level, mut most) = (0.0, 0.0_f64, 0.0_f64);
    for time in times {
        level = (level - LIMIT * (time - last)).max(0.0) + 1.0;
        last = *time;
        most = most.max(level);
    }
    most
}

fn slowest(run: &Run) -> Option<f64> {
    let mut took: Vec<_> = run.requests.iter().map(|request| request.took).collect();
    took.sort_by(f64::total_cmp);
    took.get(took.len() * 99 / 100).map(|took| took * 1e3)
}

fn changes(demand: &Demand, run: &Run) -> f64 {
    let served = slots(&run.home, SHORT, demand.seconds);
    let elsewhere = slots(&run.away, SHORT, demand.seconds);
    let (mut moved, mut changes) = (false, 0.0);
    for (home, away) in served.iter().zip(&elsewhere) {
        let most = MOST * (home + away);
        let all = if moved { home } else { away };
        if *all >= most && home + away > FEW {
            moved = !moved;
            changes += 1.0;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::REACTION;
    use crate::run::Request;

    /// Ten a second for so long from a time on.
    fn even(from: f64, seconds: f64, rate: f64) -> impl Iterator<Item = f64> {
        (0..(seconds * rate) as u32).map(move |at| from + (f64::from(at) + 0.5) / rate)
    }

    /// The load `step`, of which the primary serves everything until 22 s, nothing until 60 s, and
    /// then everything.
    fn late() -> Run {
        let home = even(0.0, 15.0, 5.0).chain(even(15.0, 7.0, 30.0));
        let away = even(22.0, 18.0, 30.0).chain(even(40.0, 20.0, 5.0));
        let (home, away): (Vec<_>, Vec<_>) =
            (home.chain(even(60.0, 10.0, 5.0)).collect(), away.collect());
        let requests = home.iter().chain(&away).map(|at| Request {
            at: *at,
            took: if (17.0..22.0).contains(at) { 1.5 } else { 0.16 },
            ok: !(20.0..22.0).contains(at),
        });
        Run {
            system: System::Watcher,
            requests: requests.collect(),
            home,
            away,
        }
    }

    #[test]
    fn figures_of_a_late_change() {
        let [step, ..] = REACTION;
        let run = late();
        let of = |figure: Figure| {
            figure
                .of(&step, &run)
                .map(|value| (value * 10.0).round() / 10.0)
        };
        assert_eq!(of(Figure::Reaction), Some(7.0));
        // 15 too many for 5 s; then 60 in 5 s, which fit.
        assert_eq!(of(Figure::Above), Some(75.0));
        assert_eq!(of(Figure::Peak), Some(105.5));
        assert_eq!(of(Figure::Bad), Some(150.0));
        assert_eq!(of(Figure::Failed), Some(60.0));
        assert_eq!(of(Figure::Slowest), Some(1500.0));
        assert_eq!(of(Figure::Return), Some(19.9));
        // 15/s while 30/s were asked, and then 5/s; and the slot in which it changed has room for 15.
        assert_eq!(of(Figure::Needless), Some(15.0 + 15.0 * 15.0 + 100.0));
        assert_eq!(of(Figure::Changes), Some(2.0));
    }

    #[test]
    fn a_split_neither_reacts_nor_returns() {
        let [step, ..] = REACTION;
        let mut run = late();
        run.system = System::Weights;
        run.home = even(0.0, 70.0, 4.0).collect();
        run.away = even(0.0, 70.0, 1.0).collect();
        assert_eq!(Figure::Reaction.of(&step, &run), None);
        assert_eq!(Figure::Return.of(&step, &run), None);
        assert_eq!(Figure::Changes.of(&step, &run), Some(0.0));
    }
}
