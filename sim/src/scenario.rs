//! What is simulated: clusters, callers, a network, and what changes on the way. Times are seconds
//! from the beginning, rates are requests a second.

use std::num::NonZeroU32;

use spillway_core::config::Mode;
use spillway_core::rate::{Capacity, DELIVERY, Rate, RateLimit, Unit};

use crate::demand::{Bursts, Demand};

/// A simulation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How long requests come.
    pub length: f64,
    /// What is reported begins here.
    pub from: f64,
    /// When the demand changes: what settles, settles from here on.
    pub step: Option<f64>,
    /// The clusters. The first is the one whose limit is judged.
    pub clusters: Vec<Cluster>,
    /// The callers, by groups of their kind.
    pub callers: Vec<Callers>,
    /// What changes, in any order.
    pub changes: Vec<(f64, Change)>,
    /// The network.
    pub network: Network,
    /// Who decides.
    pub scheme: Scheme,
    /// Spill or Switch.
    pub mode: Mode,
    /// The policy sheds what fits nowhere.
    pub shed: bool,
    /// How long it takes until sidecars know of another number of endpoints.
    pub notice: f64,
    /// Where the randomness begins.
    pub seed: u64,
}

impl Scenario {
    /// Clusters and callers, and for the rest what is usual.
    #[must_use]
    pub fn new(clusters: Vec<Cluster>, callers: Vec<Callers>) -> Self {
        Self {
            length: 20.0,
            from: 5.0,
            step: None,
            clusters,
            callers,
            changes: Vec::new(),
            network: Network::default(),
            scheme: Scheme::Spillway,
            mode: Mode::Spill,
            shed: false,
            notice: 2.0,
            seed: 1,
        }
    }
}

/// Who decides which requests leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scheme {
    /// The decisions that ship.
    Spillway,
    /// Each caller has an equal part of the limit, for ever.
    Split,
    /// A controller gives each caller a part of the limit by its demand, in this interval (s).
    Controller(f64),
    /// A process that looks at Prometheus, and sends all or nothing ([`crate::watcher`]).
    Watcher {
        /// Above this rate all leaves.
        enter: f64,
        /// Below this rate all comes back.
        leave: f64,
    },
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many endpoints it has.
    pub endpoints: usize,
    /// What the policy says that it serves; `None`: it has no gate.
    pub limit: Option<Limit>,
    /// What it takes to serve a request.
    pub service: Service,
    /// Callers of other clusters reach it through a gateway.
    pub gateway: Option<Gateway>,
    /// Who changes the number of its endpoints.
    pub autoscaler: Option<Autoscaler>,
}

impl Cluster {
    /// Endpoints that answer after 10 ms, however many requests there are, within a limit.
    #[must_use]
    pub fn new(endpoints: usize, limit: Option<Limit>) -> Self {
        Self {
            endpoints,
            limit,
            service: Service {
                takes: Takes::Fixed(0.01),
                places: None,
            },
            gateway: None,
            autoscaler: None,
        }
    }
}

/// A capacity as a policy writes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The amounts are those of each endpoint; otherwise of all together.
    pub each: bool,
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Requests in flight.
    pub concurrency: Option<NonZeroU32>,
    /// The burst tolerance B of an endpoint, requests; otherwise the one that ships.
    pub tolerance: Option<f64>,
}

impl Limit {
    /// So many requests a second by all endpoints together.
    #[must_use]
    pub fn total(per_second: u32) -> Self {
        Self {
            each: false,
            rate: Rate::new(per_second, Unit::Second),
            concurrency: None,
            tolerance: None,
        }
    }

    /// So many requests at once at each endpoint.
    #[must_use]
    pub fn at_once(requests: u32) -> Self {
        Self {
            each: true,
            rate: None,
            concurrency: NonZeroU32::new(requests),
            tolerance: None,
        }
    }

    /// The capacity of one of so many endpoints.
    #[must_use]
    pub fn capacity(&self, endpoints: usize) -> Capacity {
        let m = u32::try_from(endpoints).ok().and_then(NonZeroU32::new);
        let m = m.unwrap_or(NonZeroU32::MIN);
        let capacity = if self.each {
            Capacity::of_each(self.rate, self.concurrency, m)
        } else {
            Capacity::of_total(self.rate, self.concurrency, m)
        };
        match (self.tolerance, capacity.rate) {
            (Some(tolerance), Some(rate)) => Capacity {
                rate: Some(tolerant(rate.interval, tolerance)),
                ..capacity
            },
            _ => capacity,
        }
    }

    /// What all endpoints serve together, requests a second.
    #[must_use]
    pub fn per_second(&self, endpoints: usize) -> Option<f64> {
        let rate = self.rate?.per_second_milli() as f64 / 1_000.0;
        Some(if self.each {
            rate * endpoints as f64
        } else {
            rate
        })
    }
}

