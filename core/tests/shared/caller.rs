//! The caller's side: how much goes where. What it learns from answers is in `answers.rs`.

use spillway_core::caller::{Answer, Ask, Caller, Decision, Force, Reason};
use spillway_core::rate::SECOND;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::MILLI;

pub(crate) const T: u64 = 1_000 * SECOND;

pub(crate) const BOUNCEABLE: Ask = Ask {
    bounceable: true,
    never: false,
    force: None,
    switched: None,
};
pub(crate) const FIXED: Ask = Ask {
    bounceable: false,
    ..BOUNCEABLE
};
pub(crate) const NEVER: Ask = Ask {
    never: true,
    ..BOUNCEABLE
};

pub(crate) fn ladder(n: usize) -> Caller {
    Caller::new(
        ["home", "first", "second", "third"].into_iter().take(n),
        T,
        0,
    )
}

/// An answer of the cluster at `place` to a request that was sent there.
pub(crate) const fn told(place: usize, rho: u32) -> Answer {
    Answer {
        target: place,
        bounceable: true,
        load: Some((Some(place), rho, 1)),
        server_error: false,
        not_repeated: false,
        strayed: false,
    }
}

pub(crate) fn all(_: usize) -> bool {
    true
}

/// Where `n` requests in a second go: home, then the rungs. `rhos` are kept fresh.
pub(crate) fn spread(caller: &mut Caller, ask: Ask, now: u64, n: u64, rhos: &[u32]) -> Vec<u64> {
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

    // Home gets EPS more of what may be bounced; a rung does not.
    let mut caller = ladder(3);
    let went = spread(&mut caller, BOUNCEABLE, T, 1_000, &[2_040, 2_000, 1_000]);
    assert!(
        went[..3]
            .iter()
            .zip([500, 250, 250])
            .all(|(went, n)| went.abs_diff(n) <= 1),
        "{went:?}"
    );
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
            // No rung has room: home must not bounce.
            assert!(!decision.bounceable && decision.returned, "{decision:?}");
            exhausted += u64::from(decision.reason == Reason::Exhausted);
        }
    }
    assert!((840..=870).contains(&exhausted), "{exhausted}");
}

#[test]
fn home_may_bounce_only_while_some_rung_has_room() {
    for (rho, room) in [(0, true), (1_000, true), (1_500, true), (1_501, false)] {
        let mut caller = ladder(3);
        caller.on_answer(told(1, 20_000), T);
        caller.on_answer(told(2, rho), T);
        let decision = caller.decide(BOUNCEABLE, T, all);
        assert_eq!((decision.rung, decision.bounceable), (None, room), "{rho}");
        assert_eq!(decision.returned, !room);
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
    // A turn that was refused is the next request's.
    caller.on_answer(told(1, 10_000), T);
    let mut asked = 0;
    for _ in 0..100 {
        caller.decide(overflow, T, |_| {
            asked += 1;
            false
        });
    }
    assert!(asked >= 90, "{asked}");
    assert_eq!(caller.decide(overflow, T, all).rung, Some(0));
    caller.on_answer(told(1, 2_000), T);
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
