//! A request on the caller's side: the header that it goes with, and what its answer tells.

use std::rc::Rc;

use spillway_core::caller::{Answer, Decision, Reason};
use spillway_core::config::{EnvoyCluster, Mode};
use spillway_core::header::{self, Flags, Hop, Load};

use super::CallerPolicy;
use crate::host::{self, Map, path};
use crate::request::{Request, Response};
use crate::root::{Active, Slot};

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
            watch.append_epoch(&mut hop);
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
