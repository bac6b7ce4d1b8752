//! How large the whole demand is: the sums behind ρ.
//!
//! Every thread of an endpoint adds what it counted to one shared record at each tick; whoever
//! finds it old enough folds the counts into exponentially weighted rates. ρ does not depend on
//! how much the callers divert, since the echoes count what they diverted: there is no loop to
//! tune.

use crate::fixed::{decay, exp_neg};
use crate::gate::Class;
use crate::rate::{Capacity, SECOND};
use crate::record::{Reader, Record, Writer};

/// ρ is not told above this, thousandths.
pub const MAX_RHO: u32 = 1_000_000;

/// Sums are folded when they are at least this old, ns: ticks come each 100 ms from every thread.
pub(crate) const FOLD_AFTER: u64 = 80_000_000;

/// What a thread counted since its last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Own demand, requests (echoes included).
    pub own: u64,
    /// Overflow demand, requests.
    pub overflow: u64,
    /// Requests admitted or forced.
    pub admitted: u64,
}

/// The shared record. Rates are in millionths of a request a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    since: u64,
    pending: Counts,
    own: u64,
    overflow: u64,
    admitted: u64,
    in_flight: u64,
    rho_own: u32,
    rho_overflow: u32,
}

impl Sums {
    /// Adds a thread's counts, and folds if it is time. `in_flight`: the gate's count now.
    #[must_use]
    pub fn tick(mut self, capacity: &Capacity, now: u64, counts: Counts, in_flight: u32) -> Self {
        self.pending.own = self.pending.own.saturating_add(counts.own);
        self.pending.overflow = self.pending.overflow.saturating_add(counts.overflow);
        self.pending.admitted = self.pending.admitted.saturating_add(counts.admitted);
        if self.since == 0 || self.since.saturating_sub(now) > SECOND {
            self.since = now; // The first tick, or a record of another clock.
            return self;
        }
        let dt = now.saturating_sub(self.since);
        if dt < FOLD_AFTER {
            return self;
        }
        let e = exp_neg(dt, capacity.tau());
        let pending = core::mem::take(&mut self.pending);
        self.own = decay(self.own, micro_rate(pending.own, dt), e);
        self.overflow = decay(self.overflow, micro_rate(pending.overflow, dt), e);
        self.admitted = decay(self.admitted, micro_rate(pending.admitted, dt), e);
        self.in_flight = decay(self.in_flight, u64::from(in_flight) * 1_000_000, e);
        self.since = now;
        let serves = self.serves(capacity).max(1);
        self.rho_own = milli_ratio(self.own, serves);
        let room = serves.saturating_sub(self.own).max(serves / 50).max(1);
        self.rho_overflow = milli_ratio(self.overflow, room);
        self
    }

    /// The load that a class finds, thousandths.
    #[must_use]
    pub const fn rho(&self, class: Class) -> u32 {
        match class {
            Class::Own => self.rho_own,
            Class::Overflow => self.rho_overflow,
        }
    }

    /// Demand of both classes, thousandths of a request a second.
    #[must_use]
    pub const fn demand_milli(&self) -> u64 {
        self.own.saturating_add(self.overflow) / 1_000
    }

    /// What the endpoint can serve, millionths of a request a second: its rate, or what its
    /// concurrency is worth at the service time of now by Little's law, whichever is less.
    fn serves(&self, capacity: &Capacity) -> u64 {
        let rate = capacity.rate.map_or(u64::MAX, |r| {
            SECOND.saturating_mul(1_000_000) / r.interval.max(1)
        });
        let Some(limit) = capacity.concurrency else {
            return rate;
        };
        if self.in_flight == 0 {
            return rate;
        }
        // Half a request in a time constant, so that an endpoint that answers nothing has a
        // capacity near zero and not one of zero.
        let floor = SECOND.saturating_mul(500_000) / capacity.tau().max(1);
        let admitted = u128::from(self.admitted.max(floor));
        let little = u128::from(limit.get()) * admitted * 1_000_000 / u128::from(self.in_flight);
        rate.min(u64::try_from(little).unwrap_or(u64::MAX))
    }
}

pub(crate) fn micro_rate(count: u64, dt: u64) -> u64 {
    let rate = u128::from(count) * 1_000_000 * u128::from(SECOND) / u128::from(dt.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn milli_ratio(num: u64, den: u64) -> u32 {
    let ratio = u128::from(num) * 1_000 / u128::from(den.max(1));
    u32::try_from(ratio).unwrap_or(MAX_RHO).min(MAX_RHO)
}

impl Record for Sums {
    const KIND: u8 = b'l';
    const SIZE: usize = 2 + 8 * 8 + 4 * 2;

    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.since);
        to.u64(self.pending.own);
        to.u64(self.pending.overflow);
        to.u64(self.pending.admitted);
        to.u64(self.own);
        to.u64(self.overflow);
        to.u64(self.admitted);
        to.u64(self.in_flight);
        to.u32(self.rho_own);
        to.u32(self.rho_overflow);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            since: from.u64()?,
            pending: Counts {
                own: from.u64()?,
                overflow: from.u64()?,
                admitted: from.u64()?,
            },
            own: from.u64()?,
            overflow: from.u64()?,
            admitted: from.u64()?,
            in_flight: from.u64()?,
            rho_own: from.u32()?.min(MAX_RHO),
            rho_overflow: from.u32()?.min(MAX_RHO),
        })
    }
}
