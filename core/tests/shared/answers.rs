//! What a caller learns from answers, how long it holds, and what a new configuration keeps.

use spillway_core::caller::{Answer, Ask, Caller, Force, Reason};
use spillway_core::rate::SECOND;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::caller::{BOUNCEABLE, FIXED, NEVER, T, all, ladder, spread, told};
use super::help::MILLI;

/// Feedback is fresh for 3 s; then what may be bounced goes home, and the gate protects.
#[test]
fn stale_feedback_is_forgotten_by_what_may_be_bounced() {
    let mut caller = ladder(2);
    caller.on_answer(told(0, 10_000), T);
    let fresh = spread(&mut caller, BOUNCEABLE, T, 100, &[]);
    assert!(fresh[1] >= 89, "{fresh:?}");
    let stale = spread(&mut caller, BOUNCEABLE, T + 3 * SECOND + 1, 100, &[]);
    assert_eq!(stale[0], 100);
    let fresh = spread(&mut caller, BOUNCEABLE, T + 5 * SECOND, 100, &[10_000]);
    assert!(fresh[1] >= 85, "{fresh:?}");
}

/// What may not be bounced asks for news with one borrowed request at a time.
#[test]
fn probes_are_borrowed() {
    let mut caller = ladder(2);
    caller.on_answer(told(0, 1_000_000), T);
    let mut probes = Vec::new();
    let mut home = 0;
    // Nothing ever answers: 100/s for a minute.
    for i in 0..6_000 {
        let now = T + i * 10 * MILLI;
        let decision = caller.decide(FIXED, now, all);
        if decision.rung.is_none() {
            home += 1;
            if decision.reason == Reason::Probe {
                probes.push(now);
            }
        }
    }
    assert!(
        !probes.is_empty() && probes[0] > T + 3 * SECOND,
        "{probes:?}"
    );
    assert!(probes.windows(2).all(|p| p[1] - p[0] > 3 * SECOND));
    // Each is paid back: 6000 × 0.001 fit, and two may be owed.
    assert!(home <= 8, "{home}");
    // An answer ends it.
    caller.on_answer(told(0, 500), T + 60 * SECOND);
    let went = spread(&mut caller, FIXED, T + 60 * SECOND, 100, &[]);
    assert!(went[0] >= 97, "{went:?}");
}

/// Home tells nothing below a load of 0.8. Silence is news only where nobody else can have
/// answered.
#[test]
fn silence_means_room_only_from_home() {
    let silent = |target, bounceable| Answer {
        target,
        bounceable,
        load: None,
        server_error: false,
        not_repeated: false,
        strayed: false,
    };
    for (answer, room) in [
        (silent(0, false), true),
        (silent(0, true), false),
        (silent(1, false), false),
        (
            Answer {
                server_error: true,
                not_repeated: false,
                ..silent(0, false)
            },
            false,
        ),
    ] {
        let mut caller = ladder(2);
        caller.on_answer(told(0, 10_000), T);
        caller.on_answer(answer, T);
        let went = spread(&mut caller, FIXED, T, 100, &[]);
        assert_eq!(went[0] == 100, room, "{answer:?}: {went:?}");
    }
}

