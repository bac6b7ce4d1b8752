//! The fixed-point helpers against floating point.

use spillway_core::fixed::{ONE, decay, exp_neg};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::Random;

/// What the documentation of `exp_neg` promises.
const PROMISED: f64 = 1.0 / (1_u64 << 28) as f64;

#[test]
fn exp_neg_is_as_near_as_it_says() {
    let mut worst: f64 = 0.0;
    let mut random = Random::new(1);
    let mut check = |num: u64, den: u64| {
        let ours = exp_neg(num, den) as f64 / ONE as f64;
        let true_value = (-(num as f64) / den as f64).exp();
        worst = worst.max((ours - true_value).abs());
    };
    for num in 0..=25_000 {
        check(num, 1_000);
    }
    for _ in 0..20_000 {
        let den = random.next() >> (random.below(60) as u32);
        check(random.next() >> (random.below(64) as u32), den.max(1));
    }
    assert!(worst < PROMISED, "{worst:e} is more than {PROMISED:e}");
}

#[test]
fn exp_neg_stays_within_zero_and_one_at_the_edges() {
    for (num, den, e) in [
        (0, 0, ONE),
        (u64::MAX, 0, ONE),
        (0, 1, ONE),
        (0, u64::MAX, ONE),
        (u64::MAX, 1, 0),
        (23, 1, 0),
    ] {
        assert_eq!(exp_neg(num, den), e, "e^-({num}/{den})");
    }
    assert!(exp_neg(u64::MAX, u64::MAX) < ONE);
    assert!(exp_neg(1, u64::MAX) <= ONE);
}

#[test]
fn exp_neg_falls() {
    let mut last = ONE;
    for num in 0..30_000 {
        let e = exp_neg(num, 1_000);
        // A step of the whole part may be off by the promised error.
        assert!(e <= last.saturating_add(16), "rises at {num}/1000");
        last = e;
    }
}

#[test]
fn decay_mixes_and_saturates() {
    for (old, new, e, mixed) in [
        (10, 20, ONE, 10),
        (10, 20, 0, 20),
        (10, 20, ONE / 2, 15),
        (u64::MAX, u64::MAX, ONE / 3, u64::MAX),
        (u64::MAX, 0, u64::MAX, u64::MAX),
        (0, 0, ONE / 2, 0),
    ] {
        assert_eq!(decay(old, new, e), mixed, "{old} {new} {e}");
    }
}
