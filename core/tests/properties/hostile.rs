//! Whatever arrives: nothing panics, and no bound moves.

use proptest::prelude::*;
use spillway_core::fixed::{ONE, decay, exp_neg};
use spillway_core::gate::{Class, Gate};
use spillway_core::header::{Flags, Hop, Load, MAX_LEN, number};
use spillway_core::load::{Counts, MAX_RHO, Sums};
use spillway_core::rate::{Capacity, Rate, SECOND, Unit};
use spillway_core::record::{MAX_SIZE, Record, VERSION};
use spillway_core::server::Server;
use spillway_core::switch::Switch;

use crate::shared::help::count;

/// Bytes that look like a header of ours, more or less.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        3 => "[a-z0-9-]{0,12}",
        2 => "[0-9]{0,12}",
        1 => "[bhs]{0,4}",
        1 => "-?[0-9]{1,3}(\\.[0-9])?|NaN|inf|1e9",
        1 => "\\PC{0,5}",
    ];
    let list = prop::collection::vec(part, 0..9).prop_map(|parts| parts.join(";").into_bytes());
    prop_oneof![4 => list, 1 => prop::collection::vec(any::<u8>(), 0..500)]
}

fn counts() -> impl Strategy<Value = Counts> {
    (any::<u64>(), any::<u64>(), any::<u64>(), 0_u32..64).prop_map(
        |(own, overflow, admitted, shift)| Counts {
            own: own >> shift,
            overflow: overflow >> shift,
            admitted: admitted >> shift,
        },
    )
}

fn capacity() -> impl Strategy<Value = Capacity> {
    let unit = prop::sample::select(vec![Unit::Second, Unit::Minute, Unit::Hour]);
    let rate = (1..=Rate::MAX_COUNT, unit).prop_map(|(n, unit)| Rate::new(n, unit).unwrap());
    let endpoints = prop_oneof![1_u32..50, 1_u32..=u32::MAX];
    (
        prop::option::of(rate),
        prop::option::of(1_u32..=u32::MAX),
        endpoints,
        any::<bool>(),
    )
        .prop_map(|(rate, concurrency, endpoints, total)| {
            let of = if total {
                Capacity::of_total
            } else {
                Capacity::of_each
            };
            of(rate, concurrency.map(count), count(endpoints))
        })
}