/// A limit with another tolerance B (requests) than the one that ships.
#[must_use]
pub fn tolerant(interval: u64, tolerance: f64) -> RateLimit {
    let limit = (interval as f64 * (tolerance - 1.0)) as u64;
    RateLimit {
        interval,
        limit: limit.saturating_sub(DELIVERY),
    }
}

/// What it takes to serve a request.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// How long.
    pub takes: Takes,
    /// How many an endpoint serves at once, the others wait; `None`: any number.
    pub places: Option<usize>,
}

/// How long a request is served, seconds.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Each the same.
    Fixed(f64),
    /// Exponentially distributed with this mean.
    Exponential(f64),
}

/// An east–west gateway: callers see one host, and each of their connections stays with the pod
/// that the gateway chose for it.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// Connections that a caller's thread keeps to it.
    pub connections: usize,
    /// A bounce ends its connection, and the next one may lead to another pod.
    pub reconnects: bool,
}

/// A horizontal pod autoscaler on the processor, with Kubernetes' defaults for what is not here.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaler {
    /// The share of an endpoint's places that should be busy.
    pub target: f64,
    /// How few endpoints.
    pub least: usize,
    /// How many endpoints.
    pub most: usize,
    /// Seconds until a new endpoint is ready.
    pub start: f64,
}

/// Callers of one kind.
#[derive(Clone, Debug)]
pub struct Callers {
    /// How many sidecars.
    pub count: usize,
    /// Threads of each, which share nothing but the connections' counts.
    pub threads: usize,
    /// Clusters by number, home first.
    pub ladder: Vec<usize>,
    /// What all of them want.
    pub demand: Demand,
    /// The exponent of Zipf's law by which the demand is spread; zero: evenly.
    pub skew: f64,
    /// How arrivals cluster; `None`: Poisson.
    pub bursts: Option<Bursts>,
    /// What a sidecar sends at most to each cluster of the ladder after home (`maxRate`).
    pub max_rates: Vec<Option<Rate>>,
    /// The share of requests that may be repeated.
    pub bounceable: f64,
    /// The share of requests that never leave home.
    pub never: f64,
    /// They have the filter.
    pub filter: bool,
    /// What they claim as N, whatever is true.
    pub forged_echo: Option<u32>,
    /// What they claim as the epoch of a switch that callers share, whatever is true.
    pub forged_epoch: Option<Claim>,
    /// How they spread requests over endpoints.
    pub balancing: Balancing,
    /// How many endpoints of a cluster each of them sees; `None`: all.
    pub sees: Option<usize>,
    /// What the application does about answers that do not come.
    pub patience: Option<Patience>,
}

impl Callers {
    /// So many sidecars of two threads with a demand, and for the rest what is usual.
    #[must_use]
    pub fn new(count: usize, demand: Demand, ladder: &[usize]) -> Self {
        Self {
            count,
            threads: 2,
            ladder: ladder.to_vec(),
            demand,
            skew: 1.0,
            bursts: None,
            max_rates: Vec::new(),
            bounceable: 1.0,
            never: 0.0,
            filter: true,
            forged_echo: None,
            forged_epoch: None,
            balancing: Balancing::LeastRequest,
            sees: None,
            patience: None,
        }
    }
}

/// An epoch that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The one after the last that was heard of: whoever follows it changes its state.
    Next,
    /// This number.
    Number(u32),
}

/// How a caller spreads requests over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// The one of two random endpoints that has fewer requests under way: Istio's default.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// An application that gives up on a request and makes it again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// After this time, seconds.
    pub seconds: f64,
    /// So many times.
    pub repeats: u32,
}

/// Delays between sidecars, one way.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Within a cluster: the least and the most, seconds.
    pub near: (f64, f64),
    /// To other clusters.
    pub far: (f64, f64),
    /// The share of answers that lose their load.
    pub deaf: f64,
    /// The share of attempts whose connection fails.
    pub lost: f64,
}

impl Default for Network {
    /// Round trips of 1 to 20 ms.
    fn default() -> Self {
        Self {
            near: (0.000_5, 0.002),
            far: (0.002, 0.01),
            deaf: 0.0,
            lost: 0.0,
        }
    }
}

/// Something that changes.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A cluster has so many endpoints; those that go finish what they have.
    Endpoints(usize, usize),
    /// An endpoint dies with what it has; callers know after `notice`.
    Kill(usize, usize),
    /// An endpoint takes so many times as long as before.
    Slow(usize, usize, f64),
    /// All of a cluster's endpoints take so many times as long.
    SlowAll(usize, f64),
    /// What a cluster answers is 503 (true), or no longer.
    Failing(usize, bool),
    /// A cluster's limit.
    Limit(usize, Option<Limit>),
    /// All callers of a group start anew, and know nothing.
    Restart(usize),
    /// The share of answers that lose their load.
    Deaf(f64),
    /// An endpoint's answers lie about the epoch: they claim the one after that of their request,
    /// or a number.
    Lie(usize, usize, Claim),
}
