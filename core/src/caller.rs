//! The caller's side of one policy, in one thread: home, or which rung.
//!
//! At a told load ρ the fraction min(1, (1+EPS)/ρ) of the requests goes home by a deterministic
//! accumulator, the rest to the next rung; what no rung takes comes home. Threads share nothing:
//! the fractions add up to the limit whatever each one's share of the demand is, since each echoes
//! its own. A rung is sent 1/ρ and no EPS more: what it turns away may come home, and displaces
//! others there.

use alloc::string::String;
use alloc::vec::Vec;

use crate::EPS_MILLI;
use crate::UPDATE_FREQUENCY;
use crate::rate::SECOND;

/// Feedback older than this is stale (H), ns.
pub const STALE: u64 = 3 * SECOND;
/// An echo is dropped when its cluster was not considered for this long, ns.
const FORGET: u64 = 10 * SECOND;
/// What came back bounced from a cluster is not taken as news again within this time, ns.
const FULL_AGAIN: u64 = SECOND;
/// A rung that failed is closed for this time at first, ns …
const CLOSE_FIRST: u64 = SECOND;
/// … and for at most this time, ns.
const CLOSE_MOST: u64 = 30 * SECOND;
/// When an answer shows that nobody repeats what is bounced, no request offers it for this time, ns.
const NOT_REPEATED: u64 = 10 * SECOND;
/// One request, in the fraction of the accumulators.
const ONE: i64 = 1 << 20;
/// A rung has room for what home bounces up to this load, thousandths: it takes two of three
/// requests that are sent there. Above it, what home bounces would mostly come home again, after
/// five attempts.
const HAS_ROOM: u32 = 1_500;
/// How far requests that may not leave home draw the accumulator down.
const MOST_OWED: i64 = -8 * ONE;

/// What decides about a request besides the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The request can be repeated, and the policy lets it.
    pub bounceable: bool,
    /// Its route is of class Never.
    pub never: bool,
    /// The override in force.
    pub force: Option<Force>,
    /// Switch mode has switched. `None` in Spill mode.
    pub switched: Option<bool>,
}

/// An override of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// All stays home.
    Home,
    /// All goes to the first rung that is open.
    Overflow,
}

/// Why a request went where it went. A closed set: it labels metrics and access logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is room at home.
    Below,
    /// Home's load is old; this request asks for news.
    Probe,
    /// More than home can serve.
    Over,
    /// Switch mode has switched.
    Switched,
    /// The route's class is Never.
    Never,
    /// An override is in force.
    Override,
    /// Home and every rung are full or closed.
    Exhausted,
}

impl Reason {
    /// All, in the order of [`Self::index`].
    pub const ALL: [Self; 7] = [
        Self::Below,
        Self::Probe,
        Self::Over,
        Self::Switched,
        Self::Never,
        Self::Override,
        Self::Exhausted,
    ];

    /// As it stands in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Below => "below-limit",
            Self::Probe => "probe",
            Self::Over => "over-limit",
            Self::Switched => "switched",
            Self::Never => "never-route",
            Self::Override => "override",
            Self::Exhausted => "exhausted",
        }
    }

    /// Position in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Where a request goes, and what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rung, from 0; `None` is home.
    pub rung: Option<usize>,
    /// The echo N.
    pub echo: u32,
    /// Flag `b`.
    pub bounceable: bool,
    /// Flag `h`.
    pub returned: bool,
    /// Why.
    pub reason: Reason,
}

/// What an answer tells. Clusters are named by their place: 0 is home, `n` is rung `n - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the request was sent.
    pub target: usize,
    /// Whether it offered to be bounced.
    pub bounceable: bool,
    /// The load header: who answered (`None`: a cluster that is not of the ladder), its load and
    /// the attempt.
    pub load: Option<(Option<usize>, u32, u32)>,
    /// The status is 5xx, or gRPC's UNAVAILABLE.
    pub server_error: bool,
    /// It is a bounce that Envoy has not repeated although it could: the route does not say so, or
    /// has no more retries.
    pub not_repeated: bool,
    /// Envoy sent it by a route that is not the target's.
    pub strayed: bool,
}

