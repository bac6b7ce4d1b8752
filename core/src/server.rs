//! The server's side of one policy, in one thread: what a request is, and what it counts.
//!
//! With k the attempt of Envoy, believed only when the token is right:
//!
//! | where | class | echo counted | may be bounced while |
//! |---|---|---|---|
//! | own = home | own | N if k = 1 and target = own, else 0 | k ≤ 2 |
//! | own ≠ home | overflow | N if k = 1 and target = own; 1 if k = 3; else 0 | k ≤ 4 |
//! | no valid header | own | 1 | never, and no load goes back |
//!
//! Own traffic that comes after its two attempts at home is served, as nobody can take it back: one
//! rung turned it away, and Envoy, which tries all other clusters alike, brought it home. It fills
//! the gate as all own traffic does that cannot leave, so that home serves its limit and no more:
//! others make room, and these have the whole ladder before them. What a caller sends home because
//! all else is full (flag `h`) takes no room: who made it would come back as well. Where the policy
//! sheds, both are shed.
//!
//! Counting on retries is what keeps ρ true: without it each bounced request would be counted by
//! every endpoint that it visits.

use crate::caller::STALE;
use crate::gate::{Ask, Class, Verdict};
use crate::header::Hop;
use crate::load::{Counts, Sums};
use crate::{ATTEMPTS, UPDATE_FREQUENCY};

/// Below this load no header goes back, thousandths: a caller that hears nothing sends all home,
/// as it does up to 1.02. Callers that have heard of more hear of the fall too: the header goes on
/// for as long as they believe what they heard ([`STALE`]).
pub const RHO_WORTH_SENDING: u32 = 800;

/// A request, classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the gate is asked.
    pub ask: Ask,
    /// It came with a valid header, so the answer may carry the load.
    pub known: bool,
    /// The caller's side is in Shadow: the verdict is counted and not carried out.
    pub shadow: bool,
    /// Envoy's count of attempts, from 1.
    pub attempt: u32,
}

/// A policy's counts in one thread.
#[derive(Clone, Debug, Default)]
pub struct Server {
    counts: Counts,
    own: Credit,
    overflow: Credit,
    /// Home's load is worth a header, until this time, ns.
    worth_until: u64,
    worth: bool,
}

/// How many claims as large as the load one request may make at most. Honest claims vary: where no
/// more than four were credited, the load was told 6 % too low at five times the limit, and one
/// bounce in six came from that.
const CREDIT: u64 = 16;

/// What a caller may claim for a class. Claims beyond what the load explains are cut, so that a
/// caller that forges N costs the others little: at most 3 % of the throughput, where a mere clamp
/// cost 20 to 85 % in the study.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    rho: u32,
    /// Thousandths of a request.
    left: u64,
}

impl Credit {
    fn take(&mut self, echo: u32) -> u64 {
        let rho = u64::from(self.rho);
        let cap = rho.max(1_000).saturating_add(1_000).saturating_mul(CREDIT);
        self.left = self.left.saturating_add(rho.max(1_100)).min(cap);
        // Whole requests are counted; what is left of one stays, or each claim that is cut would
        // lose it, and the load would be told too low.
        let taken = u64::from(echo.max(1)).min(self.left / 1_000);
        self.left -= taken * 1_000;
        taken
    }
}

impl Server {
    /// Classifies a request and counts its demand. `hop`: the header, when its token and policy
    /// are right; `attempt`: Envoy's count; `own`: this cluster; `shed`: the policy sheds.
    pub fn on_request(
        &mut self,
        hop: Option<&Hop<'_>>,
        attempt: u32,
        own: &str,
        shed: bool,
    ) -> Request {
        let Some(hop) = hop else {
            self.counts.own = self.counts.own.saturating_add(1);
            let ask = Ask {
                class: Class::Own,
                bounceable: false,
                returned: false,
                shed,
            };
            return Request {
                ask,
                known: false,
                shadow: false,
                attempt,
            };
        };
        let class = if hop.home == own {
            Class::Own
        } else {
            Class::Overflow
        };
        let own_traffic = class == Class::Own;
        let counted = if attempt == 1 && hop.target == own {
            let credit = if own_traffic {
                &mut self.own
            } else {
                &mut self.overflow
            };
            credit.take(hop.echo)
        } else {
            u64::from(!own_traffic && attempt == UPDATE_FREQUENCY + 1)
        };
        let sum = if own_traffic {
            &mut self.counts.own
        } else {
            &mut self.counts.overflow
        };
        *sum = sum.saturating_add(counted);
        let returned = own_traffic && (hop.flags.returned || (shed && attempt > UPDATE_FREQUENCY));
        let attempts = if own_traffic {
            UPDATE_FREQUENCY
        } else {
            ATTEMPTS
        };
        let ask = Ask {
            class,
            // What came home again is not sent away, even where a caller offers it.
            bounceable: hop.flags.bounceable && attempt <= attempts && !returned,
            returned,
            shed,
        };
        Request {
            ask,
            known: true,
            shadow: hop.flags.shadow,
            attempt,
        }
    }

    /// Counts what the gate said.
    pub fn on_verdict(&mut self, verdict: Verdict) {
        if verdict.serves() {
            self.counts.admitted = self.counts.admitted.saturating_add(1);
        }
    }

    /// The load to send back, thousandths; `None` when it is not worth a header.
    #[must_use]
    pub fn rho_for(&self, request: &Request) -> Option<u32> {
        let rho = match request.ask.class {
            Class::Own => self.own.rho,
            Class::Overflow => self.overflow.rho,
        };
        let worth = self.worth || request.attempt > 1 || request.ask.class == Class::Overflow;
        (request.known && worth).then_some(rho)
    }

    /// Hands over what was counted since the last call, for [`Sums::tick`].
    pub fn drain(&mut self) -> Counts {
        core::mem::take(&mut self.counts)
    }

    /// Drops what is known: without a capacity there is no load, and what was counted meanwhile
    /// is no demand of the moment in which one comes. True where a load was told until now.
    pub fn forget(&mut self) -> bool {
        let told = self.own.rho > 0 || self.overflow.rho > 0;
        *self = Self::default();
        told
    }

    /// Puts counts back that could not be handed over.
    pub fn restore(&mut self, counts: Counts) {
        self.counts.own = self.counts.own.saturating_add(counts.own);
        self.counts.overflow = self.counts.overflow.saturating_add(counts.overflow);
        self.counts.admitted = self.counts.admitted.saturating_add(counts.admitted);
    }

    /// Takes the load from the shared sums at `now`.
    pub fn on_sums(&mut self, sums: &Sums, now: u64) {
        self.own.rho = sums.rho(Class::Own);
        self.overflow.rho = sums.rho(Class::Overflow);
        if self.own.rho >= RHO_WORTH_SENDING {
            self.worth_until = now.saturating_add(STALE);
        }
        self.worth = now < self.worth_until;
    }
}
