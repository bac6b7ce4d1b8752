//! The caller's side: how much goes where, and what it learns from answers.

use spillway_core::caller::{Answer, Ask, Caller, Decision, Force, Reason};
use spillway_core::rate::SECOND;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::MILLI;

const T: u64 = 1_000 * SECOND;

const BOUNCEABLE: Ask = Ask {
    bounceable: true,
    never: false,
    force: None,
    switched: None,
};
const FIXED: Ask = Ask {
    bounceable: false,
    ..BOUNCEABLE
};
const NEVER: Ask = Ask {
    never: true,
    ..BOUNCEABLE
};

fn ladder(n: usize) -> Caller {
    Caller::new(
        ["home", "first", "second", "third"].into_iter().take(n),
        T,
        0,
    )
}

/// An answer of the cluster at `place` to a request that was sent there.
const fn told(place: usize, rho: u32) -> Answer {
    Answer {
        target: place,
        bounceable: true,
        load: Some((Some(place), rho, 1)),
        server_error: false,
        strayed: false,
    }
}

fn all(_: usize) -> bool {
    true
}

/// Where `n` requests in a second go: home, then the rungs. `rhos` are kept fresh.
fn spread(caller: &mut Caller, ask: Ask, now: u64, n: u64, rhos: &[u32]) -> Vec<u64> {
    let mut went = vec![0; 5];
    for i in 0..n {
        let now = now + i * SECOND / n;
        for (place, rho) in rhos.iter().enumerate() {
            caller.on_answer(told(place, *rho), now);
        }
        let decision = caller.decide(ask, now, all);
        went[decision.rung.map_or(0, |rung| rung + 1)] += 1;
    }
    went
}

#[test]
fn all_goes_home_while_nothing_is_known() {
    let mut caller = ladder(2);
    for i in 0..100 {
        let decision = caller.decide(BOUNCEABLE, T + i * MILLI, all);
        let home = Decision {
            rung: None,
            echo: 1,
            bounceable: true,
            returned: false,
            reason: Reason::Below,
        };
        assert_eq!(decision, home);
    }
}

#[test]
fn no_overflow_up_to_the_limit() {
    for (ask, rho) in [
        (BOUNCEABLE, 1_000),
        (BOUNCEABLE, 1_020),
        (FIXED, 1_000),
        (BOUNCEABLE, 1),
    ] {
        let mut caller = ladder(2);
        assert_eq!(
            spread(&mut caller, ask, T, 1_000, &[rho, 0])[..2],
            [1_000, 0],
            "{rho}"
        );
    }
    let mut caller = ladder(2);
    assert!(spread(&mut caller, FIXED, T, 1_000, &[1_020, 0])[1] > 15);
}

/// (1+EPS)/ρ of what may be bounced, 1/ρ of what may not.
#[test]
fn the_fraction_that_fits_stays() {
    for (ask, rho, home) in [
        (BOUNCEABLE, 2_040, 500),
        (FIXED, 2_000, 500),
        (BOUNCEABLE, 5_100, 200),
        (FIXED, 10_000, 100),
        (BOUNCEABLE, 102_000, 10),
    ] {
        let mut caller = ladder(2);
        let went = spread(&mut caller, ask, T, 1_000, &[rho, 0]);
        assert!(went[0].abs_diff(home) <= 1, "{rho}: {went:?}, not {home}");
        assert_eq!(went[0] + went[1], 1_000);
    }
}

#[test]
fn rungs_are_filled_in_order() {
    let mut caller = ladder(4);
    let went = spread(&mut caller, FIXED, T, 1_000, &[2_000, 2_000, 1_000]);
    // Half home, half of the rest to the first rung, all of the rest to the second.
    assert!(
        went[0].abs_diff(500) <= 1 && went[1].abs_diff(250) <= 1,
        "{went:?}"
    );
    assert!(went[2].abs_diff(250) <= 1 && went[3] == 0, "{went:?}");
}

#[test]
fn what_no_rung_takes_comes_home_and_says_so() {
    let mut caller = ladder(3);
    let mut exhausted = 0;
    for i in 0..1_000 {
        let now = T + i * MILLI;
        for (place, rho) in [20_000, 20_000, 20_000].into_iter().enumerate() {
            caller.on_answer(told(place, rho), now);
        }
        let decision = caller.decide(BOUNCEABLE, now, all);
        if decision.rung.is_none() {
            // No rung has a tenth of its traffic's room: home must not bounce.
            assert!(!decision.bounceable && decision.returned, "{decision:?}");
            exhausted += u64::from(decision.reason == Reason::Exhausted);
        }
    }
    assert!((840..=870).contains(&exhausted), "{exhausted}");
}

