//! The loads: how many requests a second the callers send, over time.
//!
//! Everybody gets the same requests at the same times. Each load begins below the limit for long
//! enough that a rate over 15 s is known, and most end so, since a return takes time too.

use std::f64::consts::TAU;
use std::time::Duration;

use crate::figures::Figure;

/// The primary's limit, requests a second: the burst workshop's.
pub(crate) const LIMIT: f64 = 15.0;

/// A schedule holds the rate constant for so long.
const GRAIN: f64 = 0.25;

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) name: &'static str,
    /// What happens, for the page.
    pub(crate) about: &'static str,
    /// Its length.
    pub(crate) seconds: f64,
    /// Requests a second at a time.
    rate: fn(f64) -> f64,
    /// What is told of it.
    pub(crate) figures: &'static [Figure],
    /// How often it is measured, unless something else is asked for.
    pub(crate) rounds: usize,
    /// When processes that decide, where there are any, are away.
    pub(crate) away: &'static [(f64, f64)],
}

const STEP: Demand = Demand {
    name: "step",
    about: "from 5/s to 30/s within an instant, for 25 s, and back",
    seconds: 70.0,
    rate: |t| if (15.0..40.0).contains(&t) { 30.0 } else { 5.0 },
    figures: &Figure::REACTION,
    rounds: 3,
    away: &[],
};

const RAMP: Demand = Demand {
    name: "ramp",
    about: "from 5/s up to 45/s within 25 s, and back within 15 s",
    seconds: 78.0,
    rate: |t| {
        let up = 40.0 * (t - 10.0) / 25.0;
        let down = 40.0 * (50.0 - t) / 15.0;
        5.0 + up.min(down).clamp(0.0, 40.0)
    },
    figures: &Figure::REACTION,
    rounds: 3,
    away: &[],
};

const SINE: Demand = Demand {
    name: "sine",
    about: "15/s, 12/s more or less, every 30 s",
    seconds: 80.0,
    rate: |t| {
        if t < 60.0 {
            15.0 - 12.0 * (TAU * t / 30.0).cos()
        } else {
            3.0
        }
    },
    figures: &Figure::REACTION,
    rounds: 3,
    away: &[],
};

const FLASH: Demand = Demand {
    name: "flash",
    about: "a flash crowd: from 5/s to 75/s within an instant, for 5 s; then it halves every 5.5 s",
    seconds: 65.0,
    rate: |t| match t {
        _ if t < 15.0 => 5.0,
        _ if t < 20.0 => 75.0,
        _ => 5.0 + 70.0 * ((20.0 - t) / 8.0).exp(),
    },
    figures: &Figure::REACTION,
    rounds: 3,
    away: &[],
};

const NEAR: Demand = Demand {
    name: "near",
    about: "five minutes at 14/s, and five between 8/s and 17/s, up and down every 75 s",
    seconds: 600.0,
    rate: |t| {
        if t < 300.0 {
            14.0
        } else {
            12.5 + 4.5 * (TAU * (t - 300.0) / 75.0).sin()
        }
    },
    figures: &Figure::NEAR,
    rounds: 1,
    away: &[],
};

const AWAY: Demand = Demand {
    name: "away",
    about: "from 5/s to 30/s at 20 s and back at 80 s; what decides is killed at 15 s, started anew at 45 s, and killed again at 75 s",
    seconds: 105.0,
    rate: |t| if (20.0..80.0).contains(&t) { 30.0 } else { 5.0 },
    figures: &Figure::REACTION,
    rounds: 2,
    away: &[(15.0, 45.0), (75.0, f64::INFINITY)],
};

/// Loads that leave the limit and come back.
pub(crate) const REACTION: [Demand; 4] = [STEP, RAMP, SINE, FLASH];

/// Long loads.
pub(crate) const HOLD: [Demand; 2] = [NEAR, AWAY];

impl Demand {
    /// Requests a second, for stretches of time.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (f64, Duration)> {
        let grain = Duration::from_secs_f64(GRAIN);
        self.times()
            .map(move |t| ((self.rate)(t + GRAIN / 2.0), grain))
    }

    fn times(&self) -> impl DoubleEndedIterator<Item = f64> {
        let grains = (self.seconds / GRAIN) as u32;
        (0..grains).map(|at| f64::from(at) * GRAIN)
    }

    fn is_above(&self, t: f64) -> bool {
        // Not by what sines and divisions round.
        (self.rate)(t) > LIMIT + 1e-6
    }

    /// When it first exceeds the limit, if ever.
    pub(crate) fn exceeds(&self) -> Option<f64> {
        self.times().find(|t| self.is_above(*t))
    }

    /// When it falls below the limit for good, if it was ever above.
    pub(crate) fn falls(&self) -> Option<f64> {
        self.times().rfind(|t| self.is_above(*t)).map(|t| t + GRAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_cross_the_limit_when_they_say() {
        let crossings: Vec<_> = REACTION
            .iter()
            .chain(&HOLD)
            .map(|demand| (demand.name, demand.exceeds(), demand.falls()))
            .collect();
        let wanted = [
            ("step", Some(15.0), Some(40.0)),
            ("ramp", Some(16.5), Some(46.25)),
            ("sine", Some(7.75), Some(52.5)),
            ("flash", Some(15.0), Some(35.75)),
            ("near", Some(307.25), Some(555.5)),
            ("away", Some(20.0), Some(80.0)),
        ];
        assert_eq!(crossings, wanted);
        let requests: f64 = STEP
            .steps()
            .map(|(rate, time)| rate * time.as_secs_f64())
            .sum();
        assert!((requests - (45.0 * 5.0 + 25.0 * 30.0)).abs() < 1e-6);
    }
}
