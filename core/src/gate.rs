//! The gate of one endpoint: a GCRA for the rate, a counter for the concurrency, two classes.
//!
//! The state is a value ([`Gate`]) that worker threads exchange by compare-and-swap; a decision is
//! a function from state, time and question to state and verdict, so any interleaving of threads
//! is some order of decisions, and the bounds "bounceable admissions in a window W ≤ c·W + B" and
//! "no bounceable admission while L are in flight" hold for all of them.
//!
//! A request is in flight from its verdict to the end of its stream, however that ends. What a
//! thread could not tell the others (it lost every swap) it keeps, and tells with its next word
//! ([`Gate::settle`]): a count that is lost would lower or raise L for ever.
//!
//! Overflow from other clusters yields to own traffic (trunk reservation): it is admitted only
//! while the backlog of both together is below half of the tolerance. Without this, two clusters
//! that are both over their limit swap traffic for nothing.

use crate::rate::{Capacity, RateLimit, SECOND};
use crate::record::{Reader, Record, Writer};

/// Own traffic of a cluster, or overflow from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Requests whose home is this cluster, and callers without the filter.
    Own,
    /// Requests that spilled here.
    Overflow,
}

/// A request as the gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its class.
    pub class: Class,
    /// It may be sent elsewhere: it offered so, and attempts are left.
    pub bounceable: bool,
    /// It came home because all else is full, as its caller knows; where the policy sheds, also as
    /// another cluster has turned it away.
    pub returned: bool,
    /// The policy sheds what comes home and does not fit (`onExhausted: Shed`).
    pub shed: bool,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Served, and within the limit.
    Admit,
    /// Served although the limit is reached, since it cannot go elsewhere.
    Force,
    /// Answered with 429 and the bounce header: repeat it elsewhere.
    Bounce,
    /// Answered with 503: nobody has room, and the policy prefers that to overload.
    Shed,
}

impl Verdict {
    /// The application sees the request.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Admit | Self::Force)
    }
}

/// State of the gate, shared by the threads of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Theoretical arrival time of own and overflow traffic, ns.
    pub tat: u64,
    /// The same with returns that are not shed, which count against overflow only: nobody else
    /// could make room for them, since all is full.
    pub all: u64,
    /// Requests being served; kept only where the concurrency is limited.
    pub in_flight: u32,
}

impl Gate {
    /// Decides on one request at `now` and gives the state after it. After [`Verdict::Bounce`] and
    /// [`Verdict::Shed`] the state is unchanged and need not be stored.
    #[must_use]
    pub fn decide(self, capacity: &Capacity, now: u64, ask: Ask) -> (Self, Verdict) {
        let own = ask.class == Class::Own;
        let fits = capacity.rate.is_none_or(|r| self.rate_fits(&r, now, own))
            && capacity.concurrency.is_none_or(|limit| {
                let limit = if own {
                    limit.get()
                } else {
                    (limit.get() / 2).max(1)
                };
                self.in_flight < limit
            });
        if !fits && ask.bounceable {
            return (self, Verdict::Bounce);
        }
        if !fits && ask.returned && ask.shed {
            return (self, Verdict::Shed);
        }
        let forced_return = ask.returned && !ask.shed;
        let mut next = self;
        if let Some(rate) = capacity.rate {
            let most = if fits || !own || ask.returned {
                rate.full()
            } else {
                most(&rate)
            };
            next.all = charge(self.all, &rate, now, most);
            if !forced_return {
                next.tat = charge(self.tat, &rate, now, most);
            }
        }
        if capacity.concurrency.is_some() {
            next.in_flight = self.in_flight.saturating_add(1);
        }
        (next, if fits { Verdict::Admit } else { Verdict::Force })
    }

    /// Requests that were admitted or forced have ended.
    #[must_use]
    pub fn release(self, requests: u32) -> Self {
        Self {
            in_flight: self.in_flight.saturating_sub(requests),
            ..self
        }
    }

    /// The same for requests that began (above zero) or ended (below) without being told.
    #[must_use]
    pub fn settle(self, untold: i32) -> Self {
        Self {
            in_flight: self.in_flight.saturating_add_signed(untold),
            ..self
        }
    }

    fn rate_fits(&self, rate: &RateLimit, now: u64, own: bool) -> bool {
        if own {
            backlog(self.tat, rate, now) <= rate.limit
        } else {
            backlog(self.tat.max(self.all), rate, now) <= rate.limit / 2
        }
    }
}

/// How far own requests that cannot leave fill the gate, ns: twice what others find. Were it no
/// more, such a request would displace nobody at a full gate, and all would be served on top of
/// the limit: home served 1.13 C where callers without the filter made a third of the demand.
const fn most(rate: &RateLimit) -> u64 {
    rate.full().saturating_mul(2)
}

/// The arrival time after one more request; never beyond `most`, and never earlier than before
/// when another thread's clock reading is ahead of ours.
fn charge(time: u64, rate: &RateLimit, now: u64, most: u64) -> u64 {
    let ahead = backlog(time, rate, now);
    now.saturating_add(ahead.saturating_add(rate.interval).min(most.max(ahead)))
}

/// How far a theoretical arrival time lies ahead, ns.
///
/// No state of this gate lies further ahead than 2 B/c. What does is foreign (a clock that ran
/// ahead, a limit that was much lower until now) and counts as empty, lest it closes the gate for
/// as long. The slack is for threads whose clock readings have overtaken each other.
fn backlog(time: u64, rate: &RateLimit, now: u64) -> u64 {
    const SLACK: u64 = SECOND;
    let ahead = time.saturating_sub(now);
    if ahead > most(rate).saturating_add(SLACK) {
        0
    } else {
        ahead
    }
}

impl Record for Gate {
    const KIND: u8 = b'g';
    const SIZE: usize = 2 + 8 + 8 + 4;

    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.tat);
        to.u64(self.all);
        to.u32(self.in_flight);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            tat: from.u64()?,
            all: from.u64()?,
            in_flight: from.u32()?,
        })
    }
}
