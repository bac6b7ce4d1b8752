//! The caller's side, in one thread: what came to the endpoints of home, and the epoch.

use alloc::vec::Vec;

use crate::rate::SECOND;

use super::epoch::{Epoch, News, since};
use super::{Limits, TRICKLE};

/// Endpoints that are remembered. With more of them the one that was seen first makes room, and
/// changes are found a little later.
const MOST_ENDPOINTS: usize = 64;
/// What was heard of an endpoint is forgotten after this, ns …
const FORGET: u64 = 30 * SECOND;
/// … and its clock cannot have gone further meanwhile, ms; what is told otherwise is no news.
const FORGET_MILLI: u32 = 31_000;
/// While switched, home hears of a caller this often as far as it has room, ns.
const TRICKLE_EVERY: u64 = SECOND;

/// What was last heard of an endpoint.
#[derive(Clone, Copy, Debug)]
struct Visit {
    endpoint: u32,
    total: u32,
    time: u32,
    heard: u64,
}

/// A policy's state in one thread. Sums are in millionths of a request.
#[derive(Clone, Debug)]
pub struct Watch {
    epoch: Epoch,
    up: u64,
    down: u64,
    visits: Vec<Visit>,
    /// The last request to home, ns.
    home: u64,
    /// Requests elsewhere since then.
    away: u32,
    /// Of how many requests one may come home, by what was last heard.
    one_in: u32,
}

impl Watch {
    /// Begins with an epoch that other threads, or this one before a restart, have known.
    #[must_use]
    pub const fn new(epoch: Epoch, now: u64) -> Self {
        Self {
            epoch,
            up: 0,
            down: 0,
            visits: Vec::new(),
            home: now,
            away: 0,
            one_in: 1,
        }
    }

    /// The epoch that requests carry.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the next request leaves; while switched, some do not.
    #[must_use]
    pub const fn leaves(&self, now: u64) -> bool {
        let number = self.away.saturating_add(1);
        let silent = now.saturating_sub(self.home);
        let due = silent >= FORGET || (silent >= TRICKLE_EVERY && number >= self.one_in);
        self.epoch.switched() && number < TRICKLE && !due
    }

    /// A request was sent home, or elsewhere.
    pub const fn on_sent(&mut self, home: bool, now: u64) {
        if home {
            self.home = now;
            self.away = 0;
        } else {
            self.away = self.away.saturating_add(1);
        }
    }

    /// Takes over an epoch, if it is newer. A change begins anew: what was summed up led to it, and
    /// while callers begin or cease to hold requests back the totals are behind, or catch up.
    pub fn follow(&mut self, epoch: Epoch) {
        if epoch.ahead_of(self.epoch) == 0 {
            return;
        }
        if epoch.switched() != self.epoch.switched() {
            self.up = 0;
            self.down = 0;
            self.visits.clear();
        }
        self.epoch = epoch;
    }

    /// Learns from an answer of home. `now`: this caller's clock.
    pub fn on_news(&mut self, limits: &Limits, news: &News, now: u64) {
        self.follow(news.epoch);
        self.one_in = limits.one_in(news.demand);
        let Some((came, milli)) = self.visit(news, now) else {
            return;
        };
        let came = u64::from(came).saturating_mul(1_000_000);
        // Thousandths a second and thousandths of a second: millionths.
        let at = |rate_milli: u64| {
            rate_milli.saturating_mul(u64::from(milli)) / u64::from(limits.endpoints.get())
        };
        // Beyond the threshold nothing is learnt; the bound keeps the sums from running away.
        let most = limits.threshold().saturating_add(1);
        self.up = self
            .up
            .saturating_add(came)
            .saturating_sub(at(limits.service.enter_milli))
            .min(most);
        self.down = self
            .down
            .saturating_add(at(limits.service.leave_milli))
            .saturating_sub(came)
            .min(most);
        let sum = if self.epoch.switched() {
            self.down
        } else {
            self.up
        };
        if sum >= most {
            self.follow(self.epoch.next());
        }
    }

    /// Requests and milliseconds since the last visit of this endpoint; `None` for the first, and
    /// for what is older than what is known.
    fn visit(&mut self, news: &News, now: u64) -> Option<(u32, u32)> {
        let visit = Visit {
            endpoint: news.endpoint,
            total: news.total,
            time: news.time,
            heard: now,
        };
        let known = self
            .visits
            .iter_mut()
            .find(|known| known.endpoint == news.endpoint);
        let Some(known) = known else {
            self.remember(visit);
            return None;
        };
        let fresh = now.saturating_sub(known.heard) <= FORGET;
        let milli = since(news.time, known.time);
        if fresh && since(known.time, news.time) < FORGET_MILLI {
            return None; // An answer that was overtaken, or another thread's last tick.
        }
        let last = core::mem::replace(known, visit);
        (fresh && milli < FORGET_MILLI).then(|| (since(news.total, last.total), milli))
    }

    fn remember(&mut self, visit: Visit) {
        self.visits
            .retain(|known| visit.heard.saturating_sub(known.heard) <= FORGET);
        if self.visits.len() < MOST_ENDPOINTS {
            self.visits.push(visit);
        } else if let Some(oldest) = self.visits.iter_mut().min_by_key(|known| known.heard) {
            *oldest = visit;
        }
    }
}
