//! The gate, one decision after the other. Interleaved threads are in `properties/gate.rs`.

use spillway_core::gate::{Ask, Class, Gate, Verdict};
use spillway_core::rate::{Capacity, SECOND};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{count, each, per_second};

const NOW: u64 = 1_000 * SECOND;

const OWN: Ask = Ask {
    class: Class::Own,
    bounceable: true,
    returned: false,
    shed: false,
};
const OVERFLOW: Ask = Ask {
    class: Class::Overflow,
    ..OWN
};
/// Came home again, and cannot go elsewhere.
const RETURNED: Ask = Ask {
    bounceable: false,
    returned: true,
    ..OWN
};
const FIXED: Ask = Ask {
    bounceable: false,
    ..OWN
};

/// Asks `n` times at `now`; the gate after it and how often the verdict was `verdict`.
fn ask(
    mut gate: Gate,
    capacity: &Capacity,
    now: u64,
    ask: Ask,
    n: usize,
    verdict: Verdict,
) -> (Gate, usize) {
    let mut times = 0;
    for _ in 0..n {
        let (next, said) = gate.decide(capacity, now, ask);
        gate = next;
        times += usize::from(said == verdict);
    }
    (gate, times)
}

/// At 15/s and one endpoint B is 15, of which the 5 ms that are kept back take one from a burst of
/// no length.
#[test]
fn a_burst_of_b_then_the_rate() {
    let capacity = each(15, 1);
    let (mut gate, admitted) = ask(Gate::default(), &capacity, NOW, OWN, 100, Verdict::Admit);
    assert_eq!(admitted, 14);
    let mut later = 0;
    for milli in 1..=10_000 {
        let (next, verdict) = gate.decide(&capacity, NOW + milli * SECOND / 1_000, OWN);
        gate = next;
        later += usize::from(verdict == Verdict::Admit);
    }
    assert!((149..=150).contains(&later), "{later} in 10 s");
}

#[test]
fn a_bounce_leaves_no_trace() {
    let capacity = Capacity::of_each(Some(per_second(15)), Some(count(20)), count(1));
    let (gate, _) = ask(Gate::default(), &capacity, NOW, OWN, 15, Verdict::Admit);
    for request in [OWN, OVERFLOW] {
        assert_eq!(
            gate.decide(&capacity, NOW, request),
            (gate, Verdict::Bounce)
        );
    }
    let shed = Ask {
        shed: true,
        ..RETURNED
    };
    assert_eq!(gate.decide(&capacity, NOW, shed), (gate, Verdict::Shed));
}

#[test]
fn what_may_not_be_bounced_is_served() {
    let capacity = each(15, 1);
    for request in [
        FIXED,
        RETURNED,
        Ask {
            shed: true,
            ..FIXED
        },
    ] {
        let mut gate = ask(Gate::default(), &capacity, NOW, OWN, 15, Verdict::Admit).0;
        for _ in 0..100 {
            let (next, verdict) = gate.decide(&capacity, NOW, request);
            gate = next;
            assert_eq!(verdict, Verdict::Force, "{request:?}");
        }
    }
    // Overflow that has used all its attempts, too.
    let last = Ask {
        bounceable: false,
        ..OVERFLOW
    };
    let gate = ask(Gate::default(), &capacity, NOW, OWN, 15, Verdict::Admit).0;
    assert_eq!(gate.decide(&capacity, NOW, last).1, Verdict::Force);
}

/// Trunk reservation: overflow finds room up to half of what own traffic does.
#[test]
fn overflow_yields_to_own_traffic() {
    let capacity = each(15, 1);
    let (gate, admitted) = ask(
        Gate::default(),
        &capacity,
        NOW,
        OVERFLOW,
        100,
        Verdict::Admit,
    );
    assert_eq!(admitted, 7, "overflow alone");
    let (_, admitted) = ask(gate, &capacity, NOW, OWN, 100, Verdict::Admit);
    assert_eq!(admitted, 7, "own traffic after it");
    let (gate, _) = ask(Gate::default(), &capacity, NOW, OWN, 6, Verdict::Admit);
    let (gate, admitted) = ask(gate, &capacity, NOW, OVERFLOW, 100, Verdict::Admit);
    assert_eq!(admitted, 1, "overflow after own traffic");
    assert_eq!(
        ask(gate, &capacity, NOW, OWN, 100, Verdict::Admit).1,
        7,
        "own traffic after both"
    );
}

