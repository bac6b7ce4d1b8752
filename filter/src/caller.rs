//! The caller's side: one decision and one header a request, one look at each answer.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use spillway_core::caller::{Answer, Ask, Caller, Decision, Force, Reason};
use spillway_core::config::{EnvoyCluster, Mode, Policy, Rung};
use spillway_core::gate::{self, Class, Gate, Verdict};
use spillway_core::header::{self, Flags, Hop, Load};
use spillway_core::rate::Capacity;
use spillway_core::switch::Switch;
use spillway_core::totals::Limits;
use spillway_core::totals::epoch::{Epoch, News};
use spillway_core::totals::watch::Watch;

use crate::host::{self, Map, path};
use crate::metrics::{Counter, name};
use crate::request::{Request, Response};
use crate::root::{Active, Slot};
use crate::shared::Key;

/// A policy with its state in this VM.
pub(crate) struct CallerPolicy {
    pub(crate) policy: Policy,
    state: Rc<RefCell<Caller>>,
    switch: Key,
    switched: Cell<bool>,
    /// Requests since the last tick, for the switch.
    count: Cell<u64>,
    /// Where all callers share the switch.
    watch: Option<Rc<Watching>>,
    force: Cell<Option<Force>>,
    /// Of `maxRate`, one a rung.
    limits: Vec<Key>,
    /// One a reason and cluster, home first.
    decisions: Vec<Counter>,
    /// Closings, one a rung.
    closed: Vec<Counter>,
    not_repeated: Counter,
    /// Something was counted since the last tick.
    counted: Cell<bool>,
}

impl CallerPolicy {
    #[inline(never)]
    pub(crate) fn new(policy: Policy, old: Option<&Self>, now: u64) -> Self {
        let ladder = || {
            core::iter::once(policy.home.as_str())
                .chain(policy.rungs.iter().map(|r| r.cluster.as_str()))
        };
        // The low bits of the clock: enough to keep callers from spilling in step.
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        let seed = (now >> 10) as u32;
        let state = match old {
            Some(old) => {
                let known = old.state.borrow().clone();
                old.state.replace(known.adapt(ladder(), now, seed));
                old.state.clone()
            }
            None => Rc::new(RefCell::new(Caller::new(ladder(), now, seed))),
        };
        let switch = Key::new::<Switch>(&[&policy.id]);
        let switched = matches!(policy.mode, Mode::Switch(_)) && {
            let _ = switch.create::<Switch>(); // Where it fails, the first store creates it.
            switch.read::<Switch>().switched()
        };
        let limit = |rung: &Rung| {
            let key = Key::new::<Gate>(&["max", &policy.id, &rung.cluster]);
            if rung.max_rate.is_some() {
                let _ = key.create::<Gate>();
            }
            key
        };
        let caller = Self {
            decisions: ladder()
                .flat_map(|_| Reason::ALL.map(|_| Counter::default()))
                .collect(),
            closed: policy.rungs.iter().map(|_| Counter::default()).collect(),
            not_repeated: Counter::default(),
            counted: Cell::new(false),
            limits: policy.rungs.iter().map(limit).collect(),
            force: Cell::new(None),
            count: Cell::new(old.map_or(0, |o| o.count.take())),
            watch: matches!(policy.mode, Mode::SwitchService(_)).then(|| {
                let known = old.and_then(|old| old.watch.clone());
                known.unwrap_or_else(|| Rc::new(Watching::new(&policy.id, now)))
            }),
            switched: Cell::new(switched),
            switch,
            state,
            policy,
        };
        if caller.policy.force.is_some() {
            caller.set_force(host::wall_now().ok());
        }
        caller
    }

    /// The override, as long as it is not over. Without a clock it is off.
    fn set_force(&self, wall: Option<u64>) {
        let force = self
            .policy
            .force
            .filter(|o| wall.is_some_and(|now| now < o.until));
        self.force.set(force.map(|o| o.force));
    }

