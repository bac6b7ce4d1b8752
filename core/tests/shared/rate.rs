//! Rates as they are written, and what an endpoint's capacity becomes.

use spillway_core::rate::{Capacity, Rate, RateLimit, SECOND, Unit};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{MILLI, count, per_second};

#[test]
fn every_form_of_a_rate() {
    for (text, interval, milli) in [
        ("1/s", SECOND, 1_000),
        ("15/s", 66_666_667, 15_000),
        ("1000/s", MILLI, 1_000_000),
        ("1000000/s", 1_000, 1_000_000_000),
        ("900/m", 66_666_667, 15_000),
        ("1/m", 60 * SECOND, 16),
        ("1000000/m", 60_000, 16_666_666),
        ("10/h", 360 * SECOND, 2),
        ("1/h", 3_600 * SECOND, 0),
        ("1000000/h", 3_600_000, 277_777),
    ] {
        let rate = Rate::parse(text).unwrap();
        assert_eq!(rate.interval(count(1)), interval, "{text}");
        assert_eq!(rate.per_second_milli(), milli, "{text}");
        assert_eq!(rate.to_string(), text);
        assert_eq!(serde_json::to_string(&rate).unwrap(), format!("\"{text}\""));
    }
}

#[test]
fn what_is_no_rate() {
    const FORM: &str = "whole number and a unit";
    for (text, says) in [
        ("", FORM),
        ("15", FORM),
        ("15s", FORM),
        ("15/", FORM),
        ("/s", FORM),
        ("/", FORM),
        ("15/d", FORM),
        ("15/ms", FORM),
        ("15/S", FORM),
        ("15 /s", FORM),
        ("15/ s", FORM),
        (" 15/s", FORM),
        ("15/s ", FORM),
        ("15/s/s", FORM),
        ("1.5/s", FORM),
        ("1,5/s", FORM),
        ("+15/s", FORM),
        ("-15/s", FORM),
        ("1e3/s", FORM),
        ("0x10/s", FORM),
        ("NaN/s", FORM),
        ("inf/s", FORM),
        ("١٥/s", FORM),
        ("0/s", "zero"),
        ("000/h", "zero"),
        ("1000001/s", "at most 1000000"),
        ("4294967295/s", "at most 1000000"),
        ("4294967296/s", "at most 1000000"),
        ("99999999999999999999999/s", "at most 1000000"),
    ] {
        let told = Rate::parse(text).expect_err(text);
        assert!(told.contains(says), "{text:?} tells {told:?}, not {says:?}");
    }
}

#[test]
fn a_rate_beyond_its_bounds_does_not_exist() {
    assert_eq!(Rate::new(0, Unit::Second), None);
    assert_eq!(Rate::new(Rate::MAX_COUNT + 1, Unit::Hour), None);
    assert!(Rate::new(Rate::MAX_COUNT, Unit::Hour).is_some());
}

/// B = 3 + max(12, 0.1 s × C)/M, so (B−1)/c is 2 + max(12, 0.1 s × C)/M intervals; 5 ms of it are
/// kept back.
#[test]
fn the_burst_tolerance() {
    for (rate, endpoints, total, interval, tolerance_milli) in [
        (15, 1, true, 66_666_667, 14_000),
        (15, 2, true, 133_333_334, 8_000),
        (15, 1, false, 66_666_667, 14_000),
        (15, 3, false, 66_666_667, 6_000),
        (50, 10, false, 20_000_000, 7_000),
        (1_000, 10, true, 10_000_000, 12_000),
        (1_000, 1, true, 1_000_000, 102_000),
        (120, 1, true, 8_333_334, 14_000),
        (121, 1, true, 8_264_463, 14_100),
    ] {
        let of = if total {
            Capacity::of_total
        } else {
            Capacity::of_each
        };
        let limit = of(Some(per_second(rate)), None, count(endpoints));
        assert_eq!(
            limit.rate,
            Some(RateLimit {
                interval,
                limit: interval * tolerance_milli / 1_000 - 5 * MILLI
            }),
            "{rate}/s, {endpoints}, total: {total}"
        );
    }
}

#[test]
fn an_even_share_is_never_more_than_the_whole() {
    for n in [1, 7, 15, 999, 1_000_000] {
        for unit in [Unit::Second, Unit::Minute, Unit::Hour] {
            let rate = Rate::new(n, unit).unwrap();
            for endpoints in [1, 2, 3, 7, 30, 999] {
                let share = Capacity::of_total(Some(rate), None, count(endpoints)).rate;
                let interval = share.unwrap().interval;
                // In a unit of time M endpoints admit M·unit/interval.
                assert!(
                    u64::from(endpoints) * unit.nanos() <= u64::from(n) * interval,
                    "{rate} by {endpoints}"
                );
            }
        }
    }
}

#[test]
fn concurrency_is_shared_too() {
    let share = |l, m| Capacity::of_total(None, Some(count(l)), count(m)).concurrency;
    assert_eq!(share(10, 2), Some(count(5)));
    assert_eq!(share(10, 3), Some(count(3)), "never a little more");
    assert_eq!(share(1, 30), Some(count(1)));
    let each = Capacity::of_each(None, Some(count(10)), count(3));
    assert_eq!(each.concurrency, Some(count(10)));
    assert_eq!(each.rate, None);
}

/// tau = max(0.3 s, 20/c).
#[test]
fn the_time_constant() {
    for (rate, tau) in [
        (1_000, 300 * MILLI),
        (67, 300 * MILLI),
        (50, 400 * MILLI),
        (15, 1_333_333_340),
        (1, 20 * SECOND),
    ] {
        let capacity = Capacity::of_each(Some(per_second(rate)), None, count(1));
        assert_eq!(capacity.tau(), tau, "{rate}/s");
    }
    let unlimited = Capacity::of_each(None, Some(count(3)), count(1));
    assert_eq!(unlimited.tau(), 300 * MILLI);
}
