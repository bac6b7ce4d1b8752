//! Callers: what they want, how they ask for it, and what they claim.

use spillway_core::rate::Rate;

use crate::demand::{Bursts, Demand};

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
