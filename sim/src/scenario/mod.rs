//! What is simulated: clusters, callers, a network, and what changes on the way. Times are seconds
//! from the beginning, rates are requests a second.

mod callers;
mod cluster;

use spillway_core::config::Mode;

pub use self::callers::{Balancing, Callers, Claim, Patience};
pub use self::cluster::{Autoscaler, Cluster, Gateway, Limit, Service, Takes, tolerant};

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