/// A request that was bounced by a whole cluster tells that it is full.
#[test]
fn moved_on() {
    let moved = |target, from, attempt| Answer {
        target,
        bounceable: true,
        load: Some((from, 1_000, attempt)),
        server_error: false,
        not_repeated: false,
        strayed: false,
    };
    // Which rung is found full, by whether it takes all of the next requests.
    let later = T + SECOND + 1;
    let full = |answer, now| -> Vec<bool> {
        let mut caller = ladder(3);
        caller.on_answer(answer, now);
        let overflow = Ask {
            force: Some(Force::Overflow),
            ..BOUNCEABLE
        };
        [0, 1]
            .map(|rung| {
                let asked = (0..8)
                    .filter(|_| caller.decide(overflow, now, |r| r == rung).rung == Some(rung));
                asked.count() < 8
            })
            .into()
    };
    for (answer, expected) in [
        (moved(0, Some(0), 5), [true, false]), // home again: the first rung was full
        (moved(0, Some(0), 3), [true, false]),
        (moved(0, Some(0), 2), [false, false]), // only another endpoint of home
        (moved(0, Some(1), 3), [false, false]), // home was full; its load says that itself
        (moved(0, None, 3), [false, false]),
        (moved(1, Some(0), 3), [true, false]),
        (moved(1, Some(2), 3), [true, false]),
        (moved(1, None, 3), [true, false]),
        (moved(1, Some(1), 5), [false, false]), // answered by the rung itself in the end
        (moved(1, Some(1), 2), [false, false]),
        (moved(2, Some(0), 3), [false, true]),
        (moved(9, Some(0), 3), [false, false]), // a rung that a new configuration took away
    ] {
        assert_eq!(full(answer, later), expected, "{answer:?}");
        // News of the last second stands.
        assert_eq!(
            full(answer, T + SECOND),
            [false, false],
            "{answer:?}, too early"
        );
    }
}

/// What is found full is taken for 4 times its capacity, then 8 and so on up to 64.
#[test]
fn a_full_rung_is_asked_less_and_less() {
    let mut caller = ladder(2);
    let answer = Answer {
        target: 1,
        bounceable: true,
        load: Some((Some(0), 10_000, 3)),
        server_error: false,
        not_repeated: false,
        strayed: false,
    };
    let overflow = Ask {
        force: Some(Force::Overflow),
        ..FIXED
    };
    for (round, rho) in (1..).zip([4_000_u64, 8_000, 16_000, 32_000, 64_000, 64_000]) {
        let now = T + round * 2 * SECOND;
        caller.on_answer(answer, now);
        let went = (0..640)
            .filter(|_| caller.decide(overflow, now, all).rung.is_some())
            .count() as u64;
        assert!(went.abs_diff(640_000 / rho) <= 2, "{went} at {rho}");
    }
}

const fn lost(target: usize) -> Answer {
    Answer {
        target,
        bounceable: true,
        load: None,
        server_error: true,
        not_repeated: false,
        strayed: false,
    }
}

#[test]
fn a_rung_that_fails_is_closed_and_the_next_one_serves() {
    let overflow = Ask {
        force: Some(Force::Overflow),
        ..BOUNCEABLE
    };
    let strayed = Answer {
        server_error: false,
        not_repeated: false,
        strayed: true,
        ..lost(1)
    };
    let strayed_home = Answer {
        load: Some((Some(0), 900, 1)),
        ..strayed
    };
    for failure in [lost(1), strayed, strayed_home] {
        let mut caller = ladder(3);
        caller.on_answer(failure, T);
        assert!(caller.closed(0, T) && !caller.closed(1, T), "{failure:?}");
        assert_eq!(caller.decide(overflow, T, all).rung, Some(1));
        assert!(!caller.closed(0, T + SECOND));
        assert_eq!(caller.decide(overflow, T + SECOND, all).rung, Some(0));
    }
    for harmless in [
        lost(0),
        Answer {
            strayed: true,
            ..lost(0)
        },
        Answer {
            load: Some((Some(1), 500, 1)),
            ..lost(1)
        }, // the application's own 5xx, or shed
        Answer {
            server_error: false,
            not_repeated: false,
            ..lost(1)
        },
        lost(77),
    ] {
        let mut caller = ladder(3);
        caller.on_answer(harmless, T);
        assert!((0..99).all(|rung| !caller.closed(rung, T)), "{harmless:?}");
    }
}

#[test]
fn with_all_rungs_closed_nothing_is_bounced() {
    let mut caller = ladder(2);
    caller.on_answer(told(0, 5_000), T);
    caller.on_answer(lost(1), T);
    for _ in 0..50 {
        let decision = caller.decide(BOUNCEABLE, T, all);
        assert_eq!(decision.rung, None);
        assert!(!decision.bounceable && decision.returned);
    }
}

