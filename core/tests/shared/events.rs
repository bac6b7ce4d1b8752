//! Runs a virtual mesh: callers, endpoints and Envoy's retries around the very code that ships,
//! with a virtual clock. Headers and shared records pass as bytes.
//!
//! Modelled of Envoy: attempts 1 and 2 go to the target, 3 and 4 to the next cluster, 5 to the one
//! after it or to the target again (`previous_priorities` with `update_frequency: 2`), each time to
//! another endpoint if there is one (`previous_hosts`); at most four retries; the caller's filter
//! sees the last answer only.
//!
//! Every run checks what must hold for every request; [`Report`] says what came of all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use spillway_core::caller::{Answer, Ask, Caller};
use spillway_core::gate::{Class, Gate, Verdict};
use spillway_core::header::{Flags, Hop, Load};
use spillway_core::load::Sums;
use spillway_core::rate::SECOND;
use spillway_core::record::{MAX_SIZE, Record};
use spillway_core::server::Server;
use spillway_core::{ATTEMPTS, UPDATE_FREQUENCY};

use super::help::{MILLI, Random, assert_gate_bound};
use super::mesh::{Mesh, Report};

const NAMES: [&str; 4] = ["home", "burst", "cloud", "spare"];
const TOKEN: &str = "mesh-token-1";
const POLICY: &str = "worker";
const TICK: u64 = 100 * MILLI;

struct Endpoint {
    gate: Vec<u8>,
    sums: Vec<u8>,
    threads: [Server; 2],
    /// When it admitted what fills the gate.
    admitted: Vec<u64>,
}

impl Endpoint {
    fn new() -> Self {
        Self {
            gate: store(&Gate::default()),
            sums: store(&Sums::default()),
            threads: Default::default(),
            admitted: Vec::new(),
        }
    }
}

fn store<R: Record>(record: &R) -> Vec<u8> {
    record.encode(&mut [0; MAX_SIZE]).to_vec()
}

fn read<R: Record>(bytes: &[u8]) -> R {
    R::decode(bytes).expect("what was stored can be read")
}

struct Thread {
    group: usize,
    state: Caller,
    /// The sum of the echoes sent home, and the requests.
    echoes: u64,
    requests: u64,
}

struct Request {
    thread: usize,
    /// Where the caller sent it, in its ladder.
    place: usize,
    bounceable: bool,
    hop: Vec<u8>,
    began: u64,
    attempts: u32,
    last: Option<(usize, usize)>,
    outcomes: u32,
}

enum Event {
    Arrival(usize),
    Attempt(usize),
    End(usize, usize),
    Answer(usize, Option<Vec<u8>>, bool),
    Tick(usize, usize, usize),
}

/// An event at its time; the number keeps the order of events of one time.
struct At(u64, u64, Event);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Run<'m> {
    mesh: &'m Mesh,
    random: Random,
    now: u64,
    events: BinaryHeap<Reverse<At>>,
    number: u64,
    endpoints: Vec<Vec<Endpoint>>,
    threads: Vec<Thread>,
    requests: Vec<Request>,
    report: Report,
    rhos: (f64, f64),
}

/// Runs a mesh, with the checks that hold for every one.
pub(crate) fn run(mesh: &Mesh) -> Report {
    let mut run = Run::new(mesh);
    while let Some(Reverse(At(now, _, event))) = run.events.pop() {
        run.now = now;
        run.handle(event);
    }
    run.finish()
}

impl<'m> Run<'m> {
    fn new(mesh: &'m Mesh) -> Self {
        let start = SECOND;
        let threads = mesh
            .callers
            .iter()
            .enumerate()
            .flat_map(|(group, callers)| {
                (0..callers.threads).map(move |i| Thread {
                    group,
                    state: Caller::new(
                        callers.ladder.iter().map(|at| NAMES[*at]),
                        start,
                        (i * 0x9_7351 + group) as u32,
                    ),
                    echoes: 0,
                    requests: 0,
                })
            });
        let mut run = Self {
            mesh,
            random: Random::new(mesh.seed),
            now: start,
            events: BinaryHeap::new(),
            number: 0,
            endpoints: mesh
                .clusters
                .iter()
                .map(|c| (0..c.endpoints).map(|_| Endpoint::new()).collect())
                .collect(),
            threads: threads.collect(),
            requests: Vec::new(),
            report: Report {
                seconds: (mesh.seconds - mesh.settle) as f64,
                offered: vec![0; mesh.callers.len()],
                at_home: vec![0; mesh.callers.len()],
                served: vec![0; mesh.clusters.len()],
                ..Report::default()
            },
            rhos: (0.0, 0.0),
        };
        for thread in 0..run.threads.len() {
            run.next_arrival(thread);
        }
        for (cluster, c) in mesh.clusters.iter().enumerate() {
            for endpoint in 0..c.endpoints {
                for thread in 0..2 {
                    let phase = run.random.next() % TICK;
                    run.after(phase, Event::Tick(cluster, endpoint, thread));
                }
            }
        }
        run
    }

