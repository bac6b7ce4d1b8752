//! The limit of requests in flight, under every interleaving of threads and every end of a stream.
//!
//! Threads compare-and-swap the shared bytes in any order, lose, and give up after four tries, as
//! the filter does: then the verdict holds, and the thread tells what it counts with its next word.
//! Beside the gate runs the truth: which requests are being served, and who knows of them.

use proptest::prelude::*;
use spillway_core::gate::{Ask, Class, Gate, Verdict};
use spillway_core::rate::Capacity;
use spillway_core::record::{MAX_SIZE, Record};

use crate::shared::help::count;

const TRIES: u32 = 4;
const THREADS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A thread takes its next step: begins a request, or swaps.
    Thread(usize),
    /// Of what a thread serves, one ends: the stream is answered, reset, or given up.
    End(usize),
    /// A thread ticks.
    Tick(usize),
    /// Other users of the record win so many swaps.
    Lose(u32),
}

#[derive(Default)]
struct Thread {
    trying: Option<(Ask, Gate, u64, u32)>,
    untold: i32,
    serving: usize,
}

struct Play {
    capacity: Capacity,
    bytes: Vec<u8>,
    version: u64,
    lose: u32,
    threads: Vec<Thread>,
}

impl Play {
    fn new(limit: u32) -> Self {
        Self {
            capacity: Capacity::of_each(None, Some(count(limit)), count(1)),
            bytes: Gate::default().encode(&mut [0; MAX_SIZE]).to_vec(),
            version: 1,
            lose: 0,
            threads: (0..THREADS).map(|_| Thread::default()).collect(),
        }
    }

    fn gate(&self) -> Gate {
        Gate::decode(&self.bytes).unwrap()
    }

    fn swap(&mut self, gate: &Gate, version: u64) -> bool {
        if self.lose > 0 {
            self.lose -= 1;
            return false;
        }
        let same = version == self.version;
        if same {
            self.bytes = gate.encode(&mut [0; MAX_SIZE]).to_vec();
            self.version += 1;
        }
        same
    }

    fn in_flight(&self) -> usize {
        self.threads.iter().map(|t| t.serving).sum()
    }

    fn untold(&self) -> i32 {
        self.threads.iter().map(|t| t.untold).sum()
    }

    fn step(&mut self, step: &Step, ask: Ask) {
        match *step {
            Step::Lose(times) => self.lose += times,
            Step::Tick(at) => self.tell(at, 0),
            Step::End(at) if self.threads[at].serving == 0 => {}
            Step::End(at) => {
                self.threads[at].serving -= 1;
                self.tell(at, -1);
            }
            Step::Thread(at) => match self.threads[at].trying.take() {
                None => {
                    let trying = (ask, self.gate(), self.version, 0);
                    self.threads[at].trying = Some(trying);
                }
                Some((ask, read, version, lost)) => self.decide(at, ask, read, version, lost),
            },
        }
        // Nothing is counted twice and nothing is lost, whatever the gate has been told.
        let known = i64::from(self.gate().in_flight) + i64::from(self.untold());
        assert_eq!(known, self.in_flight() as i64);
    }

    fn decide(&mut self, at: usize, ask: Ask, read: Gate, version: u64, lost: u32) {
        let untold = self.threads[at].untold;
        let (next, verdict) = read.settle(untold).decide(&self.capacity, 0, ask);
        if !verdict.serves() {
            return;
        }
        if self.swap(&next, version) {
            let limit = self.capacity.concurrency.unwrap().get() as i32;
            if verdict == Verdict::Admit && ask.bounceable {
                let others = self.untold() - untold;
                assert!(
                    (self.in_flight() as i32) < limit + others,
                    "{} in flight, {others} of them untold, of {limit}",
                    self.in_flight()
                );
            }
            self.threads[at].untold = 0;
        } else if lost + 1 < TRIES {
            self.threads[at].trying = Some((ask, self.gate(), self.version, lost + 1));
            return;
        } else {
            self.threads[at].untold += 1;
        }
        self.threads[at].serving += 1;
    }

    /// As the filter tells an end: without a pause for others, but losing where they win.
    fn tell(&mut self, at: usize, change: i32) {
        let untold = self.threads[at].untold + change;
        self.threads[at].untold = untold;
        for _ in 0..TRIES {
            if untold == 0 {
                return;
            }
            let next = self.gate().settle(untold);
            if self.swap(&next, self.version) {
                self.threads[at].untold = 0;
                return;
            }
        }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    (any::<bool>(), 0..4, any::<bool>()).prop_map(|(own, kind, shed)| Ask {
        class: if own { Class::Own } else { Class::Overflow },
        bounceable: kind > 0,
        returned: own && kind == 0,
        shed,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let thread = 0..THREADS;
    let step = prop_oneof![
        10 => thread.clone().prop_map(Step::Thread),
        4 => thread.clone().prop_map(Step::End),
        1 => thread.prop_map(Step::Tick),
        1 => (1..=2 * TRIES).prop_map(Step::Lose),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Never is a bounceable request admitted while L are in flight, but for what a thread that
    /// lost all its swaps could not tell; and what went in comes out.
    #[test]
    fn no_more_than_the_limit_and_none_is_lost(
        limit in 1_u32..12,
        steps in steps(),
        asks in prop::collection::vec(ask(), 1..40),
    ) {
        let mut play = Play::new(limit);
        for (step, ask) in steps.iter().zip(asks.iter().cycle()) {
            play.step(step, *ask);
        }
        play.lose = 0;
        for at in 0..THREADS {
            play.threads[at].trying = None;
            while play.threads[at].serving > 0 {
                play.step(&Step::End(at), asks[0]);
            }
            play.step(&Step::Tick(at), asks[0]);
        }
        prop_assert_eq!(play.gate().in_flight, 0);
    }
}
