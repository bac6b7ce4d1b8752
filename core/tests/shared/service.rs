//! A virtual service whose callers share a switch, around the very code that ships: headers and
//! shared records pass as bytes, time is virtual, and endpoints are chosen at random.

use spillway_core::caller::{Ask, Caller};
use spillway_core::header::{Flags, Hop, Load};
use spillway_core::rate::SECOND;
use spillway_core::record::{MAX_SIZE, Record};
use spillway_core::totals::Limits;
use spillway_core::totals::epoch::{Epoch, News};
use spillway_core::totals::home::{Home, Totals};
use spillway_core::totals::watch::Watch;

use super::help::{MILLI, Random, count, per_second};

const TICK: u64 = 100 * MILLI;

pub(crate) fn limits(enter: u32, leave: u32, endpoints: u32) -> Limits {
    Limits {
        service: spillway_core::switch::Limits::new(per_second(enter), per_second(leave)).unwrap(),
        endpoints: count(endpoints),
    }
}

/// A caller of one thread.
pub(crate) struct One {
    pub(crate) watch: Watch,
    state: Caller,
    /// When its state changed.
    pub(crate) changes: Vec<u64>,
}

impl One {
    fn new(now: u64, seed: u32) -> Self {
        Self {
            watch: Watch::new(Epoch::default(), now),
            state: Caller::new(["home", "burst"], now, seed),
            changes: Vec::new(),
        }
    }
}

/// An endpoint of two threads.
pub(crate) struct Endpoint {
    seed: u64,
    totals: Vec<u8>,
    threads: [Home; 2],
}

impl Endpoint {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            totals: Totals::default().encode(&mut [0; MAX_SIZE]).to_vec(),
            threads: Default::default(),
        }
    }
}

pub(crate) struct Service {
    pub(crate) limits: Limits,
    pub(crate) callers: Vec<One>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) now: u64,
    pub(crate) random: Random,
    /// Requests that home served, and those that spilled.
    pub(crate) home: u64,
    pub(crate) away: u64,
    ticked: u64,
}

impl Service {
    pub(crate) fn new(limits: Limits, callers: u32, seed: u64) -> Self {
        let now = 1_000 * SECOND;
        Self {
            limits,
            callers: (0..callers).map(|i| One::new(now, i)).collect(),
            endpoints: (0..u64::from(limits.endpoints.get()))
                .map(|i| Endpoint::new(7_919 * (i + 1)))
                .collect(),
            now,
            random: Random::new(seed),
            home: 0,
            away: 0,
            ticked: now,
        }
    }

    /// Requests of all callers together (Poisson), until so much later, or until `done`. Gives the
    /// time that it took.
    pub(crate) fn run(&mut self, rate: f64, time: u64, done: impl Fn(&Self) -> bool) -> u64 {
        let (began, end) = (self.now, self.now + time);
        loop {
            self.now = (self.now + self.random.gap(rate)).min(end);
            while self.ticked + TICK <= self.now {
                self.ticked += TICK;
                self.tick();
            }
            if self.now == end || done(self) {
                return self.now - began;
            }
            let caller = self.random.below(self.callers.len());
            self.request(caller);
        }
    }

    /// The same for so long.
    pub(crate) fn pass(&mut self, rate: f64, time: u64) {
        self.run(rate, time, |_| false);
    }

    fn tick(&mut self) {
        for endpoint in &mut self.endpoints {
            for thread in &mut endpoint.threads {
                let totals = Totals::decode(&endpoint.totals).unwrap().tick(
                    &self.limits,
                    self.ticked,
                    || endpoint.seed,
                    &thread.drain(),
                );
                endpoint.totals = totals.encode(&mut [0; MAX_SIZE]).to_vec();
                thread.on_totals(totals);
            }
        }
    }

    fn request(&mut self, caller: usize) {
        let one = &mut self.callers[caller];
        let before = one.watch.epoch();
        let ask = Ask {
            switched: Some(one.watch.leaves(self.now)),
            ..Ask::default()
        };
        let decision = one.state.decide(ask, self.now, |_| true);
        one.watch.on_sent(decision.rung.is_none(), self.now);
        if decision.rung.is_some() {
            self.away += 1;
            return;
        }
        self.home += 1;
        assert!(decision.echo <= 20, "no honest echo is larger");
        let epoch = one.watch.epoch();
        let news = self.visit(decision.echo, Some(epoch));
        let one = &mut self.callers[caller];
        if let Some(news) = news {
            one.watch.on_news(&self.limits, &news, self.now);
        }
        if one.watch.epoch().switched() != before.switched() {
            one.changes.push(self.now);
        }
    }

    /// A request to some endpoint of home, with any claim; what the answer tells.
    pub(crate) fn visit(&mut self, echo: u32, epoch: Option<Epoch>) -> Option<News> {
        let at = self.random.below(self.endpoints.len());
        let thread = self.random.below(2);
        let mut header = Vec::new();
        let start = Hop::start("home", "mesh-token-1", "home", "worker");
        Hop::finish(&mut header, &start, echo, Flags::default());
        if let Some(epoch) = epoch {
            epoch.append(&mut header);
        }
        let hop = Hop::parse(&header).expect("a header of ours");
        let read = Epoch::of_hop(&header);
        assert_eq!(read, epoch);
        let news = self.endpoints[at].threads[thread].on_request(Some(&hop), read, 1, "home")?;
        let load = Load {
            cluster: "home",
            rho: 0,
            attempt: 1,
        };
        load.write(&mut header);
        news.append(&mut header);
        assert_eq!(Load::parse(&header), Some(load));
        assert_eq!(News::of_load(&header), Some(news));
        Some(news)
    }

    /// A request without our header.
    pub(crate) fn stranger(&mut self) {
        let at = self.random.below(self.endpoints.len());
        self.endpoints[at].threads[0].on_request(None, None, 1, "home");
    }

    pub(crate) fn restart_caller(&mut self, caller: usize) {
        self.callers[caller] = One::new(self.now, 99);
    }

    pub(crate) fn restart_endpoint(&mut self, endpoint: usize) {
        let seed = self.now;
        self.endpoints[endpoint] = Endpoint::new(seed);
    }

    /// Callers that have switched.
    pub(crate) fn switched(&self) -> usize {
        let switched = |one: &&One| one.watch.epoch().switched();
        self.callers.iter().filter(switched).count()
    }

    /// At a new rate, runs until all are in this state; adds the seconds that the first, the mean and
    /// the last caller needed.
    pub(crate) fn times(&mut self, rate: f64, switched: bool, add: &mut [f64; 3]) {
        let began = self.now;
        let all = if switched { self.callers.len() } else { 0 };
        self.run(rate, 300 * SECOND, |service| service.switched() == all);
        let times = self.callers.iter().map(|one| {
            let last = one.changes.last().map_or(began, |at| *at);
            last.saturating_sub(began) as f64 / SECOND as f64
        });
        let times: Vec<f64> = times.collect();
        add[0] += times.iter().copied().fold(f64::INFINITY, f64::min);
        add[1] += times.iter().sum::<f64>() / times.len() as f64;
        add[2] += times.iter().copied().fold(0.0, f64::max);
    }

    /// The part of the requests that spills, over so long.
    pub(crate) fn share_away(&mut self, rate: f64, time: u64) -> f64 {
        (self.home, self.away) = (0, 0);
        self.pass(rate, time);
        self.away as f64 / (self.home + self.away) as f64
    }
}