    fn end(&self) -> u64 {
        SECOND + self.mesh.seconds * SECOND
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.number += 1;
        let at = At(self.now + wait, self.number, event);
        self.events.push(Reverse(at));
    }

    /// 0.2 to 2 ms.
    fn hop_time(&mut self) -> u64 {
        MILLI / 5 + self.random.next() % (9 * MILLI / 5)
    }

    fn next_arrival(&mut self, thread: usize) {
        let callers = &self.mesh.callers[self.threads[thread].group];
        let gap = self.random.gap(callers.rate / callers.threads as f64);
        if self.now + gap < self.end() {
            self.after(gap, Event::Arrival(thread));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrival(thread) => {
                self.arrive(thread);
                self.next_arrival(thread);
            }
            Event::Attempt(request) => self.attempt(request),
            Event::End(cluster, endpoint) => {
                let gate = &mut self.endpoints[cluster][endpoint].gate;
                *gate = store(&read::<Gate>(gate).release(1));
            }
            Event::Answer(request, load, error) => self.answer(request, load.as_deref(), error),
            Event::Tick(cluster, endpoint, thread) => self.tick(cluster, endpoint, thread),
        }
    }

    fn arrive(&mut self, thread: usize) {
        let mesh = self.mesh;
        let group = self.threads[thread].group;
        let callers = &mesh.callers[group];
        let ask = Ask {
            bounceable: self.random.share(callers.bounceable),
            never: self.random.share(callers.never),
            force: None,
            switched: None,
        };
        let caller = &mut self.threads[thread];
        let decision = caller.state.decide(ask, self.now, |_| true);
        let place = decision.rung.map_or(0, |rung| rung + 1);
        caller.requests += 1;
        if place == 0 {
            caller.echoes += u64::from(decision.echo);
        }
        assert!(!(decision.bounceable && decision.returned), "{decision:?}");
        assert!(ask.bounceable || !decision.bounceable, "{decision:?}");
        let (target, home) = (callers.ladder[place], callers.ladder[0]);
        let mut hop = Vec::new();
        let flags = Flags {
            bounceable: decision.bounceable,
            returned: decision.returned,
            shadow: false,
        };
        let start = Hop::start(NAMES[target], TOKEN, NAMES[home], POLICY);
        let echo = callers.forged_echo.unwrap_or(decision.echo);
        Hop::finish(&mut hop, &start, echo, flags);
        self.requests.push(Request {
            thread,
            place,
            bounceable: decision.bounceable,
            hop,
            began: self.now,
            attempts: 0,
            last: None,
            outcomes: 0,
        });
        if self.counts(self.now) {
            self.report.offered[group] += 1;
        }
        let wait = self.hop_time();
        self.after(wait, Event::Attempt(self.requests.len() - 1));
    }

    fn counts(&self, began: u64) -> bool {
        began >= SECOND + self.mesh.settle * SECOND
    }

    /// Where Envoy sends the next attempt.
    fn choose(&mut self, number: usize) -> (usize, usize) {
        let request = &self.requests[number];
        let callers = &self.mesh.callers[self.threads[request.thread].group];
        // The target's own priority first, then the others in the ladder's order.
        let target = callers.ladder[request.place];
        let mut order = vec![target];
        order.extend(callers.ladder.iter().filter(|c| **c != target));
        let step = (request.attempts as usize - 1) / UPDATE_FREQUENCY as usize;
        let cluster = order[step % order.len()];
        let n = self.mesh.clusters[cluster].endpoints;
        let last = request.last;
        let mut endpoint = self.random.below(n);
        if last == Some((cluster, endpoint)) {
            endpoint = (endpoint + 1) % n;
        }
        (cluster, endpoint)
    }

