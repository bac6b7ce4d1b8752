//! What a thread knows of a switch that all callers share, and what the threads of a proxy tell each
//! other of it: a thread that starts knows the state, and none waits for its own next request.

use core::cell::RefCell;

use spillway_core::caller::{Decision, Reason};
use spillway_core::totals::Limits;
use spillway_core::totals::epoch::{Epoch, News};
use spillway_core::totals::watch::Watch;

use crate::shared::Key;

/// The state of one policy's switch.
pub(super) struct Watching {
    state: RefCell<Watch>,
    epoch: Key,
}

impl Watching {
    pub(super) fn new(policy: &str, now: u64) -> Self {
        let epoch = Key::new::<Epoch>(&[policy]);
        let _ = epoch.create::<Epoch>(); // Where it fails, the first store creates it.
        Self {
            state: RefCell::new(Watch::new(epoch.read(), now)),
            epoch,
        }
    }

    /// Whether the next request leaves.
    pub(super) fn leaves(&self, now: u64) -> bool {
        self.state.borrow().leaves(now)
    }

    /// Takes note of where a request goes. One that stays home although all have left asks for
    /// news.
    pub(super) fn on_decision(&self, decision: Decision, now: u64) -> Decision {
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

    pub(super) fn on_news(&self, limits: &Limits, load: &[u8], now: u64) {
        if let Some(news) = News::of_load(load) {
            self.state.borrow_mut().on_news(limits, &news, now);
        }
    }

    #[inline(never)]
    pub(super) fn share(&self) {
        let mut state = self.state.borrow_mut();
        self.epoch.update(|shared: Epoch| {
            state.follow(shared);
            let ours = state.epoch();
            ((ours != shared).then_some(ours), ())
        });
    }

    /// The epoch behind a header.
    pub(super) fn append_epoch(&self, hop: &mut Vec<u8>) {
        self.state.borrow().epoch().append(hop);
    }
}