/// State for one cluster of the ladder.
#[derive(Clone, Debug)]
struct Side {
    cluster: String,
    rho: u32,
    acc: i64,
    echo: u32,
    feedback: u64,
    seen: u64,
    closed_until: u64,
    closed_for: u64,
}

impl Side {
    fn new(cluster: &str, now: u64, seed: u32) -> Self {
        Self {
            cluster: cluster.into(),
            rho: 0,
            acc: i64::from(seed) % ONE,
            echo: 0,
            feedback: now,
            seen: now,
            closed_until: 0,
            closed_for: 0,
        }
    }

    fn consider(&mut self, now: u64) {
        if now.saturating_sub(self.seen) > FORGET {
            self.echo = 0;
        }
        self.seen = now;
        self.echo = self.echo.saturating_add(1);
    }

    fn stale(&self, now: u64) -> bool {
        now.saturating_sub(self.feedback) > STALE
    }

    fn closed(&self, now: u64) -> bool {
        now < self.closed_until
    }

    /// The fraction that is admitted, of [`ONE`], with `eps` thousandths of the capacity more.
    fn fraction(&self, now: u64, bounceable: bool, eps: u32) -> i64 {
        if self.rho == 0 || (bounceable && self.stale(now)) {
            return ONE; // Nothing known, or too old: the gate protects.
        }
        (i64::from(1_000 + eps) * ONE / i64::from(self.rho)).min(ONE)
    }

    /// Takes a request's turn at the accumulator: whether it goes here, and whether as a probe.
    fn admit(&mut self, now: u64, bounceable: bool, eps: u32) -> Option<Reason> {
        self.acc = self
            .acc
            .saturating_add(self.fraction(now, bounceable, eps))
            .min(2 * ONE);
        if self.acc >= ONE {
            self.acc -= ONE;
            Some(Reason::Below)
        } else if self.stale(now) && self.acc > -ONE {
            self.acc -= ONE;
            self.feedback = now;
            Some(Reason::Probe)
        } else {
            None
        }
    }

    /// What home bounces may find room here.
    fn has_room(&self, now: u64) -> bool {
        !self.closed(now) && (self.rho <= HAS_ROOM || self.stale(now))
    }

    /// Once for all requests that were under way when it failed: their answers come while it is
    /// closed.
    fn close(&mut self, now: u64) {
        if self.closed(now) {
            return;
        }
        self.closed_for = (self.closed_for * 2).clamp(CLOSE_FIRST, CLOSE_MOST);
        self.closed_until = now.saturating_add(self.closed_for);
    }
}

/// A policy's state in one thread: home first, then the rungs.
#[derive(Clone, Debug)]
pub struct Caller {
    sides: Vec<Side>,
    /// Until then no request offers to be bounced.
    refrain_until: u64,
}

