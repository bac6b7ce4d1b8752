//! The gate under every interleaving of threads.
//!
//! Threads read the shared bytes and the clock, decide, and compare-and-swap in any order; their
//! readings may be late; a lost swap is tried again at most four times, as the filter does. Beside
//! the gate runs its rule in plain arithmetic, by which every stored decision is judged.

use proptest::prelude::*;
use spillway_core::gate::{Ask, Class, Gate, Verdict};
use spillway_core::rate::{Capacity, RateLimit, SECOND};
use spillway_core::record::{MAX_SIZE, Record};

use crate::shared::help::{assert_bounded, assert_gate_bound, count, per_second};

const TRIES: u32 = 4;
/// How late a reading may be: the gate takes a state that lies further ahead for foreign, so the
/// bound is not promised to a thread that stood still for longer.
const LATEST: u64 = SECOND;

#[derive(Clone, Debug)]
enum Step {
    /// A thread takes its next step: begins a request, or swaps.
    Thread(usize),
    /// Time passes, ns.
    Wait(u64),
    /// A request that a thread serves ends.
    End,
}

fn ask() -> impl Strategy<Value = Ask> {
    (any::<bool>(), any::<bool>(), 0..4, any::<bool>()).prop_map(|(own, bounceable, kind, shed)| {
        let class = if own { Class::Own } else { Class::Overflow };
        let returned = own && kind == 0;
        Ask {
            class,
            bounceable: !returned && (bounceable || kind == 1),
            returned,
            shed,
        }
    })
}

fn capacity() -> impl Strategy<Value = Capacity> {
    let rate = prop_oneof![1_u32..20, 20_u32..2_000];
    (
        prop::option::weighted(0.9, rate),
        prop::option::weighted(0.4, 1_u32..12),
        1_u32..40,
    )
        .prop_filter("a limit", |(rate, concurrency, _)| {
            rate.is_some() || concurrency.is_some()
        })
        .prop_map(|(rate, concurrency, endpoints)| {
            Capacity::of_each(
                rate.map(per_second),
                concurrency.map(count),
                count(endpoints),
            )
        })
}

fn steps(threads: usize) -> impl Strategy<Value = Vec<Step>> {
    // Mostly bursts, so that the gate is full; the waits are of the size of an interval at most.
    let step = prop_oneof![
        12 => (0..threads).prop_map(Step::Thread),
        2 => (0..2 * SECOND / 1_000).prop_map(Step::Wait),
        1 => (0..SECOND / 5).prop_map(Step::Wait),
        1 => Just(Step::End),
    ];
    prop::collection::vec(step, 1..600)
}

/// The shared bytes with their compare-and-swap.
struct Shared {
    bytes: Vec<u8>,
    version: u64,
}

impl Shared {
    fn new(gate: &Gate) -> Self {
        Self {
            bytes: gate.encode(&mut [0; MAX_SIZE]).to_vec(),
            version: 1,
        }
    }

    fn load(&self) -> (Gate, u64) {
        (Gate::decode(&self.bytes).unwrap(), self.version)
    }

    fn swap(&mut self, gate: &Gate, version: u64) -> bool {
        let same = version == self.version;
        if same {
            self.bytes = gate.encode(&mut [0; MAX_SIZE]).to_vec();
            self.version += 1;
        }
        same
    }
}

/// A request that a thread is deciding on.
struct Trying {
    ask: Ask,
    reading: u64,
    loaded: (Gate, u64),
    lost: u32,
}

/// The rule of the gate, as the design writes it.
#[derive(Default)]
struct Rule {
    tat: i128,
    all: i128,
    in_flight: u32,
}

impl Rule {
    fn judge(&mut self, capacity: &Capacity, now: u64, ask: Ask, verdict: Verdict) {
        let own = ask.class == Class::Own;
        let mut fits = true;
        let now = i128::from(now);
        if let Some(RateLimit { interval, limit }) = capacity.rate {
            let (interval, limit) = (i128::from(interval), i128::from(limit));
            let base = self.tat.max(now);
            fits &= if own {
                base - now <= limit
            } else {
                self.all.max(base) - now <= limit / 2
            };
            let stays = verdict == Verdict::Force && own && !ask.returned;
            let full = now + (limit + interval) * if stays { 2 } else { 1 };
            if matches!(verdict, Verdict::Admit | Verdict::Force) {
                self.all = self.all.max((self.all.max(now) + interval).min(full));
                if !ask.returned || ask.shed {
                    self.tat = self.tat.max((base + interval).min(full));
                }
            }
        }
        if let Some(limit) = capacity.concurrency {
            let share = if own {
                limit.get()
            } else {
                (limit.get() / 2).max(1)
            };
            fits &= self.in_flight < share;
            self.in_flight += u32::from(matches!(verdict, Verdict::Admit | Verdict::Force));
        }
        let expected = if fits {
            Verdict::Admit
        } else if ask.bounceable {
            Verdict::Bounce
        } else if ask.returned && ask.shed {
            Verdict::Shed
        } else {
            Verdict::Force
        };
        assert_eq!(verdict, expected, "{ask:?} at {now}");
    }
}

/// What was stored.
#[derive(Default)]
struct Admitted {
    /// Readings of all that fill the gate.
    all: Vec<u64>,
    overflow: Vec<u64>,
}

