//! A virtual mesh, as it is set up and reported: clusters of endpoints, and groups of callers.
//! `events.rs` runs it.

use spillway_core::rate::Capacity;

pub(crate) use super::events::run;

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) endpoints: usize,
    /// Of one endpoint; `None`: no gate.
    pub(crate) capacity: Option<Capacity>,
    /// How long the application takes, ns.
    pub(crate) takes: u64,
}

/// Some callers alike.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    /// Threads, each with its own state.
    pub(crate) threads: usize,
    /// Requests of all together, each second (Poisson).
    pub(crate) rate: f64,
    /// Clusters by number, home first.
    pub(crate) ladder: Vec<usize>,
    /// The share of requests that may be bounced.
    pub(crate) bounceable: f64,
    /// The share of requests of class Never.
    pub(crate) never: f64,
    /// Claims this echo whatever is true.
    pub(crate) forged_echo: Option<u32>,
}

impl Callers {
    pub(crate) fn new(threads: usize, rate: f64, ladder: &[usize]) -> Self {
        Self {
            threads,
            rate,
            ladder: ladder.into(),
            bounceable: 1.0,
            never: 0.0,
            forged_echo: None,
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) callers: Vec<Callers>,
    pub(crate) shed: bool,
    /// The share of answers that lose their load header.
    pub(crate) deaf: f64,
    pub(crate) seconds: u64,
    /// What is reported begins after this.
    pub(crate) settle: u64,
    pub(crate) seed: u64,
}

impl Mesh {
    pub(crate) const fn new(clusters: Vec<Cluster>, callers: Vec<Callers>) -> Self {
        Self {
            clusters,
            callers,
            shed: false,
            deaf: 0.0,
            seconds: 20,
            settle: 5,
            seed: 1,
        }
    }
}

/// What came of the requests that began after the mesh had settled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    /// Requests, by group of callers.
    pub(crate) offered: Vec<u64>,
    /// Requests that home served, by group of callers.
    pub(crate) at_home: Vec<u64>,
    /// Requests served, by cluster.
    pub(crate) served: Vec<u64>,
    pub(crate) attempts: u64,
    pub(crate) bounced: u64,
    pub(crate) forced: u64,
    pub(crate) shed: u64,
    /// Mean own load at the ticks of the first cluster, thousandths.
    pub(crate) rho: f64,
}

impl Report {
    /// Requests a second that a cluster served.
    pub(crate) fn rate(&self, cluster: usize) -> f64 {
        self.served[cluster] as f64 / self.seconds
    }

    pub(crate) fn all(&self) -> u64 {
        self.offered.iter().sum()
    }

    /// Of all requests.
    pub(crate) fn share(&self, of: u64) -> f64 {
        of as f64 / self.all() as f64
    }
}
