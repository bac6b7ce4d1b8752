//! How many requests come, and when.
//!
//! A [`Demand`] is a rate over time, constant between moments that it names itself, so that
//! Poisson arrivals need no thinning: a gap that ends after such a moment is drawn anew from there,
//! which changes nothing, as the exponential distribution has no memory. [`Bursts`] modulate it: a
//! Markov-modulated Poisson process of two states, of which on/off is the extreme.

use crate::random::{Random, nanos, seconds};

/// Curves are cut into steps of this length, seconds.
const STEP: f64 = 0.01;

/// Requests a second over time (seconds).
#[derive(Clone, Debug)]
pub enum Demand {
    /// Always the same.
    Constant(f64),
    /// From each time on, the rate beside it; nothing before the first. In the order of time.
    Steps(Vec<(f64, f64)>),
    /// From one rate to another between two times.
    Ramp {
        /// The rate until `start`.
        from: f64,
        /// The rate from `end` on.
        to: f64,
        /// When it begins.
        start: f64,
        /// When it ends.
        end: f64,
    },
    /// Around a mean, beginning upwards.
    Sine {
        /// The mean.
        mean: f64,
        /// How far it goes up and down.
        swing: f64,
        /// The length of a wave.
        period: f64,
    },
    /// Recorded: a rate for each step of this length.
    Recorded {
        /// The length of a step.
        step: f64,
        /// The rates.
        rates: Vec<f64>,
    },
}

impl Demand {
    /// The rate at a time, and until when it stays.
    #[must_use]
    pub fn at(&self, time: f64) -> (f64, f64) {
        match self {
            Self::Constant(rate) => (*rate, f64::INFINITY),
            Self::Steps(steps) => {
                let next = steps.partition_point(|(from, _)| *from <= time);
                let rate = next.checked_sub(1).and_then(|at| steps.get(at));
                let until = steps.get(next).map_or(f64::INFINITY, |(from, _)| *from);
                (rate.map_or(0.0, |(_, rate)| *rate), until)
            }
            Self::Ramp {
                from,
                to,
                start,
                end,
            } => {
                if time < *start {
                    (*from, *start)
                } else if time >= *end {
                    (*to, f64::INFINITY)
                } else {
                    let part = (time - start) / (end - start);
                    (from + (to - from) * part, time + STEP)
                }
            }
            Self::Sine {
                mean,
                swing,
                period,
            } => {
                let angle = core::f64::consts::TAU * time / period;
                ((mean + swing * libm::sin(angle)).max(0.0), time + STEP)
            }
            Self::Recorded { step, rates } => {
                let at = libm::floor(time / step + 1e-9);
                let rate = rates.get(at as usize);
                match rate {
                    Some(rate) => (*rate, (at + 1.0) * step),
                    None => (0.0, f64::INFINITY),
                }
            }
        }
    }
}

/// How arrivals cluster: a state in which the rate is a multiple of the mean, and one in which it
/// is what is left, each for exponentially distributed times.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    /// The rate in a burst, as a multiple of the mean.
    pub peak: f64,
    /// How long a burst lasts in the mean, seconds.
    pub on: f64,
    /// How long the time between two lasts in the mean, seconds.
    pub off: f64,
    /// All callers burst together; otherwise each by itself.
    pub together: bool,
}

impl Bursts {
    /// Nothing between the bursts.
    #[must_use]
    pub fn on_off(on: f64, off: f64, together: bool) -> Self {
        Self {
            peak: (on + off) / on,
            on,
            off,
            together,
        }
    }

    /// The multiple in each state; the mean stays what the demand says.
    fn factor(&self, burst: bool) -> f64 {
        if burst {
            self.peak
        } else {
            ((self.on + self.off - self.peak * self.on) / self.off).max(0.0)
        }
    }
}

/// Draws the arrivals of one stream of requests.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    demand: Demand,
    share: f64,
    bursts: Option<(Bursts, bool, f64)>,
}

impl Arrivals {
    /// This share of a demand.
    pub(crate) fn new(
        demand: Demand,
        share: f64,
        bursts: Option<Bursts>,
        random: &mut Random,
    ) -> Self {
        let bursts = bursts.map(|bursts| {
            let burst = random.share(bursts.on / (bursts.on + bursts.off));
            let mean = if burst { bursts.on } else { bursts.off };
            (bursts, burst, random.exponential(mean))
        });
        Self {
            demand,
            share,
            bursts,
        }
    }

    /// The time of the next arrival after `now`; `None` where none comes before `end`. Times in ns.
    pub(crate) fn next(&mut self, now: u64, end: u64, random: &mut Random) -> Option<u64> {
        let mut time = seconds(now);
        let end = seconds(end);
        while time < end {
            let (rate, mut until) = self.demand.at(time);
            let mut rate = rate * self.share;
            if let Some((bursts, burst, change)) = &mut self.bursts {
                if time >= *change {
                    *burst = !*burst;
                    let mean = if *burst { bursts.on } else { bursts.off };
                    *change += random.exponential(mean);
                    continue;
                }
                rate *= bursts.factor(*burst);
                until = until.min(*change);
            }
            let gap = if rate > 0.0 {
                random.exponential(1.0 / rate)
            } else {
                f64::INFINITY
            };
            if time + gap < until.min(end) {
                return Some(nanos(time + gap).max(now));
            }
            time = until;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(demand: Demand, bursts: Option<Bursts>, length: f64) -> Vec<f64> {
        let mut random = Random::new(7);
        let mut arrivals = Arrivals::new(demand, 1.0, bursts, &mut random);
        let (mut now, mut times) = (0, Vec::new());
        while let Some(next) = arrivals.next(now, nanos(length), &mut random) {
            now = next;
            times.push(seconds(next));
        }
        times
    }

    /// Variance of the counts in windows of a second, over their mean.
    fn dispersion(times: &[f64], length: usize) -> f64 {
        let mut counts = vec![0.0; length];
        for time in times {
            counts[*time as usize] += 1.0;
        }
        let mean = times.len() as f64 / length as f64;
        let variance = counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / length as f64;
        variance / mean
    }

    #[test]
    fn arrivals_keep_the_rate_of_each_demand() {
        let ramp = Demand::Ramp {
            from: 0.0,
            to: 200.0,
            start: 50.0,
            end: 150.0,
        };
        let sine = Demand::Sine {
            mean: 100.0,
            swing: 90.0,
            period: 10.0,
        };
        let recorded = Demand::Recorded {
            step: 50.0,
            rates: vec![0.0, 300.0, 0.0, 100.0],
        };
        let steps = Demand::Steps(vec![(0.0, 20.0), (100.0, 180.0)]);
        for demand in [Demand::Constant(100.0), ramp, sine, recorded, steps] {
            let times = count(demand.clone(), None, 200.0);
            let off = (times.len() as f64 - 20_000.0).abs();
            assert!(off < 600.0, "{} of {demand:?}", times.len());
        }
    }

    #[test]
    fn bursts_keep_the_mean_and_raise_the_dispersion() {
        let bursts = Bursts::on_off(1.0, 3.0, true);
        let times = count(Demand::Constant(100.0), Some(bursts), 1_000.0);
        let mean = times.len() as f64 / 1_000.0;
        assert!((85.0..115.0).contains(&mean), "{mean}");
        assert!(dispersion(&times, 1_000) > 20.0);
        let poisson = count(Demand::Constant(100.0), None, 1_000.0);
        assert!((0.85..1.15).contains(&dispersion(&poisson, 1_000)));
    }
}