/// Returns that are forced count against overflow and not against own traffic.
#[test]
fn forced_returns_do_not_fill_the_gate() {
    let capacity = each(15, 1);
    let (gate, _) = ask(
        Gate::default(),
        &capacity,
        NOW,
        RETURNED,
        100,
        Verdict::Force,
    );
    assert_eq!(gate.tat, 0);
    assert_eq!(
        gate.decide(&capacity, NOW, OVERFLOW).1,
        Verdict::Bounce,
        "overflow sees them"
    );
    let (_, admitted) = ask(gate, &capacity, NOW, OWN, 100, Verdict::Admit);
    assert_eq!(admitted, 14, "own traffic does not");

    // Where the policy sheds, a return that fits is admitted like any other.
    let shed = Ask {
        shed: true,
        ..RETURNED
    };
    let (gate, admitted) = ask(Gate::default(), &capacity, NOW, shed, 100, Verdict::Admit);
    assert_eq!(admitted, 14);
    assert_eq!(gate.decide(&capacity, NOW, OWN).1, Verdict::Bounce);
}

/// What cannot leave displaces what can, up to twice the tolerance: however many were forced, the
/// gate admits again after B/c and an interval, and is empty after 2 B/c.
#[test]
fn forced_traffic_closes_the_gate_for_twice_b_at_most() {
    let capacity = each(15, 1);
    let rate = capacity.rate.unwrap();
    let (gate, _) = ask(
        Gate::default(),
        &capacity,
        NOW,
        FIXED,
        10_000,
        Verdict::Force,
    );
    assert_eq!(gate.tat, NOW + 2 * rate.full());
    let open = NOW + rate.full() + rate.interval;
    assert_eq!(gate.decide(&capacity, open - 1, OWN).1, Verdict::Bounce);
    assert_eq!(gate.decide(&capacity, open, OWN).1, Verdict::Admit);
    let empty = NOW + 2 * rate.full();
    assert_eq!(ask(gate, &capacity, empty, OWN, 100, Verdict::Admit).1, 14);
}

/// A third of what comes cannot leave: the others get what that leaves, and no more.
#[test]
fn what_cannot_leave_takes_room_from_what_can() {
    let capacity = each(15, 1);
    let (mut gate, mut served) = (Gate::default(), 0);
    for request in 0..30 * 60_u64 {
        // A third of each second's at once.
        let (second, number) = (request / 30 * SECOND, request % 30);
        let (ask, at) = if number < 10 {
            (FIXED, 0)
        } else {
            (OWN, number * SECOND / 30)
        };
        let (next, verdict) = gate.decide(&capacity, NOW + second + at, ask);
        gate = next;
        served += u32::from(verdict.serves());
    }
    assert!((60 * 15..=60 * 15 + 2 * 15).contains(&served), "{served}");
}

/// Overflow that has used all its attempts displaces nobody at a full gate.
#[test]
fn forced_overflow_closes_the_gate_for_b_at_most() {
    let capacity = each(15, 1);
    let last = Ask {
        bounceable: false,
        ..OVERFLOW
    };
    let (gate, _) = ask(Gate::default(), &capacity, NOW, last, 100, Verdict::Force);
    assert_eq!(gate.tat, NOW + capacity.rate.unwrap().full());
}

