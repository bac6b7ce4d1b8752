//! The caller: fractions, echoes, and answers of any kind.

use proptest::prelude::*;
use spillway_core::caller::{Answer, Ask, Caller, Force, Reason};
use spillway_core::rate::SECOND;

use crate::shared::help::MILLI;

const NAMES: [&str; 4] = ["home", "first", "second", "third"];

fn asks() -> impl Strategy<Value = Ask> {
    (
        any::<bool>(),
        prop::bool::weighted(0.15),
        prop_oneof![
            8 => Just(None),
            1 => Just(Some(Force::Home)),
            1 => Just(Some(Force::Overflow)),
        ],
        prop_oneof![8 => Just(None), 1 => any::<bool>().prop_map(Some)],
    )
        .prop_map(|(bounceable, never, force, switched)| Ask {
            bounceable,
            never,
            force,
            switched,
        })
}

fn rho() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => 0_u32..3_000,
        2 => 0_u32..100_000,
        1 => prop::sample::select(vec![0, 1, 999, 1_000, 1_020, 1_021, 10_200, u32::MAX]),
        1 => any::<u32>(),
    ]
}

fn answers() -> impl Strategy<Value = Answer> {
    let load = (
        prop::option::weighted(0.9, 0_usize..6),
        rho(),
        prop_oneof![0_u32..7, any::<u32>()],
    );
    (
        0_usize..6,
        any::<bool>(),
        prop::option::weighted(0.7, load),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(target, bounceable, load, server_error, strayed)| Answer {
            target,
            bounceable,
            load,
            server_error,
            not_repeated: false,
            strayed,
        })
}

/// Nanoseconds until the next event: often none, sometimes longer than feedback or an echo lasts.
fn gaps() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..10 * MILLI,
        3 => 0..SECOND,
        1 => 0..4 * SECOND,
        1 => 9 * SECOND..12 * SECOND,
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Request(Ask, [bool; 3]),
    Answer(Answer),
    /// A new configuration: the ladder in another order.
    Adapt(Vec<usize>),
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let request = (asks(), any::<[bool; 3]>()).prop_map(|(ask, take)| Event::Request(ask, take));
    let ladder = Just((0..4).collect::<Vec<usize>>()).prop_shuffle();
    let adapt = (ladder, 0_usize..=4).prop_map(|(ladder, n)| Event::Adapt(ladder[..n].to_vec()));
    let event = prop_oneof![
        12 => request,
        6 => answers().prop_map(Event::Answer),
        1 => adapt,
    ];
    prop::collection::vec((gaps(), event), 1..250)
}

/// What a cluster's echo must be: the requests for which it was considered since the last one
/// that was sent there, none of them more than 10 s before the next.
#[derive(Clone, Copy)]
struct Owed {
    requests: u32,
    seen: u64,
}