    #[inline(never)]
    pub(crate) fn tick(&self, now: u64, wall: Option<u64>) {
        self.set_force(wall);
        if let Mode::Switch(limits) = &self.policy.mode {
            let count = self.count.take();
            let (switched, stored) = self.switch.update(|switch: Switch| {
                let next = switch.tick(limits, now, count);
                (Some(next), next.switched())
            });
            if stored {
                self.switched.set(switched);
            } else {
                self.count.set(count);
            }
        }
        if let Some(watch) = &self.watch {
            watch.share();
        }
        self.flush();
    }

    /// Hands what was counted to the host.
    #[inline(never)]
    fn flush(&self) {
        if !self.counted.take() {
            return;
        }
        let policy = &self.policy;
        let service = ("service", policy.name.as_str());
        let metric = if policy.shadow {
            "spillway_shadow_decisions"
        } else {
            "spillway_decisions"
        };
        let rungs = || policy.rungs.iter().map(|rung| rung.cluster.as_str());
        let targets = core::iter::once(policy.home.as_str()).chain(rungs());
        let mut all = self
            .not_repeated
            .flush(|| name("spillway_bounces_not_repeated", &[service]));
        for (target, of_target) in targets.zip(self.decisions.chunks(Reason::ALL.len())) {
            for (reason, counter) in Reason::ALL.into_iter().zip(of_target) {
                let labels = [service, ("reason", reason.as_str()), ("target", target)];
                all &= counter.flush(|| name(metric, &labels));
            }
        }
        for (target, counter) in rungs().zip(&self.closed) {
            let labels = [service, ("target", target)];
            all &= counter.flush(|| name("spillway_rung_closed", &labels));
        }
        if !all {
            self.counted.set(true);
        }
    }

    /// One more request to a rung with a maximum rate; true where it may go.
    fn take(&self, rung: usize, slot: &Slot) -> bool {
        let (
            Some(Rung {
                max_rate: Some(rate),
                ..
            }),
            Some(key),
        ) = (self.policy.rungs.get(rung), self.limits.get(rung))
        else {
            return true;
        };
        let capacity = Capacity {
            rate: Some(*rate),
            concurrency: None,
        };
        let ask = gate::Ask {
            class: Class::Own,
            bounceable: true,
            returned: false,
            shed: false,
        };
        // By the tick's clock, up to a tick's worth more would go at once.
        let now = slot.read_clock();
        let (verdict, stored) = key.update(|bucket: Gate| {
            let (next, verdict) = bucket.decide(&capacity, now, ask);
            ((verdict == Verdict::Admit).then_some(next), verdict)
        });
        stored && verdict == Verdict::Admit
    }

    fn decide(&self, request: &Request<'_>, bodiless: bool, slot: &Slot) -> Decision {
        let policy = &self.policy;
        let now = slot.now.get();
        let switched = match policy.mode {
            Mode::Spill => None,
            Mode::Switch(_) => {
                self.count.set(self.count.get().saturating_add(1));
                Some(self.switched.get())
            }
            Mode::SwitchService(_) => self.watch.as_ref().map(|watch| watch.leaves(now)),
        };
        let ask = Ask {
            bounceable: policy.bounce && request.repeatable(policy.bodies, bodiless),
            never: policy
                .never
                .iter()
                .any(|prefix| request.path.starts_with(prefix.as_bytes())),
            force: self.force.get(),
            switched,
        };
        let mut state = self.state.borrow_mut();
        let decision = state.decide(ask, now, |rung| self.take(rung, slot));
        match &self.watch {
            Some(watch) => watch.on_decision(decision, now),
            None => decision,
        }
    }

    fn count(&self, decision: &Decision) {
        let place = decision.rung.map_or(0, |rung| rung.saturating_add(1));
        let at = place
            .saturating_mul(Reason::ALL.len())
            .saturating_add(decision.reason.index());
        self.add(self.decisions.get(at));
    }

    fn add(&self, counter: Option<&Counter>) {
        if let Some(counter) = counter {
            counter.add(1);
            self.counted.set(true);
        }
    }
}