fn play(
    capacity: &Capacity,
    threads: usize,
    lag: &[u64],
    asks: &[Ask],
    steps: &[Step],
    compare: bool,
) -> Admitted {
    let mut shared = Shared::new(&Gate::default());
    let mut rule = Rule::default();
    let mut now = 1_000 * SECOND;
    let mut asks = asks.iter().cycle();
    let mut at: Vec<Option<Trying>> = (0..threads).map(|_| None).collect();
    let mut admitted = Admitted::default();
    let mut serving = 0;
    for step in steps {
        match step {
            Step::Wait(time) => now += time,
            Step::End if serving > 0 => {
                serving -= 1;
                let (gate, version) = shared.load();
                assert!(shared.swap(&gate.release(1), version));
                rule.in_flight = rule.in_flight.saturating_sub(1);
            }
            Step::End => {}
            Step::Thread(thread) => match at[*thread].take() {
                None => {
                    at[*thread] = Some(Trying {
                        ask: *asks.next().unwrap(),
                        reading: now - lag[*thread],
                        loaded: shared.load(),
                        lost: 0,
                    });
                }
                Some(mut trying) => {
                    trying.reading = trying.reading.max(now - LATEST);
                    let (gate, mut version) = trying.loaded;
                    let (next, verdict) = gate.decide(capacity, trying.reading, trying.ask);
                    if matches!(verdict, Verdict::Bounce | Verdict::Shed) {
                        assert_eq!(next, gate, "a refusal is not stored");
                        continue;
                    }
                    if !compare {
                        version = shared.version;
                    }
                    if shared.swap(&next, version) {
                        if compare {
                            rule.judge(capacity, trying.reading, trying.ask, verdict);
                        }
                        serving += u32::from(capacity.concurrency.is_some());
                        if verdict == Verdict::Admit && (!trying.ask.returned || trying.ask.shed) {
                            admitted.all.push(trying.reading);
                            if trying.ask.class == Class::Overflow {
                                admitted.overflow.push(trying.reading);
                            }
                        }
                    } else {
                        trying.lost += 1;
                        if trying.lost < TRIES {
                            trying.loaded = shared.load();
                            at[*thread] = Some(trying);
                        }
                    }
                }
            },
        }
    }
    admitted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Bounceable admissions in any window W ≤ c·W + B, exactly, and overflow's share of it.
    #[test]
    fn no_interleaving_admits_more(
        (threads, steps) in (2_usize..=4).prop_flat_map(|n| (Just(n), steps(n))),
        capacity in capacity(),
        lag in prop::collection::vec(prop_oneof![2 => Just(0), 2 => 0..SECOND / 100, 1 => 0..=LATEST], 4),
        asks in prop::collection::vec(ask(), 1..40),
    ) {
        let admitted = play(&capacity, threads, &lag, &asks, &steps, true);
        if let Some(rate) = capacity.rate {
            assert_gate_bound(admitted.all, &rate, "own and overflow");
            let half = rate.limit / 2 + rate.interval;
            assert_bounded(admitted.overflow, rate.interval, half, "overflow");
        }
    }

    /// One thread, any order of asks at any times: the gate is its rule.
    #[test]
    fn the_gate_is_its_rule(
        capacity in capacity(),
        requests in prop::collection::vec((ask(), 0..SECOND / 10, 0..4_u32), 1..300),
    ) {
        let (mut gate, mut rule) = (Gate::default(), Rule::default());
        let mut now = SECOND;
        for (ask, gap, ended) in requests {
            now += gap;
            let ended = ended.min(gate.in_flight);
            gate = gate.release(ended);
            rule.in_flight -= ended;
            let (next, verdict) = gate.decide(&capacity, now, ask);
            rule.judge(&capacity, now, ask, verdict);
            gate = next;
            if capacity.rate.is_some() {
                prop_assert_eq!(i128::from(gate.tat), rule.tat);
                prop_assert_eq!(i128::from(gate.all), rule.all);
            }
            if capacity.concurrency.is_some() {
                prop_assert_eq!(gate.in_flight, rule.in_flight);
            }
        }
    }

    /// A request that may not be bounced is served unless the policy sheds what came home.
    #[test]
    fn what_did_not_offer_is_not_bounced(
        capacity in capacity(),
        gate in (any::<u64>(), any::<u64>(), any::<u32>()),
        now: u64,
        ask in ask(),
    ) {
        let (tat, all, in_flight) = gate;
        let gate = Gate { tat, all, in_flight };
        let (next, verdict) = gate.decide(&capacity, now, ask);
        match verdict {
            Verdict::Bounce => prop_assert!(ask.bounceable),
            Verdict::Shed => prop_assert!(ask.shed && ask.returned),
            Verdict::Force => prop_assert!(!ask.bounceable),
            Verdict::Admit => {}
        }
        if matches!(verdict, Verdict::Bounce | Verdict::Shed) {
            prop_assert_eq!(next, gate);
        }
    }
}

/// The harness can fail: without the comparison the same threads admit too much.
#[test]
fn without_compare_and_swap_the_bound_breaks() {
    let capacity = Capacity::of_each(Some(per_second(15)), None, count(1));
    let ask = Ask {
        class: Class::Own,
        bounceable: true,
        returned: false,
        shed: false,
    };
    // Both threads read before either stores.
    let steps: Vec<Step> = (0..80).map(|i| Step::Thread(i % 2)).collect();
    let run = |compare| play(&capacity, 2, &[0, 0], &[ask], &steps, compare).all;
    let rate = capacity.rate.unwrap();
    assert_gate_bound(run(true), &rate, "compared");
    assert!(run(false).len() as u64 > rate.full() / rate.interval + 1);
}
