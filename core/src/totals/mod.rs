//! Switch mode where callers share the limits: all or nothing by the rate of the whole service.
//!
//! No caller sees the whole rate, and no endpoint does. An endpoint's load is too noisy to switch
//! by, and endpoints that each decided for themselves would disagree. So each endpoint of home keeps
//! a *running total* of what was asked for (the echoes count what went elsewhere) and tells it with
//! every answer, beside its clock. A caller that comes back to an endpoint learns what came there
//! from all callers meanwhile, and feeds the two sums of [`crate::switch`] with it; a feedback that
//! is lost costs time and no requests.
//!
//! Whoever's sum crosses the threshold counts the policy's *epoch* up by one. Epochs travel with
//! requests to the endpoints and with answers to everybody else; newer ones win. An epoch's
//! parity is the state (odd: switched), so that callers who cross at once agree.
//!
//! While switched, a caller sends every twentieth request home, and one a second where home has room
//! for that: the totals need its echo, and the caller the news.
//!
//! Requests are what workloads say they are, so endpoints do not believe all. `docs/design`
//! (0004) tells what a caller that lies can do, and what it cannot.
//!
//! * [`home`]: the endpoint's side. * [`watch`]: the caller's. * [`epoch`]: what they exchange.

pub mod epoch;
pub mod home;
pub mod watch;

use core::num::NonZeroU32;

use crate::switch;

/// A request home out of so many, while switched; so no echo is larger.
pub const TRICKLE: u32 = 20;

/// The limits of a policy, shared by all callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the whole service.
    pub service: switch::Limits,
    /// Endpoints that the service has at home (M): each sees its part of the rate.
    pub endpoints: NonZeroU32,
}

impl Limits {
    /// The threshold Bs = max(20, 1.33 s × enter), millionths of a request: an endpoint at a time,
    /// news are coarser than a caller's own count, and the sums need more room.
    fn threshold(&self) -> u64 {
        self.service
            .enter_milli
            .saturating_mul(1_330)
            .max(20_000_000)
    }

    /// Of how many requests one may come home, at this demand of one endpoint (thousandths of a
    /// request a second): no more than `leave` in all, which home can serve. With a request a second
    /// from each, many slow callers would all stay.
    fn one_in(&self, demand_milli: u32) -> u32 {
        let demand = u64::from(demand_milli).saturating_mul(u64::from(self.endpoints.get()));
        let one_in = demand.div_ceil(self.service.leave_milli.max(1));
        u32::try_from(one_in).unwrap_or(TRICKLE).clamp(1, TRICKLE)
    }

    /// A rate of the service at one endpoint, millionths of a request a second.
    fn at_endpoint(&self, milli: u64) -> u64 {
        milli.saturating_mul(1_000) / u64::from(self.endpoints.get())
    }
}
