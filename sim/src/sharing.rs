//! Callers that share a switch (`switch.scope: Service`), around [`spillway_core::totals`] as the
//! filter drives it: endpoints tell running totals as of their last tick, answers carry them and the
//! epoch behind the load, the threads of a caller exchange their epochs at ticks.
//!
//! Requests and endpoints that lie are modelled too, since what a request says is bounded by nothing
//! but what the others believe.

use core::num::NonZeroU32;

use spillway_core::caller::Decision;
use spillway_core::config::Mode;
use spillway_core::totals::Limits;
use spillway_core::totals::epoch::{Epoch, News};

use crate::events::Event;
use crate::run::{EPOCH, Run, TICK, number};
use crate::scenario::{Claim, Scheme};

impl Claim {
    /// What is said in place of an epoch.
    pub(crate) fn of(self, known: Epoch) -> Epoch {
        match self {
            Self::Next => known.next(),
            Self::Number(number) => Epoch::new(number).unwrap_or(known),
        }
    }
}

impl Run {
    /// The limits of a home that its callers share, with the endpoints that are known there: the
    /// controller tells both sides how many there are.
    pub(crate) fn shared_limits(&self, home: usize) -> Option<Limits> {
        let Mode::SwitchService(limits) = self.scenario.mode else {
            return None;
        };
        if self.scenario.scheme != Scheme::Spillway {
            return None;
        }
        let known = u32::try_from(self.sites.get(home)?.known.len()).ok()?;
        Some(Limits {
            endpoints: NonZeroU32::new(known).unwrap_or(NonZeroU32::MIN),
            ..limits
        })
    }

    /// The ticks of the callers' threads.
    pub(crate) fn start_sharing(&mut self) {
        for thread in 0..self.threads.len() {
            let phase = self.threads.get(thread).map_or(0, |thread| thread.phase);
            self.after(TICK - phase, Event::CallerTick(number(thread)));
        }
    }

    /// A thread of a caller ticks: whichever epoch is newer, its own or that of the others, both
    /// have it from now on. A caller counts as changed when its threads can know.
    pub(crate) fn share(&mut self, at: u32) -> Option<()> {
        let time = self.time();
        let thread = self.threads.get_mut(at as usize)?;
        let process = self.processes.get_mut(thread.process)?;
        let before = process.epoch.switched();
        thread.watch.follow(process.epoch);
        process.epoch = thread.watch.epoch();
        let after = process.epoch.switched();
        if before != after {
            self.measured.switches.push((time, thread.process, after));
        }
        self.again(TICK, Event::CallerTick(at));
        Some(())
    }

    /// Whether all requests of a thread leave; `None` where callers share nothing.
    pub(crate) fn shares(&self, at: usize, now: u64) -> Option<bool> {
        matches!(self.scenario.mode, Mode::SwitchService(_))
            .then(|| self.threads.get(at).is_some_and(|t| t.watch.leaves(now)))
    }

    /// A thread takes note of where a request goes; gives the epoch that the request says.
    pub(crate) fn told(&mut self, at: usize, decision: &Decision) -> Option<Epoch> {
        if !matches!(self.scenario.mode, Mode::SwitchService(_)) {
            return None;
        }
        let now = self.now;
        let thread = self.threads.get_mut(at)?;
        let group = self.processes.get(thread.process)?.group;
        let now = now + EPOCH - (now + thread.phase) % TICK;
        thread.watch.on_sent(decision.rung.is_none(), now);
        let known = thread.watch.epoch();
        let claim = self.scenario.callers.get(group)?.forged_epoch;
        Some(claim.map_or(known, |claim| claim.of(known)))
    }

    /// A thread learns from an answer of its home.
    pub(crate) fn learn(&mut self, at: usize, news: &News) -> Option<()> {
        let group = self.processes.get(self.threads.get(at)?.process)?.group;
        let home = *self.scenario.callers.get(group)?.ladder.first()?;
        let limits = self.shared_limits(home)?;
        let now = self.now;
        let thread = self.threads.get_mut(at)?;
        let now = now + EPOCH - (now + thread.phase) % TICK;
        thread.watch.on_news(&limits, news, now);
        Some(())
    }
}
