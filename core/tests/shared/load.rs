//! The load sums: how near ρ comes to the truth, and what can disturb it.

use spillway_core::gate::Class;
use spillway_core::load::{Counts, MAX_RHO, Sums};
use spillway_core::rate::{Capacity, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{MILLI, count, each, per_second};

fn counts(own: u64, overflow: u64, admitted: u64) -> Counts {
    Counts {
        own,
        overflow,
        admitted,
    }
}

/// Steady demand a tick of 100 ms for `ticks`.
fn steady(capacity: &Capacity, tick: Counts, ticks: u64, in_flight: u32) -> Sums {
    (1..=ticks).fold(Sums::default(), |sums, i| {
        sums.tick(capacity, i * 100 * MILLI, tick, in_flight)
    })
}

/// Within 1 %, or the last digit.
fn assert_near(rho: u32, truth: u32, what: &str) {
    let most = (truth / 100).max(1);
    assert!(
        rho.abs_diff(truth) <= most,
        "{what}: {rho} is told, {truth} is true"
    );
}

#[test]
fn steady_demand_becomes_the_true_load() {
    for rate in [10, 15, 100, 1_000] {
        let capacity = each(rate, 1);
        // 20 time constants.
        let ticks = 20 * capacity.tau() / (100 * MILLI);
        for tick in [1, 2, 5, 30, 400] {
            let sums = steady(&capacity, counts(tick, 0, 0), ticks, 0);
            let truth = tick * 10 * 1_000 / u64::from(rate);
            let what = format!("{tick} each 100 ms at {rate}/s");
            assert_near(sums.rho(Class::Own), truth as u32, &what);
            assert!(sums.demand_milli().abs_diff(tick * 10_000) <= tick * 100);
        }
    }
}

/// What overflow finds is what own traffic leaves, and a fiftieth at least.
#[test]
fn overflow_finds_what_is_left() {
    let capacity = each(100, 1);
    for (own, overflow, truth) in [
        (0, 5, 500),
        (5, 5, 1_000),
        (8, 5, 2_500),
        (5, 20, 4_000),
        (10, 1, 5_000),
        (30, 1, 5_000),
    ] {
        let sums = steady(&capacity, counts(own, overflow, 0), 100, 0);
        let what = format!("{own} own and {overflow} overflow each 100 ms");
        assert_near(sums.rho(Class::Overflow), truth, &what);
        if own > 0 {
            assert_near(sums.rho(Class::Own), own as u32 * 100, &what);
        }
    }
}

/// Several threads tick at their own times and share one record.
#[test]
fn threads_add_up() {
    let capacity = each(100, 1);
    let mut sums = Sums::default();
    for tick in 1..=100 {
        for thread in 0..4 {
            let now = tick * 100 * MILLI + thread * 23 * MILLI;
            sums = sums.tick(&capacity, now, counts(4, 1, 4), 0);
        }
    }
    // 160/s and 40/s at 100/s; the folds come each 92 ms on average, at unequal times.
    assert_near(sums.rho(Class::Own), 1_600, "four threads");
    assert_near(sums.rho(Class::Overflow), 20_000, "four threads");
}

/// Ticks that come too early only add to what is pending.
#[test]
fn early_ticks_lose_nothing() {
    let capacity = each(100, 1);
    let mut sums = Sums::default();
    for milli in 1..=10_000 {
        sums = sums.tick(
            &capacity,
            milli * MILLI,
            counts(u64::from(milli % 10 == 0), 0, 0),
            0,
        );
    }
    assert_near(sums.rho(Class::Own), 1_000, "a tick each millisecond");
    let before = sums;
    assert_eq!(
        before
            .tick(&capacity, 10_000 * MILLI + 1, counts(5, 0, 0), 0)
            .rho(Class::Own),
        before.rho(Class::Own)
    );
}

/// "S·E + local" would be 9 to 18 % too high at the slowest and the fastest time constant.
#[test]
fn the_form_of_the_sum_has_no_bias() {
    for (rate, dt) in [(1_000, 80), (1_000, 100), (1_000, 180), (15, 100)] {
        let capacity = each(rate, 1);
        let mut sums = Sums::default();
        for i in 1..=1_000 {
            sums = sums.tick(&capacity, i * dt * MILLI, counts(dt, 0, 0), 0);
        }
        assert_near(sums.rho(Class::Own), 1_000_000 / rate, &format!("{dt} ms"));
    }
}

#[test]
fn a_step_is_seen_within_the_time_constant() {
    let capacity = each(1_000, 1);
    let mut sums = steady(&capacity, counts(50, 0, 0), 100, 0);
    for i in 101..=103 {
        sums = sums.tick(&capacity, i * 100 * MILLI, counts(500, 0, 0), 0);
    }
    // 0.5 → 5: after one time constant 5 − 4.5/e.
    assert_near(sums.rho(Class::Own), 3_345, "after 0.3 s");
    for i in 104..=115 {
        sums = sums.tick(&capacity, i * 100 * MILLI, counts(0, 0, 0), 0);
    }
    assert!(sums.rho(Class::Own) < 70, "{}", sums.rho(Class::Own));
}

#[test]
fn a_clock_that_goes_back_starts_anew() {
    let capacity = each(100, 1);
    let mut sums = steady(&capacity, counts(10, 0, 0), 100, 0);
    let told = sums.rho(Class::Own);
    sums = sums.tick(&capacity, MILLI, counts(10, 0, 0), 0);
    assert_eq!(sums.rho(Class::Own), told, "nothing is learnt in no time");
    for i in 1..=100 {
        sums = sums.tick(&capacity, MILLI + i * 100 * MILLI, counts(10, 0, 0), 0);
        let rho = sums.rho(Class::Own);
        assert!((900..=1_400).contains(&rho), "{rho} after {i} ticks");
    }
    assert_near(sums.rho(Class::Own), 1_000, "after 10 s");
}

#[test]
fn a_long_pause_forgets() {
    let capacity = each(100, 1);
    let sums = steady(&capacity, counts(30, 30, 10), 100, 0);
    let after = sums.tick(&capacity, 3_600 * SECOND, Counts::default(), 0);
    assert_eq!((after.rho(Class::Own), after.rho(Class::Overflow)), (0, 0));
}

/// Little's law: at 20 in flight and 100 admitted a second, 10 at once are worth 50 a second.
#[test]
fn concurrency_is_worth_what_it_serves() {
    let capacity = Capacity::of_each(None, Some(count(10)), count(1));
    for (demand, admitted, in_flight, truth) in [
        (10, 10, 20, 2_000), // worth 50/s
        (10, 10, 10, 1_000), // worth 100/s
        (10, 10, 5, 500),    // worth 200/s
        (20, 10, 10, 2_000), // half is bounced
        (20, 2, 10, 10_000), // slowed down: worth 20/s
    ] {
        let sums = steady(&capacity, counts(demand, 0, admitted), 100, in_flight);
        let what = format!("{demand}, {admitted} and {in_flight} in flight");
        assert_near(sums.rho(Class::Own), truth, &what);
    }
}

/// An endpoint that answers nothing is worth next to nothing, and is not divided by.
#[test]
fn an_endpoint_that_hangs() {
    let capacity = Capacity::of_each(None, Some(count(10)), count(1));
    let sums = steady(&capacity, counts(10, 10, 0), 200, 10);
    // Half a request in 0.3 s: 1.67/s.
    assert_near(sums.rho(Class::Own), 60_000, "own");
    assert!(sums.rho(Class::Overflow) > 1_000_000 / 2);
}

#[test]
fn the_tighter_of_rate_and_concurrency_decides() {
    let capacity = Capacity::of_each(Some(per_second(100)), Some(count(10)), count(1));
    let rho = |in_flight| steady(&capacity, counts(10, 0, 10), 100, in_flight).rho(Class::Own);
    assert_near(rho(5), 1_000, "the rate");
    assert_near(rho(20), 2_000, "the concurrency");
    assert_near(rho(0), 1_000, "nothing in flight");
    let free = Capacity::of_each(None, Some(count(10)), count(1));
    assert_eq!(steady(&free, counts(10, 10, 10), 100, 0).rho(Class::Own), 0);
}

#[test]
fn huge_counts_saturate() {
    let capacity = each(1, 1);
    let huge = counts(u64::MAX, u64::MAX, u64::MAX);
    let sums = steady(&capacity, huge, 10, u32::MAX);
    assert_eq!(sums.rho(Class::Own), MAX_RHO);
    assert_eq!(sums.rho(Class::Overflow), MAX_RHO);
    let _ = sums.demand_milli();
    let _ = sums.tick(&capacity, u64::MAX, huge, u32::MAX);
}