impl Caller {
    /// State for a ladder of `clusters`, home first. `seed`: any number; it spreads the first
    /// spilled requests of many callers.
    #[must_use]
    pub fn new<'a>(clusters: impl IntoIterator<Item = &'a str>, now: u64, seed: u32) -> Self {
        Self {
            sides: clusters
                .into_iter()
                .map(|c| Side::new(c, now, seed))
                .collect(),
            refrain_until: 0,
        }
    }

    /// The same for a changed ladder: clusters that stay keep what is known of them.
    #[must_use]
    pub fn adapt<'a>(
        self,
        clusters: impl IntoIterator<Item = &'a str>,
        now: u64,
        seed: u32,
    ) -> Self {
        let mut old = self.sides;
        let sides = clusters.into_iter().map(|cluster| {
            let kept = old
                .iter()
                .position(|s| s.cluster == cluster)
                .map(|at| old.swap_remove(at));
            kept.unwrap_or_else(|| Side::new(cluster, now, seed))
        });
        Self {
            sides: sides.collect(),
            refrain_until: self.refrain_until,
        }
    }

    /// Where a cluster stands in the ladder; 0 is home.
    #[must_use]
    pub fn place(&self, cluster: &str) -> Option<usize> {
        self.sides.iter().position(|s| s.cluster == cluster)
    }

    /// Whether a rung (from 0) is closed after failures.
    #[must_use]
    pub fn closed(&self, rung: usize, now: u64) -> bool {
        self.sides
            .get(rung.saturating_add(1))
            .is_some_and(|s| s.closed(now))
    }

    /// Decides on a request. `take`: asks a rung's `maxRate` for one request.
    pub fn decide(&mut self, ask: Ask, now: u64, mut take: impl FnMut(usize) -> bool) -> Decision {
        let Some((home, rungs)) = self.sides.split_first_mut() else {
            return Decision {
                rung: None,
                echo: 1,
                bounceable: false,
                returned: false,
                reason: Reason::Below,
            };
        };
        let ask = Ask {
            bounceable: ask.bounceable && now >= self.refrain_until,
            ..ask
        };
        home.consider(now);
        if ask.never || ask.force == Some(Force::Home) || ask.switched == Some(false) {
            let reason = if ask.never {
                // It takes its share of the limit from those that may leave.
                home.acc =
                    (home.acc + home.fraction(now, false, 0) - ONE).clamp(MOST_OWED, 2 * ONE);
                Reason::Never
            } else if ask.force.is_some() {
                Reason::Override
            } else {
                Reason::Below
            };
            return Self::stay(home, false, false, reason);
        }
        let room = rungs.iter().any(|s| s.has_room(now));
        let spills = match (ask.force, ask.switched) {
            (Some(_), _) => Reason::Override,
            (None, Some(_)) => Reason::Switched,
            (None, None) => {
                let eps = if ask.bounceable { EPS_MILLI } else { 0 };
                if let Some(reason) = home.admit(now, ask.bounceable, eps) {
                    return Self::stay(home, ask.bounceable && room, !room, reason);
                }
                Reason::Over
            }
        };
        for (rung, side) in rungs.iter_mut().enumerate() {
            if side.closed(now) {
                continue;
            }
            side.consider(now);
            let before = side.acc;
            if side.admit(now, ask.bounceable, 0).is_none() {
                continue;
            }
            if !take(rung) {
                side.acc = before;
                continue;
            }
            let echo = core::mem::take(&mut side.echo);
            return Decision {
                rung: Some(rung),
                echo,
                bounceable: ask.bounceable,
                returned: false,
                reason: spills,
            };
        }
        Self::stay(home, false, true, Reason::Exhausted)
    }

    /// Learns from an answer.
    pub fn on_answer(&mut self, answer: Answer, now: u64) {
        if answer.not_repeated {
            self.refrain_until = now.saturating_add(NOT_REPEATED);
        }
        if let Some((from, rho, attempt)) = answer.load {
            if let Some(side) = from.and_then(|place| self.sides.get_mut(place)) {
                side.rho = rho;
                side.feedback = now;
                side.closed_for = 0;
            }
            if attempt > UPDATE_FREQUENCY {
                self.moved_on(answer.target, from, now);
            }
        }
        let lost = answer.load.is_none() && answer.server_error;
        let Some(side) = self.sides.get_mut(answer.target) else {
            return;
        };
        if answer.target > 0 {
            if lost || answer.strayed {
                side.close(now);
            } else if answer.load.is_none() {
                side.closed_for = 0; // A rung without a gate: this is its sign of life.
            }
        } else if answer.load.is_none() && !answer.server_error && !answer.bounceable {
            // It cannot have been served elsewhere, and home had nothing to tell: there is room.
            side.rho = 0;
            side.feedback = now;
        }
    }

    /// A request was bounced by a whole cluster and served by another: that one is full, whatever
    /// was heard of it.
    fn moved_on(&mut self, target: usize, from: Option<usize>, now: u64) {
        let full = match (target, from) {
            (0, Some(0)) => 1, // home again: the rung after it was tried in between
            (0, _) => return,
            (rung, _) => rung,
        };
        if from == Some(full) {
            return;
        }
        if let Some(side) = self.sides.get_mut(full)
            && now.saturating_sub(side.feedback) > FULL_AGAIN
        {
            side.rho = side.rho.saturating_mul(2).clamp(4_000, 64_000);
            side.feedback = now;
        }
    }

    fn stay(home: &mut Side, bounceable: bool, returned: bool, reason: Reason) -> Decision {
        let echo = core::mem::take(&mut home.echo);
        Decision {
            rung: None,
            echo,
            bounceable,
            returned,
            reason,
        }
    }
}
