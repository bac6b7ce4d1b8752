//! The server's side: the gate before the application, and the news on the way back.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use proxy_wasm::types::Action;
use spillway_core::config::{Config, EnvoyCluster, Mode, Policy, Workload};
use spillway_core::gate::{Class, Gate, Verdict};
use spillway_core::header::{self, Hop, Load};
use spillway_core::load::Sums;
use spillway_core::rate::Capacity;
use spillway_core::server::{Request as Classified, Server};
use spillway_core::totals::Limits;
use spillway_core::totals::epoch::{Epoch, News};
use spillway_core::totals::home::{Home, Totals};

use crate::host::{self, Map, path};
use crate::metrics::{Counter, Gauge, name};
use crate::pairs;
use crate::request::{Request, Response};
use crate::root::{Active, Slot, hash};
use crate::shared::Key;

/// gRPC's RESOURCE_EXHAUSTED. Without it a bounce becomes UNAVAILABLE, which outlier detection
/// counts as a failure of the endpoint.
const RESOURCE_EXHAUSTED: i32 = 8;

/// What the gate said, as metrics tell it.
const VERDICTS: [&str; 4] = ["admitted", "forced", "bounced", "shed"];

/// A policy with its state in this VM.
pub(crate) struct ServerPolicy {
    pub(crate) policy: Policy,
    state: Rc<RefCell<Server>>,
    gate: Key,
    sums: Key,
    /// Requests that began (above zero) or ended (below) and could not be told to the gate. One
    /// for all configurations of the policy, whose streams may outlive theirs.
    untold: Rc<Cell<i32>>,
    /// Where callers share a switch, and this is home: what came here.
    home: Option<Rc<RefCell<Home>>>,
    totals: Key,
    verdicts: [Counter; 4],
    unknown: Counter,
    demand: Gauge,
    load: [Gauge; 2],
}

impl ServerPolicy {
    #[inline(never)]
    pub(crate) fn new(policy: Policy, own: &str, old: Option<&Self>) -> Self {
        let gate = Key::new::<Gate>(&[&policy.id]);
        let sums = Key::new::<Sums>(&[&policy.id]);
        let totals = Key::new::<Totals>(&[&policy.id]);
        // Where it fails, the first store creates them.
        if policy.capacity.is_some() {
            let _ = gate.create::<Gate>();
            let _ = sums.create::<Sums>();
        }
        let shares = matches!(policy.mode, Mode::SwitchService(_)) && policy.home == own;
        if shares {
            let _ = totals.create::<Totals>();
        }
        let home = || old.and_then(|o| o.home.clone()).unwrap_or_default();
        Self {
            verdicts: Default::default(),
            unknown: Counter::default(),
            demand: Gauge::default(),
            load: Default::default(),
            state: old.map_or_else(Rc::default, |o| o.state.clone()),
            untold: old.map_or_else(Rc::default, |o| o.untold.clone()),
            home: shares.then(home),
            gate,
            sums,
            totals,
            policy,
        }
    }

    pub(crate) fn tick(&self, now: u64) {
        match &self.policy.capacity {
            Some(capacity) => self.sum(capacity, now),
            None => {
                if self.state.borrow_mut().forget() {
                    self.tell(&Sums::default());
                }
            }
        }
        if let (Some(home), Mode::SwitchService(limits)) = (&self.home, &self.policy.mode) {
            self.total(&mut home.borrow_mut(), limits, now);
        }
        self.flush();
    }

    /// Hands what this thread saw to the shared totals, and takes the epoch from them.
    #[inline(never)]
    fn total(&self, home: &mut Home, limits: &Limits, now: u64) {
        let seen = home.drain();
        let (totals, stored) = self.totals.update(|totals: Totals| {
            let next = totals.tick(limits, now, || seed(now), &seen);
            (Some(next), next)
        });
        if stored {
            home.on_totals(totals);
        } else {
            home.restore(&seen);
        }
    }

    /// Hands what was counted to the host.
    fn flush(&self) {
        let service = ("service", self.policy.name.as_str());
        let metric = if self.policy.shadow {
            "spillway_shadow_gate"
        } else {
            "spillway_gate"
        };
        for (verdict, counter) in VERDICTS.into_iter().zip(&self.verdicts) {
            counter.flush(|| name(metric, &[service, ("verdict", verdict)]));
        }
        self.unknown
            .flush(|| name("spillway_callers_without_filter", &[service]));
    }

    /// Hands this thread's counts to the shared sums, and takes the load from them.
    #[inline(never)]
    fn sum(&self, capacity: &Capacity, now: u64) {
        self.settle(0);
        let in_flight = if capacity.concurrency.is_some() {
            self.gate.read::<Gate>().in_flight
        } else {
            0
        };
        let mut state = self.state.borrow_mut();
        let counts = state.drain();
        let (sums, stored) = self.sums.update(|sums: Sums| {
            let next = sums.tick(capacity, now, counts, in_flight);
            (Some(next), next)
        });
        if !stored {
            state.restore(counts);
            return;
        }
        state.on_sums(&sums, now);
        self.tell(&sums);
    }

