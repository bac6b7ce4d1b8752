//! The endpoint's side: the running total, and which epochs are believed.
//!
//! A thread counts, and keeps the newest epoch of each state that requests brought; at each tick
//! both go into the record that the endpoint's threads share, so that a request costs no crossing.
//!
//! An epoch is believed only if the endpoint's own demand agrees: switched from .9 × leave on; home up
//! to 1.1 × enter, over the last while, since requests come in lumps of up to twenty while switched.
//! So well above the limits nobody can talk an endpoint into going home, and below them nobody into
//! leaving. In between both states are right, and the demand of a moment lies there by chance: a liar
//! could change the state with every request. So an epoch is followed for nothing only where the
//! demand of the last while denies the other state. Any other is paid for: four at once, and then one
//! a minute. That holds for epochs that change nothing here, too: with two
//! endpoints in different states, each next epoch changes nothing at one of them, and callers would
//! follow each in turn.

use crate::fixed::{decay, exp_neg};
use crate::header::Hop;
use crate::load::{FOLD_AFTER, micro_rate};
use crate::rate::SECOND;
use crate::record::{Reader, Record, Writer};

use super::epoch::{Epoch, News, around};
use super::{Limits, TRICKLE};

/// Where the last while does not deny the other state, one epoch is followed in this time, ns …
const CONTESTED: u64 = 60 * SECOND;
/// … and so many at once.
const CONTESTED_AT_ONCE: u64 = 4;

/// The last while, in time constants of the demand: long enough that chance does not reach from one
/// end of the limits to the other …
const WHILE: u64 = 6;
/// … and at least this, ns: where time constants are short, the lumps of switched callers are not.
const LEAST_WHILE: u64 = 10 * SECOND;

/// The shared record of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// 0: nothing was counted yet.
    id: u32,
    total: u64,
    /// When that was, ns.
    time: u64,
    /// Counted since the last fold, at `folded`.
    pending: u64,
    folded: u64,
    /// Millionths of a request a second: now, and over the last while.
    demand: u64,
    usual: u64,
    epoch: Epoch,
    /// Until when contested epochs are paid for, ns: a GCRA.
    contested: u64,
}

/// What a thread saw since its last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    count: u64,
    /// The newest epochs: home, switched.
    newest: [Option<Epoch>; 2],
}

impl Totals {
    /// Adds what a thread saw up to `now`. `seed`: gives a number that differs by endpoint and start.
    #[must_use]
    pub fn tick(
        mut self,
        limits: &Limits,
        now: u64,
        seed: impl FnOnce() -> u64,
        seen: &Seen,
    ) -> Self {
        if self.id == 0 || self.time.saturating_sub(now) > SECOND {
            // The first tick, or a record of another clock: callers start anew with it.
            self = Self {
                id: around(seed()).max(1),
                time: now,
                folded: now,
                epoch: self.epoch,
                ..Self::default()
            };
        }
        self.total = self.total.wrapping_add(seen.count);
        self.pending = self.pending.saturating_add(seen.count);
        self.time = self.time.max(now);
        let dt = now.saturating_sub(self.folded);
        if dt >= FOLD_AFTER {
            let rate = micro_rate(core::mem::take(&mut self.pending), dt);
            let tau = tau(limits);
            self.demand = decay(self.demand, rate, exp_neg(dt, tau));
            let a_while = tau.saturating_mul(WHILE).max(LEAST_WHILE);
            self.usual = decay(self.usual, rate, exp_neg(dt, a_while));
            self.folded = now;
        }
        for epoch in seen.newest.into_iter().flatten() {
            self.follow(limits, now, epoch);
        }
        self
    }