fn records<R: Record + PartialEq + core::fmt::Debug>(bytes: &[u8]) {
    if let Some(record) = R::decode(bytes) {
        assert_eq!(bytes.len(), R::SIZE);
        assert_eq!(bytes[..2], [R::KIND, VERSION]);
        let mut buffer = [0; MAX_SIZE];
        assert_eq!(R::decode(record.encode(&mut buffer)), Some(record));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_header_is_read_as_it_stands_or_not_at_all(value in header()) {
        if let Some(hop) = Hop::parse(&value) {
            prop_assert!(value.len() <= MAX_LEN && hop.echo > 0);
            // What was read, written again, is the value up to zeros before N and flags' order.
            let start = Hop::start(hop.target, hop.token, hop.home, hop.policy);
            prop_assert!(value.starts_with(&start));
            let mut again = Vec::new();
            Hop::finish(&mut again, &start, hop.echo, hop.flags);
            prop_assert_eq!(Hop::parse(&again), Some(hop));
        }
        if let Some(load) = Load::parse(&value) {
            let mut again = Vec::new();
            load.write(&mut again);
            prop_assert_eq!(Load::parse(&again), Some(load));
        }
        let _ = number(&value);
    }

    #[test]
    fn names_come_through_a_header(
        names in prop::array::uniform4("[ -:<-~]{0,60}"),
        echo in 1_u32..1_000_000_000,
        flags: [bool; 3],
    ) {
        let [target, token, home, policy] = &names;
        let [bounceable, returned, shadow] = flags;
        let flags = Flags { bounceable, returned, shadow };
        let mut value = Vec::new();
        Hop::finish(&mut value, &Hop::start(target, token, home, policy), echo, flags);
        let hop = Hop { target, token, home, policy, echo, flags };
        prop_assert_eq!(Hop::parse(&value), Some(hop));
    }

    /// The credit stays within its cap, whatever is claimed: n requests count for at most
    /// n·max(1.1, ρ) and one cap; and one by one for at least one each while ρ ≥ 1.1 explains it.
    #[test]
    fn claims_are_bounded(
        rounds in prop::collection::vec(
            (counts(), prop::collection::vec((any::<u32>(), 0_u32..8, any::<bool>()), 0..40)),
            1..8,
        ),
        capacity in capacity(),
    ) {
        let (mut server, mut sums) = (Server::default(), Sums::default());
        let (mut now, mut most_rho) = (SECOND, [1_100_u64; 2]);
        let (mut claims, mut counted, mut free) = ([0_u64; 2], [0_u64; 2], [0_u64; 2]);
        for (counts, requests) in rounds {
            now += SECOND / 10;
            sums = sums.tick(&capacity, now, counts, 3);
            server.on_sums(&sums, now);
            for (i, class) in [Class::Own, Class::Overflow].into_iter().enumerate() {
                prop_assert!(sums.rho(class) <= MAX_RHO);
                most_rho[i] = most_rho[i].max(u64::from(sums.rho(class)));
            }
            for (echo, attempt, own) in requests {
                let home = if own { "a" } else { "z" };
                let flags = Flags::default();
                let hop = Hop { target: "a", token: "", home, policy: "", echo, flags };
                server.on_request(Some(&hop), attempt, "a", false);
                let class = usize::from(!own);
                claims[class] += u64::from(attempt == 1);
                free[class] += u64::from(attempt == 3 && !own);
            }
            let told = server.drain();
            counted[0] += told.own;
            counted[1] += told.overflow;
        }
        for class in 0..2 {
            let cap = 4 * most_rho[class].max(1_000) + 4_000;
            let most = claims[class] * most_rho[class] + cap + free[class] * 1_000;
            prop_assert!(counted[class] * 1_000 <= most, "{counted:?} of {claims:?}, {most_rho:?}");
            // Each claim counts one at least: the credit grows by more than one a claim.
            prop_assert!(counted[class] >= claims[class] + free[class]);
        }
    }

    #[test]
    fn sums_never_overflow(
        ticks in prop::collection::vec((any::<u64>(), 0_u32..64, counts(), any::<u32>()), 1..30),
        capacity in capacity(),
    ) {
        let mut sums = Sums::default();
        for (now, shift, counts, in_flight) in ticks {
            sums = sums.tick(&capacity, now >> shift, counts, in_flight);
            prop_assert!(sums.rho(Class::Own) <= MAX_RHO);
            prop_assert!(sums.rho(Class::Overflow) <= MAX_RHO);
            let _ = sums.demand_milli();
        }
    }

    /// Steady demand of any size and any ticks converges to the true load within 1 %.
    #[test]
    fn the_load_converges(
        rate in 5_u32..5_000,
        demand in 1_u64..20_000,
        ticks in prop::collection::vec(81_u64..250, 20..60),
    ) {
        let capacity = crate::shared::help::each(rate, 1);
        let (mut sums, mut now, mut sent) = (Sums::default(), SECOND, 0);
        let end = now + 20 * capacity.tau();
        for milli in ticks.iter().cycle() {
            now += milli * SECOND / 1_000;
            // Evenly spaced, so that a fold is off by one request at most.
            let due = (now - SECOND) / 1_000 * demand / (SECOND / 1_000);
            let counts = Counts { own: due - sent, ..Counts::default() };
            sent = due;
            sums = sums.tick(&capacity, now, counts, 0);
            if now > end {
                break;
            }
        }
        let truth = (demand as f64 / f64::from(rate) * 1_000.0).min(f64::from(MAX_RHO));
        // One request more or less in the last fold weighs 1/tau of demand.
        let one = 1_000.0 / (f64::from(rate) * capacity.tau() as f64 / SECOND as f64);
        let off = (f64::from(sums.rho(Class::Own)) - truth).abs();
        prop_assert!(off <= truth * 0.01 + one + 1.0, "{} is told, {truth} is true", sums.rho(Class::Own));
    }

    #[test]
    fn any_bytes_decode_to_a_record_or_to_none(
        mut bytes in prop::collection::vec(any::<u8>(), 0..100),
        kind in prop::sample::select(vec![Gate::KIND, Sums::KIND, Switch::KIND, b'?']),
        version in prop::sample::select(vec![0, VERSION, VERSION + 1, 255]),
        size in prop::sample::select(vec![0, Gate::SIZE, Sums::SIZE, Switch::SIZE, 100]),
    ) {
        bytes.resize(size, 7);
        for (to, byte) in bytes.iter_mut().zip([kind, version]) {
            *to = byte;
        }
        records::<Gate>(&bytes);
        records::<Sums>(&bytes);
        records::<Switch>(&bytes);
        let known = version == VERSION;
        prop_assert!(Gate::decode(&bytes).is_none() || (known && kind == Gate::KIND));
        prop_assert!(Sums::decode(&bytes).is_none() || (known && kind == Sums::KIND));
        prop_assert!(Switch::decode(&bytes).is_none() || (known && kind == Switch::KIND));
    }

    #[test]
    fn any_gate_comes_back(tat: u64, all: u64, in_flight: u32) {
        let gate = Gate { tat, all, in_flight };
        let mut buffer = [0; MAX_SIZE];
        prop_assert_eq!(Gate::decode(gate.encode(&mut buffer)), Some(gate));
    }

    #[test]
    fn exp_neg_is_e_to_the_minus(num: u64, den: u64, shift in 0_u32..64) {
        let (num, den) = (num >> shift, den.max(1));
        let ours = exp_neg(num, den) as f64 / ONE as f64;
        let truth = (-(num as f64) / den as f64).exp();
        prop_assert!((ours - truth).abs() < 1.0 / (1_u64 << 28) as f64, "{ours} {truth}");
    }

    #[test]
    fn decay_stays_between(old: u64, new: u64, e: u64) {
        let mixed = decay(old, new, e);
        prop_assert!((old.min(new)..=old.max(new)).contains(&mixed) || mixed + 1 == old.min(new));
    }

    #[test]
    fn rates_come_back(n in 1..=Rate::MAX_COUNT, unit in 0_usize..3) {
        let text = format!("{n}/{}", ["s", "m", "h"][unit]);
        prop_assert_eq!(Rate::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn any_text_is_a_rate_or_an_error(text in "\\PC{0,20}|[0-9+-]{0,12}/[smh]?") {
        if let Ok(rate) = Rate::parse(&text) {
            let zeros = text.trim_start_matches('0');
            prop_assert_eq!(rate.to_string(), zeros);
        }
    }
}