    /// Tells the demand and the load to those who read metrics.
    fn tell(&self, sums: &Sums) {
        let service = ("service", self.policy.name.as_str());
        self.demand.set(sums.demand_milli(), || {
            name("spillway_rate_milli", &[service])
        });
        let classes = [(Class::Own, "own"), (Class::Overflow, "overflow")];
        for (gauge, (class, label)) in self.load.iter().zip(classes) {
            gauge.set(u64::from(sums.rho(class)), || {
                name("spillway_load_milli", &[service, ("class", label)])
            });
        }
    }

    /// Asks the gate: the verdict, and whether the request counts as in flight. When other threads
    /// win four times in a row, the verdict holds all the same; what it counts is told later.
    fn decide(&self, request: &Classified, capacity: &Capacity, slot: &Slot) -> (Verdict, bool) {
        let now = slot.read_clock();
        let untold = self.untold.get();
        let (verdict, stored) = self.gate.update(|gate: Gate| {
            let (next, verdict) = gate.settle(untold).decide(capacity, now, request.ask);
            (verdict.serves().then_some(next), verdict)
        });
        let counts = verdict.serves() && capacity.concurrency.is_some();
        if stored && verdict.serves() {
            self.untold.set(0);
        } else if counts {
            self.untold.set(untold.saturating_add(1));
        }
        (verdict, counts)
    }

    /// Tells the gate that so many more are in flight, or fewer, and what it was not told before.
    fn settle(&self, change: i32) {
        let untold = self.untold.get().saturating_add(change);
        let stored = untold == 0
            || self
                .gate
                .update(|gate: Gate| (Some(gate.settle(untold)), ()))
                .1;
        self.untold.set(if stored { 0 } else { untold });
    }

    fn count(&self, verdict: Verdict) {
        let [admitted, forced, bounced, shed] = &self.verdicts;
        let counter = match verdict {
            Verdict::Admit => admitted,
            Verdict::Force => forced,
            Verdict::Bounce => bounced,
            Verdict::Shed => shed,
        };
        counter.add(1);
    }
}

/// What a policy that is no longer in force has counted ends with the last of its requests.
impl Drop for ServerPolicy {
    fn drop(&mut self) {
        self.settle(0);
        self.flush();
    }
}

/// Tells this endpoint, from now on, from all others: by the proxy's name, and by the clock, which
/// goes on when the proxy is restarted.
fn seed(now: u64) -> u64 {
    let node = host::property(path::NODE_ID).ok().flatten();
    hash(&node.unwrap_or_default()) ^ now
}

/// Whether this sidecar's workload is the policy's target.
pub(crate) fn is_served_here(policy: &Policy) -> bool {
    policy.workload.as_ref().is_none_or(matches)
}

/// Whether this sidecar carries all labels of the workload.
fn matches(workload: &Workload) -> bool {
    workload.labels.iter().all(|(label, wanted)| {
        let path = [path::LABELS, label.as_bytes()].concat();
        host::property(&path).is_ok_and(|v| v.is_some_and(|v| *v == *wanted.as_bytes()))
    })
}

/// A request and its answer.
pub(crate) struct ServerStream {
    slot: Rc<Slot>,
    active: Rc<Active>,
    serves: Option<Serves>,
    /// The answer is the gate's own.
    ours: bool,
}

/// The policy of a request that is being served.
struct Serves {
    by: Rc<ServerPolicy>,
    request: Classified,
    /// It counts as in flight.
    counted: bool,
    /// For a caller that shares a switch.
    news: Option<News>,
}

impl ServerStream {
    pub(crate) const fn new(slot: Rc<Slot>, active: Rc<Active>) -> Self {
        Self {
            slot,
            active,
            serves: None,
            ours: false,
        }
    }

    /// The policy of a request, and its header if that is to be believed.
    fn policy<'a>(&self, request: &Request<'a>) -> Option<(Rc<ServerPolicy>, Option<Hop<'a>>)> {
        let hop = request.ours.hop.and_then(Hop::parse);
        let named = hop.and_then(|hop| self.active.config.policy_for_hop(&hop));
        if let Some(by) = named.and_then(|at| self.active.server(at)) {
            return Some((by.clone(), hop));
        }
        let mut mine = self
            .active
            .servers
            .iter()
            .map(|(_, by)| by)
            .filter(|by| by.policy.workload.is_some())
            .peekable();
        mine.peek()?;
        let cluster = host::property(path::ENVOY_CLUSTER)
            .ok()
            .flatten()
            .unwrap_or_default();
        let port = core::str::from_utf8(&cluster)
            .ok()
            .and_then(EnvoyCluster::parse)?
            .port;
        let serves = |by: &&Rc<ServerPolicy>| {
            by.policy
                .workload
                .as_ref()
                .is_some_and(|w| w.ports.is_empty() || w.ports.contains(&port))
        };
        mine.find(serves).map(|by| (by.clone(), None))
    }

    /// Answers in place of the application; false where the host refuses: better served than
    /// lost.
    fn refuse(&self, by: &ServerPolicy, request: &Classified, verdict: Verdict) -> bool {
        let mut load = self.slot.buffer.take();
        let rho = by.state.borrow().rho_for(request).unwrap_or_default();
        Load {
            cluster: &self.active.config.own,
            rho,
            attempt: request.attempt,
        }
        .write(&mut load);
        let (status, details, pair) = match verdict {
            // The caller's side makes a 503 of it. Outlier detection, which sits in between, would
            // count a 503 as a failure, and eject the endpoint for being full.
            Verdict::Shed => (429, "spillway_shed", (header::SHED, "exhausted")),
            _ => (429, "spillway_bounced", (header::BOUNCE, "1")),
        };
        let headers = pairs::encode(&[
            (header::LOAD.as_bytes(), &load),
            (pair.0.as_bytes(), pair.1.as_bytes()),
        ]);
        self.slot.buffer.replace(load);
        host::respond(status, details, &headers, RESOURCE_EXHAUSTED).is_ok()
    }
}

