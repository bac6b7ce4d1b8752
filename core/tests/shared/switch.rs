//! Switch mode: fast enough, and no change of mind without a reason.

use spillway_core::rate::{Rate, SECOND, Unit};
use spillway_core::record::{MAX_SIZE, Record};
use spillway_core::switch::{Limits, Switch};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{MILLI, Random, per_second};

const TICK: u64 = 100 * MILLI;

fn limits() -> Limits {
    Limits::new(per_second(15), per_second(10)).unwrap()
}

/// A switch with a virtual clock.
struct Run {
    switch: Switch,
    now: u64,
    changes: usize,
}

impl Run {
    fn new() -> Self {
        Self {
            switch: Switch::default(),
            now: SECOND,
            changes: 0,
        }
    }

    fn tick(&mut self, count: u64) {
        self.now += TICK;
        let before = self.switch.switched();
        self.switch = self.switch.tick(&limits(), self.now, count);
        self.changes += usize::from(before != self.switch.switched());
    }

    /// Evenly spaced requests; the time until the state is `until`, ns.
    fn even(&mut self, per_second: u64, most: u64, until: Option<bool>) -> Option<u64> {
        let (start, mut sent) = (self.now, 0);
        while self.now - start < most {
            let due = (self.now + TICK - start) * per_second / SECOND;
            self.tick(due - sent);
            sent = due;
            if until == Some(self.switch.switched()) {
                return Some(self.now - start);
            }
        }
        None
    }

    fn poisson(
        &mut self,
        per_second: f64,
        most: u64,
        random: &mut Random,
        until: Option<bool>,
    ) -> Option<u64> {
        let start = self.now;
        let mut next = self.now + random.gap(per_second);
        while self.now - start < most {
            let mut count = 0;
            while next < self.now + TICK {
                count += 1;
                next += random.gap(per_second);
            }
            self.tick(count);
            if until == Some(self.switch.switched()) {
                return Some(self.now - start);
            }
        }
        None
    }
}

#[test]
fn from_5_to_20_and_back_within_4_s() {
    let mut run = Run::new();
    assert_eq!(run.even(5, 60 * SECOND, Some(true)), None);
    let there = run.even(20, 60 * SECOND, Some(true)).expect("it switches");
    // Bs = 15 requests at 5/s too many.
    assert!((2_900 * MILLI..=4 * SECOND).contains(&there), "{there} ns");
    run.even(20, 60 * SECOND, None);
    let back = run.even(5, 60 * SECOND, Some(false)).expect("it returns");
    assert!((2_900 * MILLI..=4 * SECOND).contains(&back), "{back} ns");
    assert_eq!(run.changes, 2);
}

#[test]
fn a_large_step_is_seen_at_once() {
    let mut run = Run::new();
    run.even(5, 60 * SECOND, None);
    let there = run.even(75, SECOND, Some(true)).expect("it switches");
    assert!(there <= 400 * MILLI, "{there} ns");
}

#[test]
fn detection_under_poisson() {
    let mut there = 0;
    let mut back = 0;
    for seed in 0..50 {
        let (mut run, mut random) = (Run::new(), Random::new(seed));
        run.poisson(5.0, 60 * SECOND, &mut random, None);
        there += run
            .poisson(20.0, 60 * SECOND, &mut random, Some(true))
            .expect("it switches");
        run.poisson(20.0, 60 * SECOND, &mut random, None);
        back += run
            .poisson(5.0, 60 * SECOND, &mut random, Some(false))
            .expect("it returns");
    }
    // The study's 2.9 s, and a tick.
    for (what, mean) in [("there", there / 50), ("back", back / 50)] {
        assert!(
            (2_300 * MILLI..=3_500 * MILLI).contains(&mean),
            "{what}: {mean} ns"
        );
    }
}

/// A rate at a limit gives no reason to change.
#[test]
fn no_change_in_an_hour_of_even_traffic() {
    for rate in [10, 12, 15] {
        let mut run = Run::new();
        run.even(rate, 3_600 * SECOND, None);
        assert_eq!(run.changes, 0, "{rate}/s, home");
        run.even(20, 60 * SECOND, Some(true));
        run.even(rate, 3_600 * SECOND, None);
        assert_eq!(run.changes, 1, "{rate}/s, switched");
    }
}

#[test]
fn few_changes_in_an_hour_of_poisson() {
    for seed in 0..10 {
        let mut run = Run::new();
        run.poisson(12.0, 3_600 * SECOND, &mut Random::new(seed), None);
        assert!(run.changes <= 8, "{} changes, seed {seed}", run.changes);
    }
}

/// A new configuration goes on from the old record, in both states.
#[test]
fn a_reload_keeps_the_state() {
    let reload = |run: &mut Run| {
        let mut buffer = [0; MAX_SIZE];
        let stored = run.switch.encode(&mut buffer).to_vec();
        assert_eq!(Switch::decode(&stored), Some(run.switch));
        run.switch = Switch::decode(&stored).unwrap();
    };
    let mut run = Run::new();
    let mut straight = Run::new();
    for i in 0..600 {
        let count = if (200..400).contains(&i) { 2 } else { i % 2 };
        run.tick(count);
        straight.tick(count);
        reload(&mut run);
        assert_eq!(run.switch, straight.switch, "tick {i}");
    }
    assert_eq!(run.changes, 2);
    // New limits do not change the state by themselves.
    run.even(20, 60 * SECOND, Some(true));
    let higher = Limits::new(per_second(1_000), per_second(1)).unwrap();
    let kept = run.switch.tick(&higher, run.now + TICK, 2);
    assert!(kept.switched());
}

#[test]
fn limits_need_a_gap() {
    let rate = |n, unit| Rate::new(n, unit).unwrap();
    for (enter, leave, good) in [
        (per_second(15), per_second(10), true),
        (per_second(15), per_second(15), false),
        (per_second(10), per_second(15), false),
        (per_second(15), rate(900, Unit::Minute), false),
        (per_second(15), rate(899, Unit::Minute), true),
        (rate(1, Unit::Minute), rate(1, Unit::Hour), true),
    ] {
        assert_eq!(Limits::new(enter, leave).is_some(), good, "{enter} {leave}");
    }
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut run = Run::new();
    run.even(5, 60 * SECOND, None);
    let back = run.switch.tick(&limits(), MILLI, 1_000_000);
    assert!(!back.switched());
    let after = back.tick(&limits(), MILLI + TICK, 1);
    assert!(!after.switched());
}

/// Threads read their clocks and then take turns, so the order of the turns need not be that of
/// the clocks.
#[test]
fn a_thread_that_read_its_clock_earlier_loses_no_request() {
    let detected = |skew: u64| {
        let mut switch = Switch::default();
        let mut now = SECOND;
        for _ in 0..1_000 {
            now += TICK;
            // 20/s of two threads.
            switch = switch.tick(&limits(), now, 1);
            switch = switch.tick(&limits(), now - skew, 1);
            if switch.switched() {
                return now;
            }
        }
        panic!("20/s on 15/s is not seen");
    };
    assert_eq!(detected(0), detected(MILLI));
}

#[test]
fn the_sums_do_not_run_away() {
    let mut run = Run::new();
    run.even(1_000_000, 10 * SECOND, Some(true));
    run.tick(u64::MAX);
    let back = run.even(0, 60 * SECOND, Some(false)).expect("it returns");
    // Bs = 15 at 10/s.
    assert!(back <= 1_700 * MILLI, "{back} ns");
    let _ = run.switch.tick(&limits(), u64::MAX, u64::MAX);
}
