//! The burst workshop's watcher: a process that asks Prometheus each second for the rate of the
//! last 15 s, sends all requests to the other cluster when it is above one limit, and all back when
//! it is below another.
//!
//! Modelled in its favour: a new route is in force at once, and neither Prometheus nor the watcher
//! is ever away.

use std::collections::VecDeque;

/// How often it looks, seconds.
pub const LOOK: f64 = 1.0;
/// How often Prometheus scrapes, seconds.
pub const SCRAPE: f64 = 5.0;
/// The range of its `rate()`, seconds.
pub const RANGE: f64 = 15.0;

/// Its state.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    enter: f64,
    leave: f64,
    samples: VecDeque<(f64, u64)>,
    switched: bool,
}

impl Watcher {
    /// With limits, requests a second.
    #[must_use]
    pub fn new(enter: f64, leave: f64) -> Self {
        Self {
            enter,
            leave,
            ..Self::default()
        }
    }

    /// Prometheus reads the counter of all requests.
    pub fn scrape(&mut self, time: f64, total: u64) {
        self.samples.push_back((time, total));
        while self
            .samples
            .front()
            .is_some_and(|(t, _)| *t <= time - 2.0 * RANGE)
        {
            self.samples.pop_front();
        }
    }

    /// It looks; what it switches to, if it does.
    pub fn look(&mut self, time: f64) -> Option<bool> {
        let rate = self.rate(time)?;
        let switched = if rate > self.enter {
            true
        } else if rate < self.leave {
            false
        } else {
            return None;
        };
        (core::mem::replace(&mut self.switched, switched) != switched).then_some(switched)
    }

    /// Prometheus' `rate()`: what the samples in the range tell, extended to its ends, since these
    /// are never further away than a tenth more than the samples from each other.
    #[must_use]
    pub fn rate(&self, time: f64) -> Option<f64> {
        let within = |(t, _): &&(f64, u64)| *t > time - RANGE && *t <= time;
        let (first, before) = self.samples.iter().find(within)?;
        let (last, after) = self.samples.iter().rfind(within)?;
        (last > first).then(|| (after - before) as f64 / (last - first))
    }

    /// All requests go elsewhere.
    #[must_use]
    pub const fn switched(&self) -> bool {
        self.switched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it switches after a step at `at`, from one rate to another.
    fn switches(at: f64, from: f64, to: f64) -> Option<(f64, bool)> {
        let mut watcher = Watcher::new(15.0, 10.0);
        watcher.switched = from > 15.0;
        for second in 0..100 {
            let time = f64::from(second);
            if second % 5 == 0 {
                let total = time.min(at) * from + (time - at).max(0.0) * to;
                watcher.scrape(time, total as u64);
            }
            if let Some(to) = watcher.look(time) {
                return Some((time - at, to));
            }
        }
        None
    }

    #[test]
    fn it_needs_seconds_to_see_a_step() {
        // Two samples 10 s apart have to tell more than 15/s.
        assert_eq!(switches(40.0, 5.0, 20.0), Some((10.0, true)));
        assert_eq!(switches(41.0, 5.0, 20.0), Some((9.0, true)));
        assert_eq!(switches(40.0, 5.0, 75.0), Some((5.0, true)));
        assert_eq!(switches(40.0, 20.0, 5.0), Some((10.0, false)));
        assert_eq!(switches(40.0, 12.0, 14.0), None);
    }
}