#[test]
fn home_may_bounce_only_while_some_rung_is_open() {
    for (rho, open) in [(0, true), (1_000, true), (10_200, true), (10_201, false)] {
        let mut caller = ladder(3);
        caller.on_answer(told(1, 20_000), T);
        caller.on_answer(told(2, rho), T);
        let decision = caller.decide(BOUNCEABLE, T, all);
        assert_eq!((decision.rung, decision.bounceable), (None, open), "{rho}");
        assert_eq!(decision.returned, !open);
        // Old news of being full is no news.
        let decision = caller.decide(BOUNCEABLE, T + 3 * SECOND + 1, all);
        assert!(decision.bounceable);
    }
    let decision = ladder(1).decide(BOUNCEABLE, T, all);
    assert!(!decision.bounceable && decision.returned, "no rung at all");
}

/// Routes of class Never count towards the limit, so that others spill in their place.
#[test]
fn never_routes_take_their_share() {
    let mut caller = ladder(2);
    let (mut home, mut never_home) = (0, 0);
    for i in 0..10_000 {
        let now = T + i * MILLI;
        caller.on_answer(told(0, 2_000), now);
        // A third of the requests.
        let ask = if i % 3 == 0 { NEVER } else { FIXED };
        let decision = caller.decide(ask, now, all);
        if ask.never {
            assert_eq!(decision.rung, None);
            assert_eq!(decision.reason, Reason::Never);
            assert!(!decision.bounceable && !decision.returned);
            never_home += 1;
        }
        home += u64::from(decision.rung.is_none());
    }
    assert_eq!(never_home, 3_334);
    assert!(
        (4_990..=5_010).contains(&home),
        "{home} of 10000 at home, at a load of 2"
    );
}

/// When routes of class Never alone are more than fits, what they owe is bounded: others may go
/// home again soon after.
#[test]
fn what_never_routes_owe_is_bounded() {
    let mut caller = ladder(2);
    for i in 0..10_000 {
        caller.on_answer(told(0, 4_000), T + i);
        caller.decide(NEVER, T + i, all);
    }
    let went = spread(&mut caller, FIXED, T + SECOND, 1_000, &[1_000]);
    // One a request flows in: nine until the first goes.
    assert!((8..=10).contains(&went[1]), "{went:?}");
}

#[test]
fn overrides() {
    let force = |force| Ask {
        force: Some(force),
        ..BOUNCEABLE
    };
    let mut caller = ladder(3);
    for i in 0..100 {
        let now = T + i * MILLI;
        caller.on_answer(told(0, 50_000), now);
        let decision = caller.decide(force(Force::Home), now, all);
        assert_eq!((decision.rung, decision.reason), (None, Reason::Override));
        assert!(!decision.bounceable && !decision.returned);
    }
    for i in 0..100 {
        let now = T + SECOND + i * MILLI;
        caller.on_answer(told(0, 10), now);
        let decision = caller.decide(force(Force::Overflow), now, all);
        assert_eq!(
            (decision.rung, decision.reason),
            (Some(0), Reason::Override)
        );
    }
    // A route that never leaves home does not leave it by an override either.
    let never = Ask {
        never: true,
        ..force(Force::Overflow)
    };
    assert_eq!(
        caller.decide(never, T + 2 * SECOND, all).reason,
        Reason::Never
    );
    // Where the first rung is closed, the next one takes it.
    let mut lost = told(1, 0);
    lost.load = None;
    lost.server_error = true;
    caller.on_answer(lost, T + 2 * SECOND);
    assert_eq!(
        caller
            .decide(force(Force::Overflow), T + 2 * SECOND, all)
            .rung,
        Some(1)
    );
}

