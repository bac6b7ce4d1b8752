//! An endpoint: a sidecar of two threads with the gate and sums that they share, and an
//! application with so many places behind it.

use std::collections::VecDeque;

use spillway_core::gate::{Class, Gate, Verdict};
use spillway_core::header::Hop;
use spillway_core::load::Sums;
use spillway_core::rate::Capacity;
use spillway_core::server::{Request, Server};
use spillway_core::totals::Limits;
use spillway_core::totals::epoch::{Epoch, News};
use spillway_core::totals::home::{Home, Totals};

use crate::scenario::Claim;

/// Threads of an endpoint's sidecar.
pub(crate) const THREADS: usize = 2;

/// Where an endpoint is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not ready yet.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it has.
    Leaving,
    /// Connections to it fail.
    Dead,
}

/// An endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) cluster: usize,
    pub(crate) phase: Phase,
    /// How many times as long as others it takes.
    pub(crate) slow: f64,
    gate: Gate,
    sums: Sums,
    threads: [Server; THREADS],
    /// Where callers share a switch: what came here.
    totals: Totals,
    homes: [Home; THREADS],
    /// What its answers claim as the epoch, whatever is true.
    pub(crate) lies: Option<Claim>,
    /// Requests that are served.
    busy: usize,
    /// Requests that wait for a place.
    waiting: VecDeque<u32>,
    /// What was busy since the autoscaler looked, in nanoseconds times places.
    work: u64,
    worked_until: u64,
}

impl Endpoint {
    pub(crate) fn new(cluster: usize, phase: Phase) -> Self {
        Self {
            cluster,
            phase,
            slow: 1.0,
            gate: Gate::default(),
            sums: Sums::default(),
            threads: Default::default(),
            totals: Totals::default(),
            homes: Default::default(),
            lies: None,
            busy: 0,
            waiting: VecDeque::new(),
            work: 0,
            worked_until: 0,
        }
    }

    /// Classifies a request and asks the gate, as the filter does. Where it is not let in, the load
    /// that the answer tells comes with the verdict.
    pub(crate) fn ask(&mut self, arrival: &Arrival<'_>) -> (Request, Verdict, Option<u32>) {
        let Arrival {
            hop,
            attempt,
            own,
            shed,
            capacity,
            now,
            thread,
        } = *arrival;
        let server = self.threads.get_mut(thread);
        let mut spare = Server::default();
        let server = server.unwrap_or(&mut spare);
        let request = server.on_request(hop, attempt, own, shed);
        let mut verdict = Verdict::Admit;
        if let Some(capacity) = capacity {
            (self.gate, verdict) = self.gate.decide(capacity, now, request.ask);
            server.on_verdict(verdict);
        }
        (request, verdict, server.rho_for(&request))
    }

    /// Counts a request for a switch that callers share; gives what its answer tells.
    pub(crate) fn hear(&mut self, arrival: &Arrival<'_>, epoch: Option<Epoch>) -> Option<News> {
        let home = self.homes.get_mut(arrival.thread)?;
        let news = home.on_request(arrival.hop, epoch, arrival.attempt, arrival.own)?;
        let claim = self.lies.zip(epoch).map(|(claim, epoch)| claim.of(epoch));
        Some(News {
            epoch: claim.unwrap_or(news.epoch),
            ..news
        })
    }

    /// Hands what a thread saw to the totals, and takes the epoch from them.
    pub(crate) fn total(&mut self, thread: usize, limits: &Limits, now: u64, seed: u64) {
        if let Some(home) = self.homes.get_mut(thread) {
            let seen = home.drain();
            self.totals = self.totals.tick(limits, now, || seed, &seen);
            home.on_totals(self.totals);
        }
    }

    /// The load that an answer tells.
    pub(crate) fn rho_for(&self, request: &Request, thread: usize) -> Option<u32> {
        self.threads.get(thread)?.rho_for(request)
    }

    /// A request that was let in has ended. Only a gate that limits the concurrency counts them.
    pub(crate) fn release(&mut self) {
        self.gate = self.gate.release(1);
    }

    /// Hands a thread's counts to the sums, and takes the load from them; gives the own load.
    pub(crate) fn tick(&mut self, thread: usize, capacity: Option<&Capacity>, now: u64) -> u32 {
        let Some(server) = self.threads.get_mut(thread) else {
            return 0;
        };
        let Some(capacity) = capacity else {
            server.forget();
            return 0;
        };
        let in_flight = if capacity.concurrency.is_some() {
            self.gate.in_flight
        } else {
            0
        };
        self.sums = self.sums.tick(capacity, now, server.drain(), in_flight);
        server.on_sums(&self.sums, now);
        self.sums.rho(Class::Own)
    }

    /// A request asks for a place; false: it waits.
    pub(crate) fn begin(&mut self, request: u32, places: Option<usize>, now: u64) -> bool {
        if places.is_some_and(|places| self.busy >= places) {
            self.waiting.push_back(request);
            return false;
        }
        self.count_work(now);
        self.busy += 1;
        true
    }

    /// A request leaves its place to the next one that waits.
    pub(crate) fn end(&mut self, now: u64) -> Option<u32> {
        self.count_work(now);
        self.busy = self.busy.saturating_sub(1);
        let next = self.waiting.pop_front()?;
        self.busy += 1;
        Some(next)
    }

    /// What was busy since this was asked last, nanoseconds times places.
    pub(crate) fn take_work(&mut self, now: u64) -> u64 {
        self.count_work(now);
        core::mem::take(&mut self.work)
    }

    fn count_work(&mut self, now: u64) {
        self.work += (now - self.worked_until) * self.busy as u64;
        self.worked_until = now;
    }
}

/// A request as it reaches an endpoint's sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) hop: Option<&'a Hop<'a>>,
    pub(crate) attempt: u32,
    /// The endpoint's cluster.
    pub(crate) own: &'a str,
    pub(crate) shed: bool,
    pub(crate) capacity: Option<&'a Capacity>,
    pub(crate) now: u64,
    pub(crate) thread: usize,
}
