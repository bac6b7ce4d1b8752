//! Seeded randomness: the same numbers on every platform.
//!
//! Logarithms and sines come from `libm`, since those of the platform differ in their last bit
//! from one C library to another, and a whole run may hang on that bit.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};
use spillway_core::rate::SECOND;

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(Pcg64Mcg);

impl Random {
    /// The generator of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `n`; 0 where there is nothing to choose from.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // Multiply and shift: no division, and no bias that a simulation could see.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// True for this share of calls.
    pub(crate) fn share(&mut self, of: f64) -> bool {
        of >= 1.0 || (of > 0.0 && self.unit() < of)
    }

    /// Exponentially distributed with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -libm::log(1.0 - self.unit()) * mean
    }

    /// Even between two bounds, ns.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        let width = u128::from(most.saturating_sub(least));
        least + ((u128::from(self.0.next_u64()) * width) >> 64) as u64
    }
}

/// Seconds to nanoseconds. What is negative or no number is zero.
pub(crate) fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

/// Nanoseconds to seconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

/// Chooses one of several by their weights.
#[derive(Clone, Debug)]
pub(crate) struct Weighted {
    /// Running sums.
    sums: Vec<f64>,
}

impl Weighted {
    /// By Zipf's law: the n-th has the weight n^−skew. A skew of zero makes all alike.
    pub(crate) fn zipf(n: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=n).map(|rank| {
            let weight = libm::pow(rank as f64, -skew);
            sum += weight;
            sum
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// One of them.
    pub(crate) fn choose(&self, random: &mut Random) -> usize {
        let Some(all) = self.sums.last() else {
            return 0;
        };
        let at = random.unit() * all;
        self.sums.partition_point(|sum| *sum <= at)
    }

    /// The share of one.
    pub(crate) fn share(&self, at: usize) -> f64 {
        let before = at.checked_sub(1).and_then(|at| self.sums.get(at));
        match (self.sums.get(at), self.sums.last()) {
            (Some(sum), Some(all)) => (sum - before.unwrap_or(&0.0)) / all,
            _ => 0.0,
        }
    }
}