    fn attempt(&mut self, number: usize) {
        self.requests[number].attempts += 1;
        let (cluster, endpoint) = self.choose(number);
        let mesh = self.mesh;
        let k = self.requests[number].attempts;
        let counts = self.counts(self.requests[number].began);
        self.requests[number].last = Some((cluster, endpoint));
        self.report.attempts += u64::from(counts);
        let hop_bytes = self.requests[number].hop.clone();
        let hop = Hop::parse(&hop_bytes).expect("a header of ours");
        let worker = self.random.below(2);
        let at = &mut self.endpoints[cluster][endpoint];
        let server = &mut at.threads[worker];
        let classified = server.on_request(Some(&hop), k, NAMES[cluster], mesh.shed);
        let ask = classified.ask;
        let mut verdict = Verdict::Admit;
        let mut in_flight = false;
        if let Some(capacity) = &mesh.clusters[cluster].capacity {
            let gate: Gate = read(&at.gate);
            let next;
            (next, verdict) = gate.decide(capacity, self.now, ask);
            if matches!(verdict, Verdict::Bounce | Verdict::Shed) {
                assert_eq!(next, gate, "a refusal changes nothing");
            }
            at.gate = store(&next);
            server.on_verdict(verdict);
            in_flight = next.in_flight > gate.in_flight;
            if verdict == Verdict::Admit && (!ask.returned || ask.shed) {
                at.admitted.push(self.now);
            }
        }
        let rho = server.rho_for(&classified);
        if verdict == Verdict::Bounce {
            // The table: who may be bounced, and when.
            let own =
                cluster == mesh.callers[self.threads[self.requests[number].thread].group].ladder[0];
            let most = if own { UPDATE_FREQUENCY } else { ATTEMPTS };
            assert!(k <= most, "attempt {k} bounced at {}", NAMES[cluster]);
            assert_eq!(ask.class == Class::Own, own);
            assert!(self.requests[number].bounceable, "it did not offer");
            assert!(!ask.returned, "it had come home again");
            self.report.bounced += u64::from(counts);
            let wait = self.hop_time() + self.hop_time();
            self.after(wait, Event::Attempt(number));
            return;
        }
        let request = &mut self.requests[number];
        request.outcomes += 1;
        let shed = verdict == Verdict::Shed;
        if counts {
            let callers = self.threads[request.thread].group;
            self.report.forced += u64::from(verdict == Verdict::Force);
            self.report.shed += u64::from(shed);
            self.report.served[cluster] += u64::from(!shed);
            let own = cluster == mesh.callers[callers].ladder[0];
            self.report.at_home[callers] += u64::from(own && !shed);
        }
        let takes = if shed {
            0
        } else {
            mesh.clusters[cluster].takes
        };
        if in_flight {
            self.after(takes, Event::End(cluster, endpoint));
        }
        let told = rho.filter(|_| mesh.clusters[cluster].capacity.is_some());
        let told = told.filter(|_| !self.random.share(mesh.deaf)).map(|rho| {
            let mut value = Vec::new();
            Load {
                cluster: NAMES[cluster],
                rho,
                attempt: k,
            }
            .write(&mut value);
            value
        });
        let wait = takes + self.hop_time();
        self.after(wait, Event::Answer(number, told, shed));
    }

    fn answer(&mut self, number: usize, load: Option<&[u8]>, server_error: bool) {
        let request = &self.requests[number];
        let state = &mut self.threads[request.thread].state;
        let load = load.and_then(Load::parse);
        let answer = Answer {
            target: request.place,
            bounceable: request.bounceable,
            load: load.map(|load| (state.place(load.cluster), load.rho, load.attempt)),
            server_error,
            not_repeated: false,
            strayed: false,
        };
        state.on_answer(answer, self.now);
    }

    fn tick(&mut self, cluster: usize, endpoint: usize, thread: usize) {
        if let Some(capacity) = &self.mesh.clusters[cluster].capacity {
            let settled = self.counts(self.now);
            let at = &mut self.endpoints[cluster][endpoint];
            let counts = at.threads[thread].drain();
            let in_flight = read::<Gate>(&at.gate).in_flight;
            let sums = read::<Sums>(&at.sums).tick(capacity, self.now, counts, in_flight);
            at.sums = store(&sums);
            at.threads[thread].on_sums(&sums, self.now);
            if settled && cluster == 0 {
                self.rhos.0 += f64::from(sums.rho(Class::Own));
                self.rhos.1 += 1.0;
            }
        }
        if self.now + TICK < self.end() {
            self.after(TICK, Event::Tick(cluster, endpoint, thread));
        }
    }

    fn finish(mut self) -> Report {
        for request in &self.requests {
            assert_eq!(request.outcomes, 1, "served or shed once");
            assert!(request.attempts <= ATTEMPTS + 1);
        }
        for (cluster, endpoints) in self.mesh.clusters.iter().zip(&mut self.endpoints) {
            for at in endpoints {
                if let Some(rate) = cluster.capacity.and_then(|c| c.rate) {
                    assert_gate_bound(core::mem::take(&mut at.admitted), &rate, "an endpoint");
                }
                let gate: Gate = read(&at.gate);
                assert_eq!(gate.in_flight, 0, "nothing is left in flight");
            }
        }
        let end = self.end();
        for thread in &mut self.threads {
            // What is left of the echo comes with one more request.
            let last = Ask {
                never: true,
                ..Ask::default()
            };
            let left = thread.state.decide(last, end, |_| true).echo;
            assert_eq!(thread.echoes + u64::from(left), thread.requests + 1);
        }
        self.report.rho = self.rhos.0 / self.rhos.1.max(1.0);
        self.report
    }
}
