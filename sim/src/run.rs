//! Runs a scenario: the events around the very decisions that ship.
//!
//! Modelled of Envoy: attempts 1 and 2 go to the target's cluster, 3 and 4 to any of the others
//! (they are one priority), 5 to the target's again (`previous_priorities` with `update_frequency: 2`), each
//! to an endpoint that was not tried if one is found (`previous_hosts`); at most four retries, of
//! bounces and failed connections only, after 0 to 10 ms; the caller's filter sees the last answer
//! only, and reads the clock of its last tick. Headers pass as bytes.

use hdrhistogram::CreationError;
use spillway_core::rate::{Capacity, SECOND};
use spillway_core::totals::epoch::Epoch;
use spillway_core::totals::watch::Watch;

use crate::callers::{Process, Thread};
use crate::demand::Arrivals;
use crate::endpoint::{Endpoint, Phase, THREADS};
use crate::events::{Event, Events};
use crate::measure::Measured;
use crate::random::{Random, Weighted, nanos, seconds};
use crate::requests::Requests;
use crate::scenario::Scenario;
use crate::start::knows_nothing;
use crate::watcher::Watcher;

/// The period of the filter's ticks, ns.
pub(crate) const TICK: u64 = SECOND / 10;

/// What the decisions take as time zero: they take no time before their first second for one.
pub(crate) const EPOCH: u64 = 10 * SECOND;

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was measured.
    pub measured: Measured,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Events that were handled.
    pub events: u64,
    /// Requests that were begun, from the first second on.
    pub requests: u64,
}

/// A stream of arrivals: of one caller, or of a group whose callers share it.
pub(crate) struct Source {
    pub(crate) arrivals: Arrivals,
    /// The number of its first caller.
    pub(crate) first: usize,
    /// Which of the callers; `None`: the first.
    pub(crate) spread: Option<Weighted>,
}

/// A cluster while it runs.
pub(crate) struct Site {
    pub(crate) name: String,
    /// What its endpoints' sidecars believe.
    pub(crate) capacity: Option<Capacity>,
    /// Its endpoints that are ready.
    pub(crate) ready: Vec<u32>,
    /// Those that the callers know.
    pub(crate) known: Vec<u32>,
    pub(crate) failing: bool,
    /// What its autoscaler wanted, with the times: it goes down to the most of five minutes only.
    pub(crate) wanted: Vec<(u64, usize)>,
}

/// A scenario that runs.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) random: Random,
    /// Of the arrivals alone, so that every scheme has the same.
    pub(crate) chance: Random,
    pub(crate) now: u64,
    pub(crate) end: u64,
    pub(crate) events: Events,
    pub(crate) requests: Requests,
    pub(crate) begun: u64,
    pub(crate) sources: Vec<Source>,
    pub(crate) sites: Vec<Site>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) processes: Vec<Process>,
    pub(crate) threads: Vec<Thread>,
    /// The header up to N, by home and target.
    pub(crate) starts: Vec<Vec<Vec<u8>>>,
    pub(crate) watcher: Watcher,
    pub(crate) measured: Measured,
}

/// Runs a scenario to its end.
///
/// # Errors
/// When the histograms cannot be made, which is a matter of their constants.
pub fn run(scenario: &Scenario) -> Result<Outcome, CreationError> {
    let mut run = Run::new(scenario)?;
    run.start();
    while let Some((now, event)) = run.events.next() {
        run.now = now;
        // An event about something that is gone is none.
        let _ = run.handle(event);
    }
    Ok(Outcome {
        seconds: scenario.length - scenario.from,
        events: run.events.count(),
        requests: run.begun,
        measured: run.measured,
    })
}

impl Run {
    /// Adds an endpoint that is ready after `wait`.
    pub(crate) fn add_endpoint(&mut self, cluster: usize, wait: u64) {
        let endpoint = number(self.endpoints.len());
        let phase = if wait == 0 {
            Phase::Ready
        } else {
            Phase::Starting
        };
        self.endpoints.push(Endpoint::new(cluster, phase));
        if wait == 0 {
            if let Some(site) = self.sites.get_mut(cluster) {
                site.ready.push(endpoint);
            }
            self.start_ticks(endpoint);
        } else {
            self.after(wait, Event::Ready(endpoint));
        }
    }

    pub(crate) fn start_ticks(&mut self, endpoint: u32) {
        for thread in 0..number(THREADS) {
            let phase = self.random.any() % TICK;
            self.after(phase, Event::Tick(endpoint * number(THREADS) + thread));
        }
    }

    pub(crate) fn after(&mut self, wait: u64, event: Event) {
        self.events.add(self.now + wait, event);
    }

    /// The same, unless it is after the end: what only goes round and round.
    pub(crate) fn again(&mut self, wait: u64, event: Event) {
        if self.now + wait < self.end {
            self.after(wait, event);
        }
    }

    /// One way between a caller's sidecar and a cluster's.
    pub(crate) fn delay(&mut self, home: usize, cluster: usize) -> u64 {
        let network = &self.scenario.network;
        let (least, most) = if home == cluster {
            network.near
        } else {
            network.far
        };
        self.random.between(nanos(least), nanos(most))
    }

    /// The clock that the decisions see at the gate.
    pub(crate) const fn clock(&self) -> u64 {
        self.now + EPOCH
    }

    pub(crate) fn time(&self) -> f64 {
        seconds(self.now)
    }

    fn handle(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Arrival(source) => {
                self.arrive(source as usize)?;
                self.next_arrival(source as usize);
            }
            Event::Reach(request) => self.reach(request)?,
            Event::Served(request) => self.served(request)?,
            Event::Return(request) => self.answered(request)?,
            Event::Repeat(request) => self.send(request)?,
            Event::GiveUp(request, generation) => self.give_up(request, generation)?,
            Event::Tick(thread) => self.tick(thread)?,
            Event::CallerTick(process) => self.caller_tick(process)?,
            Event::Look => self.look(),
            Event::Scrape => self.scrape(),
            Event::Change(change) => self.change(change)?,
            Event::Ready(endpoint) => self.ready(endpoint)?,
            Event::Notice(cluster) => self.notice(cluster as usize),
            Event::Autoscale(cluster) => self.autoscale(cluster as usize)?,
        }
        Some(())
    }

    pub(crate) fn next_arrival(&mut self, at: usize) {
        if let Some(source) = self.sources.get_mut(at)
            && let Some(time) = source.arrivals.next(self.now, self.end, &mut self.chance)
        {
            self.events.add(time, Event::Arrival(number(at)));
        }
    }

    /// Callers of a group start anew.
    pub(crate) fn restart(&mut self, group: usize) {
        let Some(callers) = self.scenario.callers.get(group) else {
            return;
        };
        let names: Vec<String> = self.sites.iter().map(|site| site.name.clone()).collect();
        for thread in &mut self.threads {
            let Some(process) = self.processes.get_mut(thread.process) else {
                continue;
            };
            if process.group == group {
                let now = self.now + EPOCH;
                thread.state = knows_nothing(&names, &callers.ladder, now, &mut self.random);
                process.switch = spillway_core::switch::Switch::default();
                // Its first answer tells.
                thread.watch = Watch::new(Epoch::default(), now);
                process.epoch = Epoch::default();
            }
        }
    }
}

/// A number of this run's own lists.
pub(crate) fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