impl Owed {
    fn consider(&mut self, now: u64) {
        if now - self.seen > 10 * SECOND {
            self.requests = 0;
        }
        self.seen = now;
        self.requests += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Σ of the sent N plus what is left = the requests offered, for each cluster of the ladder,
    /// whatever answers come; and every decision is one that may be carried out.
    #[test]
    fn echoes_add_up(events in events(), seed: u32) {
        let mut now = 1_000 * SECOND;
        let mut ladder: Vec<usize> = (0..4).collect();
        let mut caller = Caller::new(NAMES, now, seed);
        let mut owed = [Owed { requests: 0, seen: now }; 4];
        for (gap, event) in events {
            now += gap;
            match event {
                Event::Answer(answer) => caller.on_answer(answer, now),
                Event::Adapt(next) => {
                    caller = caller.adapt(next.iter().map(|at| NAMES[*at]), now, seed);
                    for (at, owed) in owed.iter_mut().enumerate() {
                        if !(ladder.contains(&at) && next.contains(&at)) {
                            *owed = Owed { requests: 0, seen: now };
                        }
                    }
                    ladder = next;
                }
                Event::Request(ask, take) => {
                    let rungs = ladder.len().saturating_sub(1);
                    let closed: Vec<bool> = (0..rungs).map(|rung| caller.closed(rung, now)).collect();
                    let decision = caller.decide(ask, now, |rung| take[rung]);
                    if ladder.is_empty() {
                        prop_assert_eq!((decision.rung, decision.echo), (None, 1));
                        continue;
                    }
                    owed[ladder[0]].consider(now);
                    let asked = match decision.rung {
                        Some(rung) => rung + 1,
                        None if decision.reason == Reason::Exhausted => rungs,
                        None => 0,
                    };
                    for rung in (0..asked).filter(|rung| !closed[*rung]) {
                        owed[ladder[rung + 1]].consider(now);
                    }
                    let at = ladder[decision.rung.map_or(0, |rung| rung + 1)];
                    prop_assert_eq!(decision.echo, owed[at].requests, "to {}", NAMES[at]);
                    owed[at].requests = 0;

                    if let Some(rung) = decision.rung {
                        prop_assert!(!closed[rung] && take[rung]);
                        prop_assert!(!ask.never && ask.force != Some(Force::Home));
                        prop_assert_eq!(decision.bounceable, ask.bounceable);
                        prop_assert!(!decision.returned);
                    }
                    prop_assert!(ask.bounceable || !decision.bounceable);
                    prop_assert!(!(decision.bounceable && decision.returned));
                    if decision.reason == Reason::Exhausted {
                        prop_assert!(decision.returned);
                    }
                }
            }
        }
    }

    /// With a fixed load and fresh feedback |admitted − a·requests| ≤ 2, all along.
    #[test]
    fn the_fraction_is_exact(
        rho in prop_oneof![0_u32..1_100, 1_000_u32..10_000, 10_000_u32..1_000_000],
        bounceable: bool,
        seed: u32,
        n in 1_usize..3_000,
    ) {
        let now = 1_000 * SECOND;
        let mut caller = Caller::new(["home", "rung"], now, seed);
        let ask = Ask { bounceable, ..Ask::default() };
        let eps = if bounceable { 0.02 } else { 0.0 };
        let a = if rho == 0 { 1.0 } else { ((1.0 + eps) * 1_000.0 / f64::from(rho)).min(1.0) };
        let mut home = 0;
        for i in 1..=n {
            let news = Answer {
                target: 0,
                bounceable,
                load: Some((Some(0), rho, 1)),
                server_error: false,
                not_repeated: false,
                strayed: false,
            };
            caller.on_answer(news, now);
            home += usize::from(caller.decide(ask, now, |_| true).rung.is_none());
            let off = home as f64 - a * i as f64;
            prop_assert!(off.abs() <= 2.0, "{home} of {i} at {a}: {off}");
        }
        if rho <= 1_000 {
            prop_assert_eq!(home, n, "overflow below the limit");
        }
    }

    /// However answers come, what goes home is at most all, and a load that stays high is heeded:
    /// no answer makes a fraction negative or above one.
    #[test]
    fn hostile_answers_do_not_change_what_a_load_means(
        answers in prop::collection::vec(answers(), 0..200),
        rho in 2_000_u32..50_000,
        seed: u32,
    ) {
        let mut now = 1_000 * SECOND;
        let mut caller = Caller::new(["home", "rung"], now, seed);
        for answer in answers {
            now += 10 * MILLI;
            caller.on_answer(answer, now);
            caller.decide(Ask::default(), now, |_| true);
        }
        now += 60 * SECOND; // closed rungs are open again
        let mut home = 0;
        for _ in 0..1_000 {
            for (place, rho) in [(0, rho), (1, 0)] {
                let news = Answer {
                    target: place,
                    bounceable: true,
                    load: Some((Some(place), rho, 1)),
                    server_error: false,
                    not_repeated: false,
                    strayed: false,
                };
                caller.on_answer(news, now);
            }
            home += u32::from(caller.decide(Ask::default(), now, |_| true).rung.is_none());
        }
        let fits = 1_000_000.0 / f64::from(rho);
        prop_assert!((f64::from(home) - fits).abs() <= 4.0, "{home}, not {fits}");
    }
}