#[test]
fn concurrency_counts_what_is_served() {
    let capacity = Capacity::of_each(None, Some(count(5)), count(1));
    let (gate, overflow) = ask(
        Gate::default(),
        &capacity,
        NOW,
        OVERFLOW,
        10,
        Verdict::Admit,
    );
    assert_eq!(
        (overflow, gate.in_flight),
        (2, 2),
        "overflow has half of it"
    );
    let (gate, own) = ask(gate, &capacity, NOW, OWN, 10, Verdict::Admit);
    assert_eq!((own, gate.in_flight), (3, 5));
    let (gate, forced) = ask(gate, &capacity, NOW, RETURNED, 2, Verdict::Force);
    assert_eq!((forced, gate.in_flight), (2, 7));
    let gate = gate.release(2);
    assert_eq!(gate.decide(&capacity, NOW, OWN).1, Verdict::Bounce);
    let gate = gate.release(1);
    assert_eq!(gate.decide(&capacity, NOW, OWN).1, Verdict::Admit);
    assert_eq!(
        gate.release(u32::MAX).in_flight,
        0,
        "more ends than beginnings"
    );

    let one = Capacity::of_each(None, Some(count(1)), count(1));
    assert_eq!(
        Gate::default().decide(&one, NOW, OVERFLOW).1,
        Verdict::Admit,
        "half of one is one"
    );
}

/// With both limits the tighter one decides, and requests in flight are not counted where nothing
/// limits them.
#[test]
fn both_limits() {
    let both = Capacity::of_each(Some(per_second(15)), Some(count(3)), count(1));
    let (gate, admitted) = ask(Gate::default(), &both, NOW, OWN, 100, Verdict::Admit);
    assert_eq!((admitted, gate.in_flight), (3, 3));
    let both = Capacity::of_each(Some(per_second(15)), Some(count(300)), count(1));
    let (gate, admitted) = ask(Gate::default(), &both, NOW, OWN, 100, Verdict::Admit);
    assert_eq!((admitted, gate.in_flight), (14, 14));
    let (gate, _) = ask(Gate::default(), &each(15, 1), NOW, OWN, 5, Verdict::Admit);
    assert_eq!(gate.in_flight, 0);
}

/// A reading that another thread's has overtaken neither lowers the state nor resets it.
#[test]
fn a_late_reading_keeps_what_others_wrote() {
    let capacity = each(15, 1);
    let (full, _) = ask(Gate::default(), &capacity, NOW, FIXED, 100, Verdict::Force);
    for late in [1, SECOND / 2, SECOND] {
        let (after, verdict) = full.decide(&capacity, NOW - late, OWN);
        assert_eq!((after, verdict), (full, Verdict::Bounce), "{late} ns late");
        let (after, _) = full.decide(&capacity, NOW - late, FIXED);
        assert_eq!(after, full, "{late} ns late, forced");
    }
}

/// A state from a clock that ran far ahead, or from a limit of one in an hour, does not close the
/// gate for as long.
#[test]
fn a_foreign_state_counts_as_empty() {
    let capacity = each(15, 1);
    for tat in [NOW + 3_600 * SECOND, u64::MAX] {
        let foreign = Gate {
            tat,
            all: tat,
            in_flight: 0,
        };
        for request in [OWN, OVERFLOW] {
            let (after, verdict) = foreign.decide(&capacity, NOW, request);
            assert_eq!(verdict, Verdict::Admit);
            assert!(after.tat <= NOW + capacity.rate.unwrap().full());
        }
    }
}

#[test]
fn no_limit_admits_all() {
    let capacity = Capacity {
        rate: None,
        concurrency: None,
    };
    for request in [OWN, OVERFLOW, RETURNED, FIXED] {
        assert_eq!(
            Gate::default().decide(&capacity, NOW, request),
            (Gate::default(), Verdict::Admit)
        );
    }
}

#[test]
fn the_ends_of_time() {
    let slow = Capacity::of_total(
        spillway_core::rate::Rate::new(1, spillway_core::rate::Unit::Hour),
        Some(count(u32::MAX)),
        count(u32::MAX),
    );
    for now in [0, 1, u64::MAX - 1, u64::MAX] {
        for time in [0, 1, NOW, u64::MAX] {
            let gate = Gate {
                tat: time,
                all: time,
                in_flight: u32::MAX,
            };
            for request in [OWN, OVERFLOW, RETURNED, FIXED] {
                let (next, _) = gate.decide(&slow, now, request);
                let _ = next.release(u32::MAX);
            }
        }
    }
}
