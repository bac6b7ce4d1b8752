//! The callers while they run: sidecars (processes) with their threads, and how each chooses an
//! endpoint.

use core::num::NonZeroU32;

use spillway_core::caller::Caller;
use spillway_core::gate::{Ask, Class, Gate, Verdict};
use spillway_core::rate::{Capacity, Rate, RateLimit, SECOND};
use spillway_core::switch::Switch;
use spillway_core::totals::epoch::Epoch;
use spillway_core::totals::watch::Watch;

use crate::random::Random;
use crate::scenario::{Balancing, Gateway};

/// Envoy looks for an endpoint that was not tried at most this often
/// (`host_selection_retry_max_attempts`, as istiod writes it).
const LOOK_AGAIN: u32 = 5;

/// A sidecar.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) group: usize,
    /// The number of its first thread.
    pub(crate) first_thread: usize,
    /// Requests under way, by endpoint.
    active: Vec<u32>,
    /// A number of its own, which chooses the endpoints that it sees.
    salt: u64,
    /// The endpoints that it sees, by cluster; none where it sees all.
    views: Vec<Vec<u32>>,
    pub(crate) switch: Switch,
    /// Of a switch that callers share, as its threads have told each other.
    pub(crate) epoch: Epoch,
    /// Requests since the last tick.
    pub(crate) count: u64,
    /// Its part of the limit, in schemes that give it one.
    pub(crate) part: Option<RateLimit>,
    pub(crate) bucket: Gate,
    /// What it may send to each rung, with what it has sent.
    pub(crate) rungs: Vec<(Option<RateLimit>, Gate)>,
}

/// A thread of a sidecar.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) process: usize,
    pub(crate) state: Caller,
    pub(crate) watch: Watch,
    /// When it ticks.
    pub(crate) phase: u64,
    /// Where round robin is, by cluster.
    turns: Vec<usize>,
    /// The endpoints behind its connections to a gateway, by cluster.
    connections: Vec<Vec<Option<u32>>>,
}

impl Process {
    pub(crate) fn new(
        group: usize,
        first_thread: usize,
        max_rates: &[Option<Rate>],
        random: &mut Random,
    ) -> Self {
        Self {
            group,
            first_thread,
            active: Vec::new(),
            salt: random.any(),
            views: Vec::new(),
            switch: Switch::default(),
            epoch: Epoch::default(),
            count: 0,
            part: None,
            bucket: Gate::default(),
            rungs: max_rates
                .iter()
                .map(|rate| (rate.map(a_second_at_once), Gate::default()))
                .collect(),
        }
    }

    /// Chooses from the endpoints of a cluster those that it sees: always the same ones as long as
    /// they are there.
    pub(crate) fn look(&mut self, cluster: usize, known: &[u32], sees: Option<usize>) {
        let Some(sees) = sees else {
            return;
        };
        if self.views.len() <= cluster {
            self.views.resize(cluster + 1, Vec::new());
        }
        let mut ranked = known.to_vec();
        ranked.sort_by_key(|endpoint| Random::new(self.salt ^ u64::from(*endpoint)).any());
        ranked.truncate(sees);
        if let Some(view) = self.views.get_mut(cluster) {
            *view = ranked;
        }
    }

    /// The endpoints of a cluster that it sees, of those that are known.
    fn view<'a>(&'a self, cluster: usize, known: &'a [u32]) -> &'a [u32] {
        self.views.get(cluster).map_or(known, Vec::as_slice)
    }

    pub(crate) fn begin(&mut self, endpoint: u32) {
        let at = endpoint as usize;
        if self.active.len() <= at {
            self.active.resize(at + 1, 0);
        }
        if let Some(active) = self.active.get_mut(at) {
            *active += 1;
        }
    }

    pub(crate) fn end(&mut self, endpoint: u32) {
        if let Some(active) = self.active.get_mut(endpoint as usize) {
            *active = active.saturating_sub(1);
        }
    }

    fn active(&self, endpoint: u32) -> u32 {
        self.active
            .get(endpoint as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// The limit of a `maxRate`, as the filter makes it: a second's worth at once.
fn a_second_at_once(rate: Rate) -> RateLimit {
    let interval = rate.interval(NonZeroU32::MIN);
    RateLimit {
        interval,
        limit: SECOND.saturating_sub(interval),
    }
}

/// Takes one request from a limit; false where it does not fit.
pub(crate) fn take(limit: Option<RateLimit>, bucket: &mut Gate, now: u64) -> bool {
    let capacity = Capacity {
        rate: limit,
        concurrency: None,
    };
    let ask = Ask {
        class: Class::Own,
        bounceable: true,
        returned: false,
        shed: false,
    };
    let (next, verdict) = bucket.decide(&capacity, now, ask);
    *bucket = next;
    verdict == Verdict::Admit
}

/// What a choice among endpoints depends on.
pub(crate) struct Choice<'a> {
    pub(crate) cluster: usize,
    /// The endpoints that are known.
    pub(crate) known: &'a [u32],
    pub(crate) balancing: Balancing,
    /// The cluster is reached through it.
    pub(crate) gateway: Option<Gateway>,
    /// Those that this request was at.
    pub(crate) tried: &'a [u32],
}

impl Thread {
    pub(crate) fn new(process: usize, state: Caller, now: u64, phase: u64) -> Self {
        Self {
            process,
            state,
            watch: Watch::new(Epoch::default(), now),
            phase,
            turns: Vec::new(),
            connections: Vec::new(),
        }
    }

    /// Chooses an endpoint of a cluster; `None` where there is none.
    pub(crate) fn choose(
        &mut self,
        process: &Process,
        choice: &Choice<'_>,
        random: &mut Random,
    ) -> Option<u32> {
        if let Some(gateway) = choice.gateway {
            return self.by_gateway(choice, gateway, random);
        }
        let view = process.view(choice.cluster, choice.known);
        let mut tries = LOOK_AGAIN;
        loop {
            let endpoint = match choice.balancing {
                Balancing::LeastRequest => {
                    let one = *view.get(random.below(view.len()))?;
                    let other = *view.get(random.below(view.len()))?;
                    if process.active(other) < process.active(one) {
                        other
                    } else {
                        one
                    }
                }
                Balancing::RoundRobin => {
                    while self.turns.len() <= choice.cluster {
                        self.turns.push(random.below(1 << 16));
                    }
                    let turn = self.turns.get_mut(choice.cluster)?;
                    *turn += 1;
                    *view.get(*turn % view.len().max(1))?
                }
            };
            if tries == 0 || !choice.tried.contains(&endpoint) {
                return Some(endpoint);
            }
            tries -= 1;
        }
    }

    /// One of its connections, which was led to an endpoint when it was made.
    fn by_gateway(
        &mut self,
        choice: &Choice<'_>,
        gateway: Gateway,
        random: &mut Random,
    ) -> Option<u32> {
        if self.connections.len() <= choice.cluster {
            self.connections.resize(choice.cluster + 1, Vec::new());
        }
        let pool = self.connections.get_mut(choice.cluster)?;
        pool.resize(gateway.connections.max(1), None);
        let connection = pool.get_mut(random.below(gateway.connections.max(1)))?;
        if connection.is_none_or(|endpoint| !choice.known.contains(&endpoint)) {
            *connection = choice.known.get(random.below(choice.known.len())).copied();
        }
        *connection
    }

    /// Ends the connections that lead to an endpoint.
    pub(crate) fn disconnect(&mut self, cluster: usize, endpoint: u32) {
        for connection in self.connections.get_mut(cluster).into_iter().flatten() {
            if *connection == Some(endpoint) {
                *connection = None;
            }
        }
    }
}