    fn follow(&mut self, limits: &Limits, now: u64, newer: Epoch) {
        let most = limits.at_endpoint(limits.service.enter_milli) / 10 * 11;
        let least = limits.at_endpoint(limits.service.leave_milli) / 10 * 9;
        let (agrees, free) = if newer.switched() {
            (self.demand >= least, self.usual > most)
        } else {
            (self.usual <= most, self.usual < least)
        };
        if newer.ahead_of(self.epoch) == 0 || !agrees {
            return;
        }
        if !free {
            // More than was ever paid is of another clock, and counts for nothing.
            let ahead = self.contested.saturating_sub(now);
            let paid = if ahead > CONTESTED_AT_ONCE * CONTESTED {
                0
            } else {
                ahead
            };
            if paid > (CONTESTED_AT_ONCE - 1) * CONTESTED {
                return;
            }
            self.contested = now.saturating_add(paid).saturating_add(CONTESTED);
        }
        self.epoch = self.epoch.toward(newer);
    }

    /// Demand, thousandths of a request a second.
    #[must_use]
    pub const fn demand_milli(&self) -> u64 {
        self.demand / 1_000
    }

    /// The epoch that the endpoint believes.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Time constant of an endpoint's demand, ns: max(0.3 s, 20 requests at `enter`), as that of its
/// load.
fn tau(limits: &Limits) -> u64 {
    let enter = limits.at_endpoint(limits.service.enter_milli).max(1);
    (SECOND.saturating_mul(20_000_000) / enter).max(SECOND * 3 / 10)
}

/// An endpoint's side of one policy, in one thread.
#[derive(Clone, Debug, Default)]
pub struct Home {
    seen: Seen,
    totals: Totals,
}

impl Home {
    /// Counts a request, and gives what its answer is to tell. `hop` and `attempt` as in
    /// [`crate::server::Server::on_request`]; `epoch`: behind the header. No request is believed to
    /// stand for more than [`TRICKLE`].
    pub fn on_request(
        &mut self,
        hop: Option<&Hop<'_>>,
        epoch: Option<Epoch>,
        attempt: u32,
        own: &str,
    ) -> Option<News> {
        let Some(hop) = hop else {
            self.seen.count = self.seen.count.saturating_add(1);
            return None;
        };
        if hop.home != own {
            return None;
        }
        if attempt == 1 && hop.target == own {
            let counted = u64::from(hop.echo.clamp(1, TRICKLE));
            self.seen.count = self.seen.count.saturating_add(counted);
        }
        let epoch = epoch?;
        self.see(epoch);
        (self.totals.id > 0).then_some(News {
            endpoint: self.totals.id,
            total: around(self.totals.total),
            time: around(self.totals.time / (SECOND / 1_000)),
            demand: u32::try_from(self.totals.demand_milli()).unwrap_or(u32::MAX),
            epoch: self.totals.epoch,
        })
    }

    fn see(&mut self, epoch: Epoch) {
        let known = self.totals.epoch;
        let [home, switched] = &mut self.seen.newest;
        let newest = if epoch.switched() { switched } else { home };
        if epoch.ahead_of(known) > newest.map_or(0, |newest| newest.ahead_of(known)) {
            *newest = Some(epoch);
        }
    }

    /// Hands over what was seen since the last call, for [`Totals::tick`].
    pub fn drain(&mut self) -> Seen {
        core::mem::take(&mut self.seen)
    }

    /// Puts back what could not be handed over.
    pub fn restore(&mut self, seen: &Seen) {
        self.seen.count = self.seen.count.saturating_add(seen.count);
        for epoch in seen.newest.into_iter().flatten() {
            self.see(epoch);
        }
    }

    /// Takes the shared record, after a tick.
    pub const fn on_totals(&mut self, totals: Totals) {
        self.totals = totals;
    }
}

impl Record for Totals {
    const KIND: u8 = b't';
    const SIZE: usize = 2 + 8 * 7 + 4 * 2;

    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.total);
        to.u64(self.time);
        to.u64(self.pending);
        to.u64(self.folded);
        to.u64(self.demand);
        to.u64(self.usual);
        to.u64(self.contested);
        to.u32(self.id);
        self.epoch.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            total: from.u64()?,
            time: from.u64()?,
            pending: from.u64()?,
            folded: from.u64()?,
            demand: from.u64()?,
            usual: from.u64()?,
            contested: from.u64()?,
            id: from.u32()?,
            epoch: Epoch::read(from)?,
        })
    }
}
