//! Whole services whose callers share a switch, with Poisson arrivals: how fast all leave and return,
//! how often by chance, and what restarts and callers without the filter do to it.

use spillway_core::rate::SECOND;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::service::{Service, limits};

/// Seconds until callers have switched, and come back: the first, the mean, the last. The page of
/// the study has 3.8 and 5.5, 5.7 and 11.5, 16 and 38 at 15/s; at 1,500/s 4.1 to 4.3 and 4.1 to 6.7.
#[test]
fn all_callers_leave_and_return() {
    let mut table = String::new();
    let mut slow = false;
    for (enter, callers, endpoints, runs, up, down) in [
        (15, 1, 1, 10_u32, [5.0; 3], [8.0; 3]),
        (15, 5, 4, 10, [6.0, 7.0, 9.0], [13.0, 15.0, 18.0]),
        (15, 50, 10, 10, [18.0, 24.0, 45.0], [60.0, 80.0, 140.0]),
        (1_500, 1, 1, 2, [5.0; 3], [5.5; 3]),
        (1_500, 50, 10, 2, [5.0, 5.5, 6.0], [15.0, 16.0, 18.0]),
    ] {
        let high = f64::from(enter) * 4.0 / 3.0;
        let low = f64::from(enter) / 3.0;
        let leave = enter / 3 * 2;
        let (mut there, mut back, mut stays) = ([0.0; 3], [0.0; 3], 0.0);
        for seed in 0..runs {
            let limits = limits(enter, leave, endpoints);
            let mut service = Service::new(limits, callers, u64::from(seed));
            service.pass(low, 30 * SECOND);
            assert_eq!(service.switched(), 0, "{table}");
            service.times(high, true, &mut there);
            service.pass(high, 20 * SECOND);
            stays += 1.0 - service.share_away(high, 30 * SECOND);
            service.times(low, false, &mut back);
            service.pass(low, 30 * SECOND);
            assert_eq!(service.switched(), 0, "{table}");
        }
        let runs = f64::from(runs);
        let (there, back) = (there.map(|sum| sum / runs), back.map(|sum| sum / runs));
        let stays = stays / runs;
        table += &format!(
            "enter {enter}/s, {callers} callers, {endpoints} endpoints: {there:.1?} s, {back:.1?} s; {stays:.3} stays\n"
        );
        let over = |times: [f64; 3], most: [f64; 3]| times.iter().zip(most).any(|(a, b)| *a > b);
        slow |= over(there, up) || over(back, down);
        // What home can serve, and a twentieth.
        slow |= stays > f64::from(leave) / high + 0.05;
    }
    #[cfg(not(target_arch = "wasm32"))]
    println!("{table}");
    assert!(!slow, "\n{table}");
}

/// Between the limits nothing changes but by chance: the page has 0 to 8 changes an hour and worker.
#[test]
fn few_changes_in_an_hour_between_the_limits() {
    let mut changes = Vec::new();
    for (callers, endpoints) in [(1, 1), (5, 4), (20, 10)] {
        for seed in 0..3 {
            let mut service = Service::new(limits(15, 10, endpoints), callers, seed);
            service.pass(12.5, 3_600 * SECOND);
            let most = service.callers.iter().map(|one| one.changes.len()).max();
            changes.push(most.unwrap());
        }
    }
    assert!(changes.iter().all(|changes| *changes <= 14), "{changes:?}");
}

/// What was learnt outlives each of those who know it.
#[test]
fn a_restart_of_anybody_loses_nothing() {
    for seed in 0..5 {
        let mut service = Service::new(limits(15, 10, 2), 4, seed);
        service.pass(12.5, 20 * SECOND);
        service.pass(20.0, 60 * SECOND);
        assert_eq!(service.switched(), 4);
        for turn in 0..8 {
            if turn % 2 == 0 {
                service.restart_caller(turn / 2);
            } else {
                service.restart_endpoint(turn / 2 % 2);
            }
            let changes: usize = service.callers.iter().map(|one| one.changes.len()).sum();
            service.pass(17.0, 20 * SECOND);
            assert_eq!(service.switched(), 4, "seed {seed}, turn {turn}");
            let again: usize = service.callers.iter().map(|one| one.changes.len()).sum();
            assert!(
                again <= changes + 1,
                "only the one that was restarted learns"
            );
        }
    }
}

/// Callers without the filter are part of the rate, and stay.
#[test]
fn callers_without_the_filter_count() {
    let mut service = Service::new(limits(15, 10, 2), 3, 1);
    for _ in 0..3_000 {
        service.stranger();
        service.pass(10.0, SECOND / 10);
    }
    assert_eq!(service.switched(), 3, "10/s of theirs and 10/s of ours");
}
