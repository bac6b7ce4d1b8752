//! Seeded randomness, and the capacity and the bound that most tests need.

use core::num::NonZeroU32;

use spillway_core::rate::{Capacity, Rate, RateLimit, SECOND, Unit};

/// A millisecond, ns.
pub(crate) const MILLI: u64 = SECOND / 1_000;

/// SplitMix64: the same numbers on every platform.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `n`.
    pub(crate) const fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True for this share of calls.
    pub(crate) fn share(&mut self, of: f64) -> bool {
        self.unit() < of
    }

    /// Nanoseconds to the next of Poisson arrivals.
    pub(crate) fn gap(&mut self, per_second: f64) -> u64 {
        (-(1.0 - self.unit()).ln() / per_second * SECOND as f64) as u64
    }
}

pub(crate) fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

pub(crate) fn per_second(n: u32) -> Rate {
    Rate::new(n, Unit::Second).unwrap()
}

/// One of `endpoints` that each serve `rate` a second.
pub(crate) fn each(rate: u32, endpoints: u32) -> Capacity {
    Capacity::of_each(Some(per_second(rate)), None, count(endpoints))
}

/// Fails where a window W of these admissions, by the clock readings that decided on them, holds
/// more than W/interval + B, B being `burst`/interval.
pub(crate) fn assert_bounded(mut readings: Vec<u64>, interval: u64, burst: u64, what: &str) {
    readings.sort_unstable();
    // n·interval ≤ W + burst for every pair, by the running minimum of k·interval − reading.
    let mut least = i128::MAX;
    for (k, reading) in readings.iter().enumerate() {
        let height = k as i128 * i128::from(interval) - i128::from(*reading);
        least = least.min(height);
        let beyond = height - least + i128::from(interval) - i128::from(burst);
        assert!(
            beyond <= 0,
            "{what}: {beyond} ns too many admissions up to {reading} of {} in all",
            readings.len()
        );
    }
}

/// The bound on what the gate admits.
pub(crate) fn assert_gate_bound(readings: Vec<u64>, rate: &RateLimit, what: &str) {
    assert_bounded(readings, rate.interval, rate.full(), what);
}
