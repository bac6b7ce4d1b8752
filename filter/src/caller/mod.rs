//! The caller's side: one decision and one header a request, one look at each answer.
//!
//! Here is what a policy knows and decides; [`stream`] has the requests, [`watching`] the switch that
//! all callers share.

mod stream;
mod watching;

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use spillway_core::caller::{Ask, Caller, Decision, Force, Reason};
use spillway_core::config::{Mode, Policy, Rung};
use spillway_core::gate::{self, Class, Gate, Verdict};
use spillway_core::rate::Capacity;
use spillway_core::switch::Switch;

pub(crate) use self::stream::CallerStream;
use self::watching::Watching;
use crate::host;
use crate::metrics::{Counter, name};
use crate::request::Request;
use crate::root::Slot;
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

/// What a policy that is no longer in force has counted ends with the last of its requests.
impl Drop for CallerPolicy {
    fn drop(&mut self) {
        self.flush();
    }
}