#[test]
fn a_switch_moves_all_or_nothing() {
    let switched = |on| Ask {
        switched: Some(on),
        ..BOUNCEABLE
    };
    let mut caller = ladder(2);
    for rho in [0, 500, 5_000] {
        caller.on_answer(told(0, rho), T);
        let home = caller.decide(switched(false), T, all);
        assert_eq!(
            (home.rung, home.reason, home.bounceable),
            (None, Reason::Below, false)
        );
        let away = caller.decide(switched(true), T, all);
        assert_eq!((away.rung, away.reason), (Some(0), Reason::Switched));
    }
    caller.on_answer(told(1, 64_000), T);
    let full =
        (0..100).filter(|_| caller.decide(switched(true), T, all).reason == Reason::Exhausted);
    assert!(full.count() > 90);
}

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
        strayed: false,
    };
    for (answer, room) in [
        (silent(0, false), true),
        (silent(0, true), false),
        (silent(1, false), false),
        (
            Answer {
                server_error: true,
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
        ..lost(1)
    };
    caller.on_answer(served, now);
    caller.on_answer(lost(1), now);
    assert_eq!(closed_for(&caller, now), 1_000);
}

/// What a rung's maximum rate refuses goes on down the ladder, and costs the rung no turn.
#[test]
fn max_rate() {
    let mut caller = ladder(3);
    let mut asked = Vec::new();
    let overflow = Ask {
        force: Some(Force::Overflow),
        ..BOUNCEABLE
    };
    let decision = caller.decide(overflow, T, |rung| {
        asked.push(rung);
        rung == 1
    });
    assert_eq!((decision.rung, asked), (Some(1), vec![0, 1]));
    let decision = caller.decide(overflow, T, |_| false);
    assert_eq!((decision.rung, decision.reason), (None, Reason::Exhausted));
    assert!(decision.returned && !decision.bounceable);

    // At a load of 2 each second request has a turn. Refusals do not use it up, and do not save
    // up turns beyond two either.
    let mut caller = ladder(2);
    caller.on_answer(told(1, 2_000), T);
    let overflow = Ask {
        bounceable: false,
        ..overflow
    };
    for _ in 0..100 {
        caller.decide(overflow, T, |_| false);
    }
    let went = (0..100)
        .filter(|_| caller.decide(overflow, T, all).rung.is_some())
        .count();
    assert!((50..=52).contains(&went), "{went}");
    // A rung is asked for one request only when it has a turn.
    let mut asked = 0;
    for _ in 0..100 {
        caller.decide(overflow, T, |_| {
            asked += 1;
            true
        });
    }
    assert!((49..=51).contains(&asked), "{asked}");
}

#[test]
fn a_rung_out_of_turn_is_not_asked() {
    let mut caller = ladder(2);
    caller.on_answer(told(1, 64_000), T);
    let overflow = Ask {
        force: Some(Force::Overflow),
        ..FIXED
    };
    let mut asked = 0;
    for _ in 0..64 {
        caller.decide(overflow, T, |_| {
            asked += 1;
            true
        });
    }
    assert!(asked <= 2, "{asked}");
}

#[test]
fn echoes_carry_what_was_diverted() {
    let mut caller = ladder(2);
    let mut home = Vec::new();
    for i in 0..9 {
        caller.on_answer(told(0, 3_000), T + i);
        let decision = caller.decide(FIXED, T + i, all);
        match decision.rung {
            None => home.push(decision.echo),
            Some(_) => assert_eq!(decision.echo, 1),
        }
    }
    // A third stays, and each tells of two that did not.
    assert!(
        home.len() >= 2 && home[1..].iter().all(|echo| *echo == 3),
        "{home:?}"
    );
}

#[test]
fn an_echo_older_than_10_s_is_dropped() {
    for (pause, echo) in [(10 * SECOND, 6), (10 * SECOND + 1, 1)] {
        let mut caller = ladder(2);
        caller.on_answer(told(0, 64_000), T);
        for _ in 0..5 {
            assert_eq!(caller.decide(FIXED, T, all).rung, Some(0));
        }
        assert_eq!(caller.decide(NEVER, T + pause, all).echo, echo);
    }
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

#[test]
fn a_ladder_of_nothing_stays_home() {
    let mut caller = ladder(0);
    let decision = caller.decide(BOUNCEABLE, T, all);
    assert_eq!(
        (decision.rung, decision.echo, decision.bounceable),
        (None, 1, false)
    );
    caller.on_answer(told(0, 5), T);
    assert!(!caller.closed(0, T) && !caller.closed(usize::MAX, T));
}

/// Seeds keep callers from spilling in step.
#[test]
fn seeds_spread_the_first_spill() {
    let first = |seed| {
        let mut caller = Caller::new(["home", "rung"], T, seed);
        caller.on_answer(told(0, 10_000), T);
        (0..)
            .find(|_| caller.decide(FIXED, T, all).rung.is_none())
            .unwrap()
    };
    let mut firsts: Vec<u32> = (0..10).map(|i| first(i * 104_857)).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() >= 9, "{firsts:?}");
    first(u32::MAX);
}

#[test]
fn reasons_are_a_closed_set() {
    let names: Vec<&str> = Reason::ALL.map(Reason::as_str).into();
    assert_eq!(
        names,
        [
            "below-limit",
            "probe",
            "over-limit",
            "switched",
            "never-route",
            "override",
            "exhausted"
        ]
    );
    for (i, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), i);
    }
}