/// How long the rung is closed, ms.
fn closed_for(caller: &Caller, now: u64) -> u64 {
    (0..)
        .find(|milli| !caller.closed(0, now + milli * MILLI))
        .unwrap()
}

#[test]
fn closing_doubles_up_to_30_s() {
    let mut caller = ladder(2);
    let mut now = T;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        caller.on_answer(lost(1), now);
        assert_eq!(closed_for(&caller, now), seconds * 1_000);
        now += seconds * SECOND;
    }
    // The rung's load is a sign of life.
    caller.on_answer(told(1, 900), now);
    caller.on_answer(lost(1), now);
    assert_eq!(closed_for(&caller, now), 1_000);
}

/// A bounce that comes back as an answer was repeated by nobody: the next would be lost too.
#[test]
fn where_bounces_are_not_repeated_none_is_offered_for_a_while() {
    let offers = |caller: &mut Caller, now| caller.decide(BOUNCEABLE, now, all).bounceable;
    let mut caller = ladder(2);
    assert!(offers(&mut caller, T));
    let bounced = Answer {
        not_repeated: true,
        ..told(0, 900)
    };
    caller.on_answer(bounced, T);
    assert!(!offers(&mut caller, T));
    let mut caller = caller.adapt(["home", "other"], T, 0);
    assert!(!offers(&mut caller, T + 10 * SECOND - 1));
    assert!(offers(&mut caller, T + 10 * SECOND));
}

/// Requests that were under way when a rung failed all come back failed; that is one failure.
#[test]
fn answers_while_closed_do_not_double() {
    let mut caller = ladder(2);
    for i in 0..50 {
        caller.on_answer(lost(1), T + i * MILLI);
    }
    assert_eq!(closed_for(&caller, T), 1_000);
    caller.on_answer(lost(1), T + SECOND);
    assert_eq!(closed_for(&caller, T + SECOND), 2_000);
}

/// A rung without a gate tells no load: an answer that is no error is its sign of life.
#[test]
fn a_rung_without_a_gate_recovers() {
    let mut caller = ladder(2);
    let mut now = T;
    for _ in 0..5 {
        caller.on_answer(lost(1), now);
        now += 60 * SECOND;
    }
    let served = Answer {
        server_error: false,
        not_repeated: false,
        ..lost(1)
    };
    caller.on_answer(served, now);
    caller.on_answer(lost(1), now);
    assert_eq!(closed_for(&caller, now), 1_000);
}

/// A changed ladder keeps what is known of the clusters that stay.
#[test]
fn adapt_keeps_what_stays() {
    let mut caller = ladder(3);
    caller.on_answer(told(0, 1_000_000), T);
    caller.on_answer(lost(2), T);
    for _ in 0..4 {
        assert_eq!(caller.decide(FIXED, T, all).rung, Some(0), "owed by home");
    }
    let mut caller = caller.adapt(["home", "second", "new"], T, 7);
    assert_eq!(
        [
            caller.place("home"),
            caller.place("second"),
            caller.place("new"),
            caller.place("first")
        ],
        [Some(0), Some(1), Some(2), None]
    );
    assert!(
        caller.closed(0, T) && !caller.closed(1, T),
        "`second` is closed still"
    );
    let decision = caller.decide(FIXED, T, all);
    assert_eq!(
        decision.rung,
        Some(1),
        "home is full still, and `new` is open"
    );
    assert_eq!(caller.decide(NEVER, T, all).echo, 6, "home's echo was kept");
    // A rung that becomes the home.
    let mut caller = caller.adapt(["second", "home"], T, 7);
    assert_eq!(caller.decide(FIXED, T, all).rung, None);
    assert_eq!(
        (caller.place("second"), caller.place("home")),
        (Some(0), Some(1))
    );
}