/// What this thread knows of a switch that all callers share, and what the threads of this proxy
/// tell each other of it: a thread that starts knows the state, and none waits for its own next
/// request.
struct Watching {
    state: RefCell<Watch>,
    epoch: Key,
}

impl Watching {
    fn new(policy: &str, now: u64) -> Self {
        let epoch = Key::new::<Epoch>(&[policy]);
        let _ = epoch.create::<Epoch>(); // Where it fails, the first store creates it.
        Self {
            state: RefCell::new(Watch::new(epoch.read(), now)),
            epoch,
        }
    }

    /// Whether the next request leaves.
    fn leaves(&self, now: u64) -> bool {
        self.state.borrow().leaves(now)
    }

    /// Takes note of where a request goes. One that stays home although all have left asks for
    /// news.
    fn on_decision(&self, decision: Decision, now: u64) -> Decision {
        let mut state = self.state.borrow_mut();
        state.on_sent(decision.rung.is_none(), now);
        if state.epoch().switched() && decision.reason == Reason::Below {
            Decision {
                reason: Reason::Probe,
                ..decision
            }
        } else {
            decision
        }
    }

    fn on_news(&self, limits: &Limits, load: &[u8], now: u64) {
        if let Some(news) = News::of_load(load) {
            self.state.borrow_mut().on_news(limits, &news, now);
        }
    }

    #[inline(never)]
    fn share(&self) {
        let mut state = self.state.borrow_mut();
        self.epoch.update(|shared: Epoch| {
            state.follow(shared);
            let ours = state.epoch();
            ((ours != shared).then_some(ours), ())
        });
    }
}

/// What a policy that is no longer in force has counted ends with the last of its requests.
impl Drop for CallerPolicy {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A request and its answer.
pub(crate) struct CallerStream {
    slot: Rc<Slot>,
    active: Rc<Active>,
    sent: Option<Sent>,
}

/// Where a request was sent.
struct Sent {
    by: Rc<CallerPolicy>,
    rung: Option<usize>,
    bounceable: bool,
    /// Envoy can repeat it for certain.
    small: bool,
}

impl CallerStream {
    pub(crate) const fn new(slot: Rc<Slot>, active: Rc<Active>) -> Self {
        Self {
            slot,
            active,
            sent: None,
        }
    }

    /// The policy for the destination that Envoy chose.
    fn policy(&self) -> Option<Rc<CallerPolicy>> {
        let cluster = host::property(path::ENVOY_CLUSTER).ok().flatten()?;
        let mut last = self.active.last.borrow_mut();
        if last.0 != cluster {
            let name = core::str::from_utf8(&cluster).unwrap_or_default();
            last.1 = self.active.config.policy_for_cluster(name);
            last.0 = cluster;
        }
        self.active.callers.get(last.1?).cloned()
    }

    /// What Shadow sends: home, with an echo of one, so that the server knows the demand. What
    /// would have spilled says that it came home all the same, and the gate leaves it out.
    fn shadow(decision: Decision) -> Decision {
        let spills = decision.rung.is_some();
        Decision {
            rung: None,
            echo: 1,
            bounceable: !spills && decision.bounceable,
            returned: spills,
            ..decision
        }
    }
}

impl CallerStream {
    #[inline(never)]
    pub(crate) fn on_request_headers(&mut self, end_of_stream: bool) {
        let policy = self.policy();
        let map = host::headers(Map::Request)
            .ok()
            .flatten()
            .unwrap_or_default();
        let request = Request::read(&map, &self.active.config.prefix_header);
        #[cfg(feature = "trap")]
        crate::request::trap(&map);
        request.ours.strip(Map::Request, false);
        let shadow = policy.as_ref().is_some_and(|by| by.policy.shadow);
        if request.ours.prefix && !shadow {
            let _ = host::remove_header(Map::Request, self.active.config.prefix_header.as_bytes());
        }
        if request.ours.hops > 1 || (policy.is_none() && request.ours.hops > 0) {
            let _ = host::remove_header(Map::Request, header::HOP.as_bytes());
        }
        let Some(by) = policy else {
            return;
        };
        let decided = by.decide(&request, end_of_stream, &self.slot);
        by.count(&decided);
        let decision = if shadow {
            Self::shadow(decided)
        } else {
            decided
        };
        let flags = Flags {
            bounceable: decision.bounceable,
            returned: decision.returned,
            shadow,
        };
        let start = decision
            .rung
            .and_then(|rung| by.policy.rungs.get(rung))
            .map_or(&by.policy.home_hop, |rung| &rung.hop);
        let mut hop = self.slot.buffer.take();
        Hop::finish(&mut hop, start, decision.echo, flags);
        if let Some(watch) = &by.watch {
            watch.state.borrow().epoch().append(&mut hop);
        }
        let set = host::set_header(Map::Request, header::HOP.as_bytes(), &hop);
        self.slot.buffer.replace(hop);
        if decided.reason != Reason::Below {
            // Only a log line hangs on it.
            let reason = reason(decided.reason, shadow);
            let _ = host::set_property(path::REASON, reason.as_bytes());
        }
        // Without the header the request goes home and is nobody's news.
        if set.is_ok() {
            self.sent = Some(Sent {
                by,
                rung: decision.rung,
                bounceable: decision.bounceable,
                small: end_of_stream || request.small() == Some(true),
            });
        }
    }