impl ServerStream {
    #[inline(never)]
    pub(crate) fn on_request_headers(&mut self) -> Action {
        let map = host::headers(Map::Request)
            .ok()
            .flatten()
            .unwrap_or_default();
        let config = &self.active.config;
        let request = Request::read(&map, &config.prefix_header);
        #[cfg(feature = "trap")]
        crate::request::trap(&map);
        let policy = self.policy(&request);
        if let Some((by, hop)) = &policy {
            let classified = by.state.borrow_mut().on_request(
                hop.as_ref(),
                request.attempt,
                &config.own,
                by.policy.shed,
            );
            if !classified.known {
                by.unknown.add(1);
            }
            let shadow = by.policy.shadow || classified.shadow;
            // Without Shadow it would be elsewhere, so it takes nobody's room.
            let elsewhere = by.policy.shadow && classified.shadow && classified.ask.returned;
            let news = by.home.as_ref().and_then(|home| {
                let mut home = home.borrow_mut();
                let epoch = request.ours.hop.and_then(Epoch::of_hop);
                home.on_request(hop.as_ref(), epoch, request.attempt, &config.own)
            });
            let mut counted = false;
            if let Some(capacity) = &by.policy.capacity
                && !elsewhere
            {
                let verdict;
                (verdict, counted) = by.decide(&classified, capacity, &self.slot);
                by.count(verdict);
                by.state.borrow_mut().on_verdict(verdict);
                if matches!(verdict, Verdict::Bounce | Verdict::Shed)
                    && !shadow
                    && self.refuse(by, &classified, verdict)
                {
                    self.ours = true;
                    return Action::Pause;
                }
            }
            self.serves = Some(Serves {
                by: by.clone(),
                request: classified,
                counted,
                news,
            });
        }
        request.ours.strip(Map::Request, false);
        if request.ours.hops > 0 {
            let _ = host::remove_header(Map::Request, header::HOP.as_bytes());
        }
        if policy.is_none_or(|(by, _)| !by.policy.shadow) {
            tag(
                Map::Request,
                config,
                self.serves.is_some(),
                request.ours.prefix,
            );
        }
        Action::Continue
    }

    #[inline(never)]
    pub(crate) fn on_response_headers(&mut self) {
        if self.ours {
            return;
        }
        let map = host::headers(Map::Response)
            .ok()
            .flatten()
            .unwrap_or_default();
        let config = &self.active.config;
        let response = Response::read(&map, &config.prefix_header);
        response.ours.strip(Map::Response, false);
        if response.ours.hops > 0 {
            let _ = host::remove_header(Map::Response, header::HOP.as_bytes());
        }
        let Some(Serves {
            by, request, news, ..
        }) = &self.serves
        else {
            tag(Map::Response, config, false, response.ours.prefix);
            return;
        };
        let rho = by.state.borrow().rho_for(request);
        if rho.is_some() || news.is_some() {
            let mut load = self.slot.buffer.take();
            Load {
                cluster: &config.own,
                rho: rho.unwrap_or_default(),
                attempt: request.attempt,
            }
            .write(&mut load);
            if let Some(news) = news {
                news.append(&mut load);
            }
            let _ = host::set_header(Map::Response, header::LOAD.as_bytes(), &load);
            self.slot.buffer.replace(load);
        }
        if !by.policy.shadow {
            tag(Map::Response, config, true, response.ours.prefix);
        }
    }
}

/// Sets the header with this cluster's prefix, if it has one and `serves`; takes off any other.
fn tag(map: Map, config: &Config, serves: bool, present: bool) {
    let name = config.prefix_header.as_bytes();
    if present {
        let _ = host::remove_header(map, name);
    }
    if serves && !config.prefix.is_empty() {
        let _ = host::set_header(map, name, config.prefix.as_bytes());
    }
}

/// A request in flight ends with its stream, however it ends.
impl Drop for ServerStream {
    fn drop(&mut self) {
        if let Some(Serves {
            by, counted: true, ..
        }) = &self.serves
        {
            by.settle(-1);
        }
    }
}
