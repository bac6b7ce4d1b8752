//! Who decides: the code that ships, or one of the schemes that it is compared with.

use spillway_core::caller::{Ask, Decision, Reason};
use spillway_core::config::Mode;
use spillway_core::rate::SECOND;

use crate::callers::take;
use crate::events::Event;
use crate::random::nanos;
use crate::run::{EPOCH, Run, TICK, number};
use crate::scenario::{Scheme, tolerant};
use crate::watcher;

/// What a caller's part of the limit tolerates at once, in schemes that give it one; requests.
const PART_TOLERANCE: f64 = 3.0;

impl Run {
    /// Decides on a request of a thread.
    pub(crate) fn decide(&mut self, at: usize) -> Option<Decision> {
        let home = Decision {
            rung: None,
            echo: 1,
            bounceable: false,
            returned: false,
            reason: Reason::Below,
        };
        let away = Decision {
            rung: Some(0),
            reason: Reason::Over,
            ..home
        };
        let phase = self.threads.get(at)?.phase;
        // The filter reads the clock of its thread's last tick.
        let now = self.now + EPOCH - (self.now + phase) % TICK;
        let shares = self.shares(at, now);
        let thread = self.threads.get_mut(at)?;
        let process = self.processes.get_mut(thread.process)?;
        let callers = self.scenario.callers.get(process.group)?;
        process.count += 1;
        if !callers.filter {
            return Some(home);
        }
        Some(match self.scenario.scheme {
            Scheme::Spillway => {
                let ask = Ask {
                    bounceable: self.random.share(callers.bounceable),
                    never: self.random.share(callers.never),
                    force: None,
                    switched: match self.scenario.mode {
                        Mode::Spill => None,
                        Mode::SwitchService(_) => shares,
                        Mode::Switch(_) => Some(process.switch.switched()),
                    },
                };
                let rungs = &mut process.rungs;
                thread.state.decide(ask, now, |rung| {
                    let rung = rungs.get_mut(rung);
                    rung.is_none_or(|(limit, bucket)| take(*limit, bucket, now))
                })
            }
            Scheme::Watcher { .. } if self.watcher.switched() => away,
            Scheme::Watcher { .. } => home,
            Scheme::Split | Scheme::Controller(_) => {
                let now = self.now + EPOCH;
                if take(process.part, &mut process.bucket, now) {
                    home
                } else {
                    away
                }
            }
        })
    }

    /// Starts what decides besides the requests.
    pub(crate) fn start_deciding(&mut self) {
        match self.scenario.scheme {
            Scheme::Spillway => {}
            Scheme::Split => self.hand_out(false),
            Scheme::Controller(every) => {
                self.hand_out(false);
                self.after(nanos(every), Event::Look);
            }
            Scheme::Watcher { .. } => {
                self.after(nanos(watcher::LOOK), Event::Look);
                self.after(0, Event::Scrape);
            }
        }
        if matches!(self.scenario.mode, Mode::SwitchService(_)) {
            self.start_sharing();
        }
        if matches!(self.scenario.mode, Mode::Switch(_)) {
            for process in 0..self.processes.len() {
                let phase = self.random.any() % TICK;
                self.after(phase, Event::CallerTick(number(process)));
            }
        }
    }

    pub(crate) fn caller_tick(&mut self, at: u32) -> Option<()> {
        let limits = match self.scenario.mode {
            Mode::Switch(limits) => limits,
            Mode::SwitchService(_) => return self.share(at),
            Mode::Spill => return None,
        };
        let now = self.clock();
        let process = self.processes.get_mut(at as usize)?;
        let before = process.switch.switched();
        let count = core::mem::take(&mut process.count);
        process.switch = process.switch.tick(&limits, now, count);
        let after = process.switch.switched();
        if before != after {
            let time = self.time();
            self.measured.switches.push((time, at as usize, after));
        }
        self.again(TICK, Event::CallerTick(at));
        Some(())
    }

    /// The scheme's own process looks.
    pub(crate) fn look(&mut self) {
        match self.scenario.scheme {
            Scheme::Controller(every) => {
                self.hand_out(true);
                self.again(nanos(every), Event::Look);
            }
            Scheme::Watcher { .. } => {
                if let Some(switched) = self.watcher.look(self.time()) {
                    self.measured.switches.push((self.time(), 0, switched));
                }
                self.again(nanos(watcher::LOOK), Event::Look);
            }
            Scheme::Spillway | Scheme::Split => {}
        }
    }

    pub(crate) fn scrape(&mut self) {
        let total = self.processes.iter().map(|process| process.count).sum();
        self.watcher.scrape(self.time(), total);
        self.again(nanos(watcher::SCRAPE), Event::Scrape);
    }

    /// Gives every caller a part of the limit: by what it wanted lately, or all the same.
    fn hand_out(&mut self, by_demand: bool) {
        let limit = self.scenario.clusters.first().and_then(|home| {
            let limit = home.limit.as_ref()?;
            limit.per_second(home.endpoints)
        });
        let Some(limit) = limit else {
            return;
        };
        // A caller that wanted nothing gets the part of one request.
        let wants = |count: u64| if by_demand { count.max(1) as f64 } else { 1.0 };
        let all: f64 = self.processes.iter().map(|p| wants(p.count)).sum();
        for process in &mut self.processes {
            let part = limit * wants(core::mem::take(&mut process.count)) / all;
            process.part = Some(tolerant((SECOND as f64 / part) as u64, PART_TOLERANCE));
        }
    }
}