    #[inline(never)]
    pub(crate) fn on_response_headers(&mut self) {
        let Some(sent) = self.sent.take() else {
            return;
        };
        let map = host::headers(Map::Response)
            .ok()
            .flatten()
            .unwrap_or_default();
        let response = Response::read(&map, &self.active.config.prefix_header);
        let shed = response.shed();
        if shed && !response.is_grpc() {
            // What the policy promises; see the gate's answer for why it came as a 429.
            let _ = host::set_header(Map::Response, b":status", b"503");
        }
        response.ours.strip(Map::Response, shed);
        if response.ours.hops > 0 {
            let _ = host::remove_header(Map::Response, header::HOP.as_bytes());
        }
        let load = response.ours.load.and_then(Load::parse);
        let policy = &sent.by.policy;
        if let (Some(watch), Mode::SwitchService(limits), Some(value)) =
            (&sent.by.watch, &policy.mode, response.ours.load)
            && load.is_some_and(|load| load.cluster == policy.home)
        {
            watch.on_news(limits, value, self.slot.now.get());
        }
        let rung = sent.rung.and_then(|at| policy.rungs.get(at));
        let strayed = rung.is_some_and(|rung| {
            load.is_none_or(|load| load.cluster != rung.cluster) && strayed_from(&rung.subset)
        });
        let target = rung.map_or(policy.home.as_str(), |rung| rung.cluster.as_str());
        let now = self.slot.now.get();
        let mut state = sent.by.state.borrow_mut();
        let Some(target) = state.place(target) else {
            return;
        };
        let was_closed = target > 0 && state.closed(target - 1, now);
        let bounced = response.bounced();
        if bounced {
            sent.by.add(Some(&sent.by.not_repeated));
        }
        let answer = Answer {
            target,
            bounceable: sent.bounceable,
            load: load.map(|load| (state.place(load.cluster), load.rho, load.attempt)),
            server_error: response.server_error(),
            not_repeated: bounced && sent.small,
            strayed,
        };
        state.on_answer(answer, now);
        if target > 0 && !was_closed && state.closed(target - 1, now) {
            sent.by.add(sent.by.closed.get(target - 1));
        }
    }
}

/// Whether Envoy sent the request by a route that is not the subset's: the route is missing, or
/// was taken back. Where the host does not say, it did not.
fn strayed_from(subset: &str) -> bool {
    let Ok(Some(cluster)) = host::property(path::ENVOY_CLUSTER) else {
        return false;
    };
    core::str::from_utf8(&cluster)
        .ok()
        .and_then(EnvoyCluster::parse)
        .is_some_and(|cluster| cluster.subset != subset)
}

/// The reason as access logs show it.
fn reason(reason: Reason, shadow: bool) -> String {
    let prefix = if shadow { "shadow:" } else { "" };
    [prefix, reason.as_str()].concat()
}
