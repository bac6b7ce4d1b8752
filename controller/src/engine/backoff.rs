//! How long to wait after failures: twice as long each time, up to a limit, and never the same for
//! two clusters. A thousand clusters behind one broken network would otherwise all come back in
//! the same moment.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Delays that grow.
#[derive(Clone, Debug)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// From `shortest` to `longest`.
    #[must_use]
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            failures: 0,
        }
    }

    /// How long to wait after one more failure: between half and the whole of what has grown.
    pub fn after_failure(&mut self) -> Duration {
        let grown = self.shortest.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let whole = grown.min(self.longest);
        let half = whole / 2;
        half + part_of(half)
    }

    /// All is well again.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// The form in which kube's watchers take it.
impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.after_failure())
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.succeed();
    }
}

/// A random part of a time.
pub(super) fn part_of(whole: Duration) -> Duration {
    whole.mul_f64(random())
}

/// Between 0 and 1. The standard library's hasher is seeded by the operating system.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
    let random = bits as f64 / f64::from(u32::MAX);
    random.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_begin_anew() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(shortest, longest);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let whole = Duration::from_millis(whole);
            let delay = backoff.after_failure();
            assert!(
                delay >= whole / 2 && delay <= whole,
                "{delay:?} of {whole:?}"
            );
        }
        for _ in 0..100 {
            assert!(backoff.after_failure() <= longest);
        }
        backoff.succeed();
        assert!(backoff.after_failure() <= shortest);
    }

    #[test]
    fn two_clusters_do_not_come_back_together() {
        let delay = || Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).after_failure();
        let delays: std::collections::BTreeSet<Duration> = (0..20).map(|_| delay()).collect();
        assert!(delays.len() > 10, "{delays:?}");
    }
}
