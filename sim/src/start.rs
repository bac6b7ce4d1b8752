//! What there is when a run begins: everybody of the scenario, of whom nobody knows anything, and
//! the first of all events.

use hdrhistogram::CreationError;
use spillway_core::caller::Caller;
use spillway_core::header::Hop;

use crate::callers::{Process, Thread};
use crate::demand::Arrivals;
use crate::events::{Event, Events};
use crate::measure::Measured;
use crate::random::{Random, Weighted, nanos};
use crate::requests::Requests;
use crate::run::{EPOCH, Run, Site, Source, TICK, number};
use crate::scenario::{Scenario, Scheme};
use crate::watcher::Watcher;

impl Run {
    pub(crate) fn new(scenario: &Scenario) -> Result<Self, CreationError> {
        let mut random = Random::new(scenario.seed);
        let mut chance = Random::new(!scenario.seed);
        let names: Vec<String> = (0..scenario.clusters.len()).map(name).collect();
        let gates = scenario.scheme == Scheme::Spillway;
        let sites = scenario.clusters.iter().zip(&names).map(|(cluster, name)| {
            let limit = cluster.limit.as_ref().filter(|_| gates);
            Site {
                name: name.clone(),
                capacity: limit.map(|limit| limit.capacity(cluster.endpoints)),
                ready: Vec::new(),
                known: Vec::new(),
                failing: false,
                wanted: Vec::new(),
            }
        });
        let (mut processes, mut threads, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for (group, callers) in scenario.callers.iter().enumerate() {
            let first = processes.len();
            for _ in 0..callers.count {
                let process = processes.len();
                let max_rates = &callers.max_rates;
                processes.push(Process::new(group, threads.len(), max_rates, &mut random));
                for _ in 0..callers.threads {
                    let state = knows_nothing(&names, &callers.ladder, EPOCH, &mut random);
                    threads.push(Thread::new(process, state, EPOCH, random.any() % TICK));
                }
            }
            let spread = Weighted::zipf(callers.count, callers.skew);
            let mut source = |share, first, spread| {
                let demand = callers.demand.clone();
                sources.push(Source {
                    arrivals: Arrivals::new(demand, share, callers.bursts, &mut chance),
                    first,
                    spread,
                });
            };
            if callers.bursts.is_some_and(|bursts| !bursts.together) {
                for caller in 0..callers.count {
                    source(spread.share(caller), first + caller, None);
                }
            } else {
                source(1.0, first, Some(spread));
            }
        }
        let start =
            |target: &String, home: &String| Hop::start(target, "mesh-token-1", home, "worker");
        let starts = |home| {
            names
                .iter()
                .map(move |target| start(target, home))
                .collect()
        };
        Ok(Self {
            measured: Measured::new(scenario, processes.iter().map(|process| process.group))?,
            end: nanos(scenario.length),
            now: 0,
            events: Events::default(),
            requests: Requests::default(),
            begun: 0,
            sites: sites.collect(),
            endpoints: Vec::new(),
            starts: names.iter().map(starts).collect(),
            watcher: match scenario.scheme {
                Scheme::Watcher { enter, leave } => Watcher::new(enter, leave),
                _ => Watcher::default(),
            },
            scenario: scenario.clone(),
            processes,
            threads,
            sources,
            random,
            chance,
        })
    }

    pub(crate) fn start(&mut self) {
        for cluster in 0..self.sites.len() {
            let wanted = self
                .scenario
                .clusters
                .get(cluster)
                .map_or(0, |c| c.endpoints);
            for _ in 0..wanted {
                self.add_endpoint(cluster, 0);
            }
            self.notice(cluster);
            if self
                .scenario
                .clusters
                .get(cluster)
                .is_some_and(|c| c.autoscaler.is_some())
            {
                self.after(crate::change::AUTOSCALE, Event::Autoscale(number(cluster)));
            }
        }
        for at in 0..self.scenario.changes.len() {
            let time = self.scenario.changes.get(at).map_or(0.0, |(time, _)| *time);
            self.after(nanos(time), Event::Change(number(at)));
        }
        for source in 0..self.sources.len() {
            self.next_arrival(source);
        }
        self.start_deciding();
    }
}

/// The name of a cluster.
fn name(cluster: usize) -> String {
    if cluster == 0 {
        "home".to_owned()
    } else {
        format!("burst-{cluster}")
    }
}

/// The state of a thread that knows nothing.
pub(crate) fn knows_nothing(
    names: &[String],
    ladder: &[usize],
    now: u64,
    random: &mut Random,
) -> Caller {
    let ladder = ladder.iter().filter_map(|at| names.get(*at));
    let seed = random.any() as u32;
    Caller::new(ladder.map(String::as_str), now, seed)
}
