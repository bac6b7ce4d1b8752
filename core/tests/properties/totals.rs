//! Switch mode by the rate of the whole service, against its rule in plain arithmetic, and against
//! callers that lie.

use proptest::prelude::*;
use spillway_core::header::{Flags, Hop};
use spillway_core::rate::SECOND;
use spillway_core::record::{MAX_SIZE, Record};
use spillway_core::totals::epoch::{Epoch, MOST_AHEAD, News};
use spillway_core::totals::home::{Home, Totals};
use spillway_core::totals::watch::Watch;

use crate::shared::help::MILLI;
use crate::shared::service::{Service, limits};

/// Times in an order that answers need not have, of a few endpoints.
fn visits() -> impl Strategy<Value = Vec<(usize, u32, u32, bool)>> {
    prop::collection::vec((0..3_usize, 0..60_u32, 1..3_000_u32, any::<bool>()), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The epoch changes at a crossing of Bs = max(20, 1.33 s × enter), by one, and nowhere else;
    /// and a restart that knows the epoch goes on with it.
    #[test]
    fn a_change_only_at_a_crossing(
        enter in 2_u32..2_000,
        leave_share in 0.05_f64..0.95,
        endpoints in 1_u32..5,
        visits in visits(),
        first in 0..1_000_000_000_u32,
        restart in prop::option::of(0..300_usize),
    ) {
        let leave = ((f64::from(enter) * leave_share) as u32).clamp(1, enter - 1);
        let limits = limits(enter, leave, endpoints);
        let bs = (f64::from(enter) * 1.33).max(20.0);
        let m = f64::from(endpoints);
        let mut watch = Watch::new(Epoch::new(first).unwrap(), SECOND);
        let mut known: [Option<(u32, u32)>; 3] = [None; 3];
        let (mut up, mut down) = (0.0_f64, 0.0_f64);
        let (mut now, mut clock, mut total) = (SECOND, 0_u32, 0_u32);
        for (i, (endpoint, came, milli, late)) in visits.into_iter().enumerate() {
            if restart == Some(i) {
                let mut buffer = [0; MAX_SIZE];
                let stored = Epoch::decode(watch.epoch().encode(&mut buffer)).unwrap();
                watch = Watch::new(stored, now);
                known = [None; 3];
                (up, down) = (0.0, 0.0);
            }
            now += u64::from(milli) * MILLI;
            clock += milli;
            total += came * enter / 20;
            let before = watch.epoch();
            // One that was overtaken says what was true before.
            let (told, at) = if late { known[endpoint].unwrap_or((total, clock)) } else { (total, clock) };
            let news = News { endpoint: endpoint as u32 + 1, total: told, time: at, demand: 0, epoch: before };
            watch.on_news(&limits, &news, now);
            let mut expected = before;
            match known[endpoint] {
                Some((_, then)) if at == then => {}
                Some((had, then)) => {
                    let (came, seconds) = (f64::from(told - had), f64::from(at - then) / 1_000.0);
                    if at - then > 30_000 {
                        known[endpoint] = Some((told, at));
                        prop_assert_eq!(watch.epoch(), before);
                        continue;
                    }
                    up = (up + came - f64::from(enter) / m * seconds).max(0.0);
                    down = (down + f64::from(leave) / m * seconds - came).max(0.0);
                    let crossing = if before.switched() { down } else { up };
                    if (crossing - bs).abs() < 1e-3 {
                        return Ok(()); // too near to tell by floating point
                    }
                    known[endpoint] = Some((told, at));
                    // Sums beyond the threshold are not told apart.
                    (up, down) = (up.min(bs + 1e-6), down.min(bs + 1e-6));
                    if crossing > bs {
                        expected = before.next();
                        (up, down) = (0.0, 0.0);
                        known = [None; 3];
                    }
                }
                None => known[endpoint] = Some((told, at)),
            }
            prop_assert_eq!(watch.epoch(), expected, "up {} down {} of {}", up, down, bs);
        }
    }

    /// No number of an answer is too large, and no time too long.
    #[test]
    fn no_news_do_harm(
        told in prop::collection::vec((0_u32..4, any::<[u32; 3]>(), 0..1_000_000_000_u32, any::<u64>(), 0_u32..64), 1..60),
        rates in (1_u32..1_000_000, any::<u32>()),
    ) {
        let enter = rates.0 + 1;
        let limits = limits(enter, rates.0, rates.1.max(1));
        let mut watch = Watch::new(Epoch::default(), 0);
        for (endpoint, [total, time, demand], epoch, now, shift) in told {
            let news = News { endpoint, total, time, demand, epoch: Epoch::new(epoch).unwrap() };
            watch.on_news(&limits, &news, now >> shift);
            let leaves = watch.leaves(now >> shift);
            watch.on_sent(!leaves, now >> shift);
        }
    }

    /// Whatever requests claim and whatever the record held: an endpoint counts at most twenty each,
    /// and moves by at most a thousand a tick, and leaves only where there is demand.
    #[test]
    fn no_claim_moves_an_endpoint_far(
        requests in prop::collection::vec((any::<u32>(), 0..1_000_000_000_u32, 0_u32..4, 0_u64..400), 1..200),
        begins in 0..1_000_000_000_u32,
    ) {
        let limits = limits(15, 10, 2);
        let mut totals = Totals::default();
        let mut home = Home::default();
        let mut now = SECOND;
        let mut asked = 0_u64;
        let mut header = Vec::new();
        let start = Hop::start("home", "mesh-token-1", "home", "worker");
        let mut before = None;
        for (echo, epoch, attempt, milli) in requests {
            Hop::finish(&mut header, &start, echo.max(1), Flags::default());
            Epoch::new((begins + epoch / 1_000) % 1_000_000_000).unwrap().append(&mut header);
            let hop = Hop::parse(&header);
            let news = home.on_request(hop.as_ref(), Epoch::of_hop(&header), attempt, "home");
            asked += 20;
            if let (Some(news), Some(first)) = (news, before.or(news)) {
                before = Some(first);
                prop_assert!(u64::from(news.total.wrapping_sub(first.total)) <= asked);
            }
            now += milli * MILLI;
            let was = totals.epoch();
            let mut buffer = [0; MAX_SIZE];
            totals = Totals::decode(totals.encode(&mut buffer)).unwrap();
            totals = totals.tick(&limits, now, || 5, &home.drain());
            home.on_totals(totals);
            prop_assert!(totals.epoch() == was || (1..=2 * MOST_AHEAD).contains(&totals.epoch().ahead_of(was)));
            if totals.epoch() != was && totals.epoch().switched() {
                prop_assert!(totals.demand_milli() >= 4_499, "at {}", now);
            }
        }
    }
}

/// A liar of one request a second, which says each time that the next change has come: well above the
/// limits and below them nothing changes; between them an endpoint follows four times, and once a
/// minute, and honest callers bring each change back at most.
#[test]
fn a_liar_changes_little() {
    const MINUTES: u64 = 10;
    for (rate, state) in [(2.0, Some(0)), (12.5, None), (22.0, None), (45.0, Some(4))] {
        for seed in 0..3 {
            let mut service = Service::new(limits(15, 10, 2), 4, seed);
            service.pass(rate, 60 * SECOND);
            let before = service.switched();
            assert!(
                state.is_none_or(|state| state == before),
                "{rate}/s: {before}"
            );
            for one in &mut service.callers {
                one.changes.clear();
            }
            for second in 0..MINUTES * 60 {
                let heard = service.callers.iter().map(|one| one.watch.epoch());
                let newest = heard.reduce(|a, b| if b.ahead_of(a) > 0 { b } else { a });
                let mut lie = newest.unwrap().next();
                // Now and then a number from nowhere.
                if second % 7 == 0 {
                    let anywhere = second * 7_654_321 % 1_000_000_000;
                    lie = Epoch::new(anywhere as u32).unwrap();
                }
                service.visit(1, Some(lie));
                service.pass(rate, SECOND);
            }
            let changes: Vec<usize> = service
                .callers
                .iter()
                .map(|one| one.changes.len())
                .collect();
            // Of two endpoints, there and back, and what chance adds.
            let most = if state.is_some() {
                0
            } else {
                2 * 2 * (4 + MINUTES as usize) + 4
            };
            assert!(
                changes.iter().all(|changes| *changes <= most),
                "{rate}/s: {changes:?}"
            );
        }
    }
}
