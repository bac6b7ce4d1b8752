//! Notices when the machine itself stood still.
//!
//! A test of a rate limit on a busy machine must tell "the gate let too much through" from "nobody
//! ran for 80 ms, and then everything arrived at once". The canary is a thread that sleeps for a
//! millisecond over and over and writes down the times when it woke far too late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::locks::locked;

/// A span of time in which the canary did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When it was last seen running.
    pub from: Instant,
    /// When it ran again.
    pub to: Instant,
}

impl Stall {
    /// Its length.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.to.duration_since(self.from)
    }
}

/// A watching thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Canary {
    stalls: Arc<Mutex<Vec<Stall>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Canary {
    /// Watches from now on, and keeps the gaps longer than `threshold` (20 ms is a good one).
    #[must_use]
    pub fn start(threshold: Duration) -> Self {
        let stalls = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (stalls, stop) = (Arc::clone(&stalls), Arc::clone(&stop));
            move || {
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                    let now = Instant::now();
                    if now.duration_since(last) > threshold {
                        locked(&stalls).push(Stall {
                            from: last,
                            to: now,
                        });
                    }
                    last = now;
                }
            }
        });
        Self {
            stalls,
            stop,
            thread: Some(thread),
        }
    }

    /// The stalls so far, in order.
    #[must_use]
    pub fn stalls(&self) -> Vec<Stall> {
        locked(&self.stalls).clone()
    }

    /// Whether the machine stood still at some time between the two instants.
    #[must_use]
    pub fn stalled_between(&self, from: Instant, to: Instant) -> bool {
        locked(&self.stalls)
            .iter()
            .any(|stall| stall.from < to && stall.to > from)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
