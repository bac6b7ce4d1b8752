//! The gate between real threads, on the bytes that the host would share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use spillway_core::gate::{Ask, Class, Gate, Verdict};
use spillway_core::rate::{Capacity, SECOND};
use spillway_core::record::{MAX_SIZE, Record};

use crate::shared::help::{Random, assert_bounded, assert_gate_bound, count, per_second};

const THREADS: u64 = 4;
const REQUESTS: usize = 20_000;
const TRIES: u32 = 4;

/// Bytes with their version: the host's shared data.
struct Shared(Mutex<(Vec<u8>, u64)>);

impl Shared {
    fn load(&self) -> (Gate, u64) {
        let guard = self.0.lock().unwrap();
        (Gate::decode(&guard.0).unwrap(), guard.1)
    }

    fn swap(&self, gate: &Gate, version: u64) -> bool {
        let mut guard = self.0.lock().unwrap();
        let same = guard.1 == version;
        if same {
            guard.0 = gate.encode(&mut [0; MAX_SIZE]).to_vec();
            guard.1 += 1;
        }
        same
    }
}

#[derive(Default)]
struct Told {
    admitted: Vec<u64>,
    overflow: Vec<u64>,
    lost: usize,
    gave_up: usize,
}

fn work(shared: &Shared, clock: &AtomicU64, capacity: &Capacity, seed: u64) -> Told {
    let mut random = Random::new(seed);
    let mut told = Told::default();
    for _ in 0..REQUESTS {
        let own = random.share(0.6);
        let returned = own && random.share(0.1);
        let ask = Ask {
            class: if own { Class::Own } else { Class::Overflow },
            bounceable: !returned && random.share(0.8),
            returned,
            shed: random.share(0.1),
        };
        // The clock of all runs at about twice the rate of the capacity.
        let now = clock.fetch_add(random.next() % 500_000, Ordering::SeqCst);
        for attempt in 1..=TRIES {
            let (gate, version) = shared.load();
            // A thread that the others have left a second behind is out of the gate's bound.
            let now = now.max(clock.load(Ordering::SeqCst) - SECOND);
            if random.share(0.3) {
                std::thread::yield_now();
            }
            let (next, verdict) = gate.decide(capacity, now, ask);
            if matches!(verdict, Verdict::Bounce | Verdict::Shed) {
                break;
            }
            if shared.swap(&next, version) {
                if verdict == Verdict::Admit && (!ask.returned || ask.shed) {
                    told.admitted.push(now);
                    if !own {
                        told.overflow.push(now);
                    }
                }
                break;
            }
            told.lost += 1;
            told.gave_up += usize::from(attempt == TRIES);
        }
    }
    told
}

#[test]
fn real_threads_admit_no_more() {
    let capacity = Capacity::of_each(Some(per_second(2_000)), None, count(1));
    let rate = capacity.rate.unwrap();
    let fresh = Gate::default().encode(&mut [0; MAX_SIZE]).to_vec();
    let shared = Shared(Mutex::new((fresh, 1)));
    let clock = AtomicU64::new(1_000 * SECOND);
    let barrier = Barrier::new(THREADS as usize);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                let (shared, clock, barrier, capacity) = (&shared, &clock, &barrier, &capacity);
                scope.spawn(move || {
                    barrier.wait();
                    work(shared, clock, capacity, seed)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let all = |part: fn(&Told) -> &Vec<u64>| -> Vec<u64> {
        told.iter().flat_map(part).copied().collect()
    };
    let admitted = all(|t| &t.admitted);
    let lost: usize = told.iter().map(|t| t.lost).sum();
    let gave_up: usize = told.iter().map(|t| t.gave_up).sum();
    assert!(lost > 0, "the threads never met");
    assert!(
        gave_up * 20 < REQUESTS * THREADS as usize,
        "{gave_up} gave up"
    );
    assert!(admitted.len() > REQUESTS / 2, "{}", admitted.len());
    assert_gate_bound(admitted, &rate, "own and overflow");
    let half = rate.limit / 2 + rate.interval;
    assert_bounded(all(|t| &t.overflow), rate.interval, half, "overflow");
}
