//! Leader election: of several replicas one writes.
//!
//! The election is a `Lease` of the API server, as Kubernetes' own components hold it. The holder
//! renews it; who sees it unrenewed for its duration may take it. Nobody's wall clock matters: a
//! candidate measures by its own monotonic clock how long the Lease has stood there unchanged, and
//! the times inside it are for people.
//!
//! A leader stops *before* others may begin. It may write until [`Terms::renew_within`] after the
//! last renewal was **sent**; the others wait for [`Terms::duration`] after they **saw** it. What
//! lies between the two is for requests that are under way. A leader that was paused and wakes up
//! finds by [`Lease::still_leads`] that its time is over, without asking anybody; so that check
//! stands before every write. A request that was sent in time and arrives too late is not caught
//! here: writes carry a resourceVersion for that.
//!
//! A [`Lease`] is one term. One that was lost never comes back to life, also when the same process
//! is elected again: what was planned in between belongs to somebody else's state.

mod election;
mod record;
mod term;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

pub use self::election::{Election, stand};
pub use self::term::{Candidate, Lease};

/// Which Lease, and for how long it is held.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who holds it; see [`identity`].
    pub identity: String,
    /// How long the others wait for a holder that does not renew.
    pub duration: Duration,
    /// How long a holder writes after its last renewal; less than `duration`.
    pub renew_within: Duration,
    /// How often the holder renews, and the others look.
    pub retry: Duration,
}

impl Terms {
    /// With the times of Kubernetes' own components: after a leader was killed another one leads
    /// within 17 s.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// An identity that no other process has, nor this one after a restart: a container that is
/// started again keeps the pod's name.
#[must_use]
pub fn identity(name: &str) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{name}_{random:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_have_one_identity() {
        assert_ne!(identity("pod"), identity("pod"));
        assert!(identity("pod").starts_with("pod_"));
    }
}
