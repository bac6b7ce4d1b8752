//! An open-loop load generator.
//!
//! Requests are sent when the schedule says so, whatever became of those before: a server that
//! slows down does not make its callers ask less, and latency counts from the intended time, so
//! that waiting is not left out (Tene's "coordinated omission"). What is in flight is bounded;
//! a request that would exceed the bound is dropped and counted.

mod outcome;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::{Semaphore, mpsc};

pub use self::outcome::{Outcome, Reply};
use crate::client::{Call, HttpClient, Target};
use crate::random::Random;

/// A stretch of constant rate.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Requests per second, over all targets.
    pub rate: f64,
    /// Its length.
    pub duration: Duration,
}

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// With exponential gaps, as independent users.
    Poisson,
    /// At even distances.
    Uniform,
}

/// A load that can be started.
#[derive(Clone, Debug)]
pub struct Load {
    targets: Vec<(f64, Target)>,
    calls: Vec<(f64, Call)>,
    steps: Vec<Step>,
    arrivals: Arrivals,
    seed: u64,
    most_in_flight: usize,
    keep_headers: Vec<&'static str>,
    repeats: u32,
}

impl Load {
    /// A load of GET requests with Poisson arrivals; targets and steps are to be added.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            targets: Vec::new(),
            calls: Vec::new(),
            steps: Vec::new(),
            arrivals: Arrivals::Poisson,
            seed,
            most_in_flight: 10_000,
            keep_headers: Vec::new(),
            repeats: 0,
        }
    }

    /// Adds a target with its share of the requests, in proportion to the others' weights.
    #[must_use]
    pub fn target(mut self, weight: f64, target: Target) -> Self {
        self.targets.push((weight, target));
        self
    }

    /// Adds a kind of request with its share, in proportion to the others' weights.
    #[must_use]
    pub fn call(mut self, weight: f64, call: Call) -> Self {
        self.calls.push((weight, call));
        self
    }

    /// Adds a stretch of time with this rate.
    #[must_use]
    pub fn step(mut self, rate: f64, duration: Duration) -> Self {
        self.steps.push(Step { rate, duration });
        self
    }

    /// Sets how requests follow one another.
    #[must_use]
    pub fn arrivals(mut self, arrivals: Arrivals) -> Self {
        self.arrivals = arrivals;
        self
    }

    /// Bounds the requests in flight (10,000 otherwise).
    #[must_use]
    pub fn most_in_flight(mut self, requests: usize) -> Self {
        self.most_in_flight = requests;
        self
    }

    /// Keeps these headers of each answer.
    #[must_use]
    pub fn keep_headers(mut self, names: &[&'static str]) -> Self {
        self.keep_headers.extend_from_slice(names);
        self
    }

    /// Sends what was not [`Reply::is_ok`] again at once, up to so many times, as an application
    /// does that retries. Each time is a request of its own.
    #[must_use]
    pub fn repeats(mut self, times: u32) -> Self {
        self.repeats = times;
        self
    }

    /// When each request is sent, counted from the start, and the numbers of its target and kind.
    /// The same on every run.
    #[must_use]
    pub fn schedule(&self) -> Vec<(Duration, usize, usize)> {
        let mut random = Random::new(self.seed);
        let mut schedule = Vec::new();
        let mut begin = Duration::ZERO;
        // How many requests' worth of time is left until the next one.
        let mut left = self.gap(&mut random);
        for step in &self.steps {
            let seconds = step.duration.as_secs_f64();
            let mut at = 0.0;
            while step.rate > 0.0 && at + left / step.rate < seconds {
                at += left / step.rate;
                let target = random.weighted(self.targets.iter().map(|(weight, _)| *weight));
                let call = random.weighted(self.calls.iter().map(|(weight, _)| *weight));
                schedule.push((begin + Duration::from_secs_f64(at), target, call));
                left = self.gap(&mut random);
            }
            left -= (seconds - at) * step.rate;
            begin += step.duration;
        }
        schedule
    }

    fn gap(&self, random: &mut Random) -> f64 {
        match self.arrivals {
            Arrivals::Poisson => random.exponential(),
            Arrivals::Uniform => 1.0,
        }
    }

    /// Starts sending; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When there is no target.
    pub fn start(mut self) -> Result<Running> {
        ensure!(!self.targets.is_empty(), "a load needs a target");
        if self.calls.is_empty() {
            self.calls.push((1.0, Call::get("/")));
        }
        let runtime = tokio::runtime::Handle::try_current()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, answers) = mpsc::unbounded_channel();
        let started = Instant::now();
        // A thread of its own: it sleeps to some tens of microseconds, tokio's timer to a
        // millisecond.
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || self.send_all(started, &runtime, &stop, &sender)
        });
        Ok(Running {
            started,
            stop,
            thread,
            answers,
        })
    }

    fn send_all(
        &self,
        started: Instant,
        runtime: &tokio::runtime::Handle,
        stop: &AtomicBool,
        sender: &mpsc::UnboundedSender<Reply>,
    ) -> Sent {
        // hyper's client spawns its timers as it is made.
        let guard = runtime.enter();
        let clients: Vec<_> = self
            .targets
            .iter()
            .map(|(_, target)| HttpClient::new(target))
            .collect();
        drop(guard);
        let calls: Vec<_> = self
            .calls
            .iter()
            .map(|(_, call)| Arc::new(call.clone()))
            .collect();
        let keep: Arc<[&'static str]> = self.keep_headers.clone().into();
        let in_flight = Arc::new(Semaphore::new(self.most_in_flight));
        let mut sent = Sent::default();
        for (offset, target, call) in self.schedule() {
            let intended = started + offset;
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            sent.intended += 1;
            let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else {
                sent.dropped += 1;
                continue;
            };
            let (Some(client), Some(request)) = (clients.get(target), calls.get(call)) else {
                continue;
            };
            let (client, request) = (client.clone(), Arc::clone(request));
            let (keep, sender) = (Arc::clone(&keep), sender.clone());
            let repeats = self.repeats;
            runtime.spawn(async move {
                let mut intended = intended;
                for _ in 0..=repeats {
                    let result = client.call(&request).await;
                    let ended = Instant::now();
                    let reply = Reply::new(intended, ended, target, call, result, &keep);
                    let is_ok = reply.is_ok();
                    // Nobody listens any more once the load was dropped.
                    let _ = sender.send(reply);
                    if is_ok {
                        break;
                    }
                    intended = ended;
                }
                drop(permit);
            });
        }
        sent
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    intended: usize,
    dropped: usize,
}

/// A load that is being sent.
#[derive(Debug)]
pub struct Running {
    started: Instant,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Sent>,
    answers: mpsc::UnboundedReceiver<Reply>,
}

impl Running {
    /// When it started: the schedule counts from here.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Sends nothing more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until everything was sent and answered.
    ///
    /// # Errors
    /// When the sending thread has panicked.
    pub async fn finish(mut self) -> Result<Outcome> {
        let mut replies = Vec::new();
        // Ends when the sending thread and every request have let go of the channel.
        while let Some(reply) = self.answers.recv().await {
            replies.push(reply);
        }
        let sent = self
            .thread
            .join()
            .ok()
            .context("the load's thread panicked")?;
        replies.sort_by_key(|reply| reply.intended);
        let Sent { intended, dropped } = sent;
        Ok(Outcome {
            started: self.started,
            replies,
            intended,
            dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_arrivals_keep_their_distance_over_a_change_of_the_rate() {
        let load = Load::new(1)
            .arrivals(Arrivals::Uniform)
            .step(10.0, Duration::from_millis(250))
            .step(0.0, Duration::from_secs(1))
            .step(100.0, Duration::from_millis(30));
        let times: Vec<_> = load
            .schedule()
            .iter()
            .map(|(at, ..)| at.as_millis())
            .collect();
        // Half a gap is left at the end of the first step: 5 ms at the rate of the last.
        assert_eq!(times, [100, 200, 1255, 1265, 1275]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let load = Load::new(3).step(1000.0, Duration::from_secs(100));
        let schedule = load.schedule();
        assert!(
            (schedule.len() as f64 - 100_000.0).abs() < 1_500.0,
            "{}",
            schedule.len()
        );
        assert_eq!(schedule, load.schedule());
        let mut per_second = [0.0_f64; 100];
        for (at, ..) in &schedule {
            per_second[at.as_secs() as usize] += 1.0;
        }
        let spread = per_second
            .iter()
            .map(|count| (count - 1000.0).powi(2))
            .sum::<f64>()
            / 100.0;
        assert!(
            (600.0..1600.0).contains(&spread),
            "variance {spread}, 1000 expected"
        );
    }
}
