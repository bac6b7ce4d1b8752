//! Which requests fail, and which ones there were.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

/// Some of the requests.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    method: Option<Method>,
    path: String,
}

impl Requests {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of this method: an apply is a PATCH, a watch is a GET.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Those with this text somewhere in path and query, such as `/namespaces/shop/` or
    /// `watch=true`.
    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path);
        self
    }

    fn include(&self, seen: &Seen) -> bool {
        let method = self.method.as_ref();
        method.is_none_or(|method| *method == seen.method) && seen.path.contains(&self.path)
    }
}

/// A request that came to the proxy.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// The error that the proxy itself answered; none where it was passed on.
    pub failed: Option<StatusCode>,
}

struct Fault {
    times: usize,
    requests: Requests,
    status: StatusCode,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    seen: Vec<Seen>,
}

#[derive(Default)]
pub(super) struct Faults {
    state: Mutex<State>,
}

impl Faults {
    pub(super) fn add(&self, times: usize, requests: Requests, status: StatusCode) {
        self.state().faults.push(Fault {
            times,
            requests,
            status,
        });
    }

    pub(super) fn clear(&self) {
        self.state().faults.clear();
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Writes a request down, and says how it fails, if it does.
    pub(super) fn arrived(&self, request: &Parts) -> Option<StatusCode> {
        let mut seen = Seen {
            method: request.method.clone(),
            path: request
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            failed: None,
        };
        let mut state = self.state();
        let due = |fault: &&mut Fault| fault.times > 0 && fault.requests.include(&seen);
        if let Some(fault) = state.faults.iter_mut().find(due) {
            fault.times -= 1;
            seen.failed = Some(fault.status);
        }
        let failed = seen.failed;
        state.seen.push(seen);
        failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
