//! Whether the process lives, and whether it is of use.
//!
//! It *lives* as long as its loops come round: each has a [`Pulse`] that it beats, and one that has
//! not beaten for too long is stuck, or has ended by mistake, which only a restart mends. A cluster, a registry or an API
//! server that is away never makes the process unhealthy: a restart would not bring it back, and
//! would take what is known of the others.
//!
//! It is *ready* once all that it [`Need`]s to know is known, such as the hub's resources, and
//! until it is asked to end. A replica that does not lead is ready as well: it stands by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Collects what the loops say; clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    pulses: BTreeMap<u64, Beaten>,
    next: u64,
    needs: BTreeMap<&'static str, bool>,
    ending: bool,
}

#[derive(Debug)]
struct Beaten {
    name: &'static str,
    last: Instant,
    within: Duration,
    gone: bool,
}

impl Health {
    /// A loop that beats at least so often, until the process ends: one that drops its pulse before
    /// has ended too early.
    #[must_use]
    pub fn pulse(&self, name: &'static str, within: Duration, now: Instant) -> Pulse {
        let mut inner = self.inner();
        inner.next += 1;
        let id = inner.next;
        let last = now;
        inner.pulses.insert(
            id,
            Beaten {
                name,
                last,
                within,
                gone: false,
            },
        );
        Pulse {
            health: self.clone(),
            id,
            within,
        }
    }

    /// Something that must be known before the process is of use.
    #[must_use]
    pub fn need(&self, name: &'static str) -> Need {
        self.inner().needs.insert(name, false);
        Need {
            health: self.clone(),
            name,
        }
    }

    /// From here on it is not ready any more.
    pub fn end(&self) {
        self.inner().ending = true;
    }

    /// The loops that are stuck; none: it lives.
    #[must_use]
    pub fn alive(&self, now: Instant) -> Vec<String> {
        let inner = self.inner();
        if inner.ending {
            return Vec::new();
        }
        let stuck = inner.pulses.values().filter_map(|pulse| {
            if pulse.gone {
                return Some(format!("{} has ended", pulse.name));
            }
            let silent = now.saturating_duration_since(pulse.last);
            (silent > pulse.within).then(|| {
                let (name, silent) = (pulse.name, silent.as_secs());
                format!("{name} is stuck: nothing from it for {silent} s")
            })
        });
        stuck.collect()
    }

    /// What is in the way of its use; nothing: it is ready.
    #[must_use]
    pub fn ready(&self, now: Instant) -> Vec<String> {
        let mut problems = self.alive(now);
        let inner = self.inner();
        if inner.ending {
            problems.push("it is ending".to_owned());
        }
        let missing = inner.needs.iter().filter(|(_, met)| !**met);
        problems.extend(missing.map(|(name, _)| format!("waits for {name}")));
        problems
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop's sign of life.
#[derive(Debug)]
pub struct Pulse {
    health: Health,
    id: u64,
    within: Duration,
}

impl Pulse {
    /// The loop came round.
    pub fn beat(&self, now: Instant) {
        if let Some(pulse) = self.health.inner().pulses.get_mut(&self.id) {
            pulse.last = now;
        }
    }

    /// Waits for as long as a loop with nothing to do may rest before it beats again.
    pub async fn rest(&self) {
        tokio::time::sleep(self.within / 4).await;
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(pulse) = self.health.inner().pulses.get_mut(&self.id) {
            pulse.gone = true;
        }
    }
}

/// Something that is known, or not yet.
#[derive(Debug)]
pub struct Need {
    health: Health,
    name: &'static str,
}

impl Need {
    /// It is known from here on.
    pub fn met(&self) {
        self.health.inner().needs.insert(self.name, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_loop_that_does_not_come_round_is_stuck() {
        let (health, start) = (Health::default(), Instant::now());
        let pulse = health.pulse("the planner", 30 * SECOND, start);
        assert!(health.alive(start + 30 * SECOND).is_empty());
        let stuck = ["the planner is stuck: nothing from it for 31 s"];
        assert_eq!(health.alive(start + 31 * SECOND), stuck);
        assert_eq!(health.ready(start + 31 * SECOND), stuck);
        pulse.beat(start + 31 * SECOND);
        assert!(health.alive(start + 60 * SECOND).is_empty());
        // It returned, or panicked.
        drop(pulse);
        assert_eq!(health.alive(start + 60 * SECOND), ["the planner has ended"]);
        health.end();
        assert!(health.alive(start + 60 * SECOND).is_empty());
    }

    #[test]
    fn it_is_ready_when_all_is_known_until_it_ends() {
        let (health, now) = (Health::default(), Instant::now());
        let (policies, clusters) = (health.need("BurstPolicies"), health.need("MeshClusters"));
        assert_eq!(
            health.ready(now),
            ["waits for BurstPolicies", "waits for MeshClusters"]
        );
        clusters.met();
        assert_eq!(health.ready(now), ["waits for BurstPolicies"]);
        policies.met();
        assert!(health.ready(now).is_empty());
        health.end();
        assert_eq!(health.ready(now), ["it is ending"]);
        assert!(health.alive(now).is_empty());
    }
}
