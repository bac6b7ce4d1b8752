//! What the rest of the process knows of the election: whether it may write, and until when.

use std::time::Instant;

use tokio::sync::watch;

/// A term that has not run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Counts the terms of this process.
    pub(super) term: u64,
    pub(super) until: Instant,
}

/// Where a process learns that it was elected.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub(super) held: watch::Receiver<Option<Held>>,
}

impl Candidate {
    /// Waits until this process leads. `None` when the election has ended.
    pub async fn elected(&mut self) -> Option<Lease> {
        let lasts = |held: &Held| Instant::now() < held.until;
        let held = self.held.wait_for(|held| held.as_ref().is_some_and(lasts));
        let term = held.await.ok()?.as_ref()?.term;
        Some(Lease {
            term,
            held: self.held.clone(),
        })
    }

    /// Whether this process leads.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        self.held.borrow().is_some_and(|held| now < held.until)
    }
}

/// One term of office.
#[derive(Clone, Debug)]
pub struct Lease {
    term: u64,
    held: watch::Receiver<Option<Held>>,
}

impl Lease {
    /// Whether a request may be sent now that must arrive only while this process leads.
    #[must_use]
    pub fn still_leads(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Until when this process may write; `None` once the term is over. The deadline of a write
    /// need not be later.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        let held = *self.held.borrow();
        held.filter(|held| held.term == self.term)
            .map(|held| held.until)
    }

    /// Waits until the term is over.
    pub async fn lost(&mut self) {
        while let Some(until) = self.until() {
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = self.held.changed() => if changed.is_err() { return },
            }
        }
    }
}
