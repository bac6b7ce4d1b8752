//! Switch mode by the rate of the whole service: one rule after the other. Whole services are in
//! [`super::sharing`].

use spillway_core::header::{Flags, Hop, Load};
use spillway_core::rate::SECOND;
use spillway_core::totals::epoch::{Epoch, MOST_AHEAD, News};
use spillway_core::totals::home::{Home, Totals};
use spillway_core::totals::watch::Watch;
use spillway_core::totals::{Limits, TRICKLE};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::MILLI;
use super::service::limits;

fn epoch(number: u32) -> Epoch {
    Epoch::new(number).unwrap()
}

const LAST: u32 = 999_999_999;

#[test]
fn epochs_go_around() {
    assert_eq!(Epoch::new(LAST + 1), None);
    assert_eq!(epoch(LAST).next(), epoch(0));
    assert!(epoch(LAST).switched() && !epoch(0).switched() && epoch(1).switched());
    for (newer, older, ahead) in [
        (1, 0, 1),
        (0, 1, 0),
        (7, 7, 0),
        (0, LAST, 1),
        (LAST, 0, 0),
        (499_999_999, 0, 499_999_999),
        (500_000_000, 0, 0),
        (4, LAST - 5, 10),
    ] {
        assert_eq!(
            epoch(newer).ahead_of(epoch(older)),
            ahead,
            "{newer} {older}"
        );
    }
}

fn hop(echo: u32, tail: &str) -> Vec<u8> {
    let mut header = Vec::new();
    let start = Hop::start("home", "mesh-token-1", "home", "worker");
    Hop::finish(&mut header, &start, echo, Flags::default());
    header.extend_from_slice(tail.as_bytes());
    header
}

#[test]
fn tails_are_read_whole_or_not_at_all() {
    let mut header = hop(3, "");
    assert!(Hop::parse(&header).is_some());
    assert_eq!(Epoch::of_hop(&header), None);
    epoch(LAST).append(&mut header);
    assert_eq!(header, hop(3, ";999999999"));
    assert_eq!(Hop::parse(&header).map(|hop| hop.echo), Some(3));
    assert_eq!(Epoch::of_hop(&header), Some(epoch(LAST)));
    for bad in [
        ";",
        ";;",
        ";x",
        ";-1",
        ";1;",
        ";1;2",
        ";1234567890",
        "; 1",
        ";1;1;1;1",
    ] {
        assert_eq!(Hop::parse(&hop(3, bad)), None, "{bad}");
        assert_eq!(Epoch::of_hop(&hop(3, bad)), None, "{bad}");
    }
    let good = "home;1200;1;5;70;9000;2500;3";
    let news = News {
        endpoint: 5,
        total: 70,
        time: 9_000,
        demand: 2_500,
        epoch: epoch(3),
    };
    assert_eq!(News::of_load(good.as_bytes()), Some(news));
    assert!(Load::parse(good.as_bytes()).is_some());
    let mut written = b"home;1200;1".to_vec();
    assert_eq!(News::of_load(&written), None);
    news.append(&mut written);
    assert_eq!(written, good.as_bytes());
    for bad in [
        "home;1;1;",
        "home;1;1;5",
        "home;1;1;5;70;9000;3",
        "home;1;1;5;70;9000;1;3;1",
        "home;1;1;5;70;9000;x;3",
    ] {
        assert_eq!(Load::parse(bad.as_bytes()), None, "{bad}");
        assert_eq!(News::of_load(bad.as_bytes()), None, "{bad}");
    }
}

const START: u64 = 1_000 * SECOND;

fn news(endpoint: u32, total: u32, time: u32, number: u32) -> News {
    News {
        endpoint,
        total,
        time,
        demand: 0,
        epoch: epoch(number),
    }
}

/// The first news of an endpoint are where counting begins; then 40 requests in a second are 25
/// more than 15, and pass 20.
#[test]
fn a_caller_learns_from_an_endpoint_what_all_callers_sent_there() {
    let limits = limits(15, 10, 1);
    let mut watch = Watch::new(Epoch::default(), START);
    watch.on_news(&limits, &news(1, 123_456_789, LAST - 499, 0), START);
    assert!(!watch.epoch().switched());
    // Both numbers go around.
    watch.on_news(&limits, &news(1, 123_456_824, 500, 0), START + SECOND);
    assert!(!watch.epoch().switched(), "20 and not more");
    watch.on_news(&limits, &news(1, 123_456_840, 1_500, 0), START + 2 * SECOND);
    assert_eq!(watch.epoch(), epoch(1), "21");
    // It begins anew. Nothing for two seconds is 20 less than 10/s, and for longer more than that.
    for (time, number) in [(3_500, 1), (5_500, 1), (5_600, 2)] {
        let now = START + u64::from(time) * MILLI;
        watch.on_news(&limits, &news(1, 123_456_840, time, 1), now);
        assert_eq!(watch.epoch(), epoch(number));
    }
}

#[test]
fn news_that_are_old_or_impossible_count_for_nothing() {
    let limits = limits(15, 10, 1);
    let mut watch = Watch::new(Epoch::default(), START);
    watch.on_news(&limits, &news(1, 1_000, 50_000, 0), START);
    for (total, time, after, what) in [
        (500, 49_900, 0, "overtaken by a later answer"),
        (9_000, 50_000, 0, "without any time"),
        (9_000, 20_000, 0, "of long ago"),
        (9_000, 700_000_000, 0, "of another clock"),
        (19_000, 750_000, 31 * SECOND, "heard too long ago"),
    ] {
        watch.on_news(&limits, &news(1, total, time, 0), START + after);
        assert_eq!(watch.epoch(), epoch(0), "{what}");
    }
}

/// With more endpoints than are remembered the sums still grow, by those that are met again.
#[test]
fn the_table_is_bounded() {
    let limits = limits(15, 10, 200);
    let mut watch = Watch::new(Epoch::default(), START);
    for second in 0..600_u32 {
        let now = START + u64::from(second) * SECOND / 10;
        let endpoint = second % 70;
        watch.on_news(&limits, &news(endpoint, second * 100, second * 100, 0), now);
    }
    // 70 in turn through 64 places: never met again.
    assert!(!watch.epoch().switched());
    for second in 600..700_u32 {
        let now = START + u64::from(second) * SECOND / 10;
        watch.on_news(
            &limits,
            &news(second % 50, second * 100, second * 100, 0),
            now,
        );
    }
    assert!(watch.epoch().switched());
}

#[test]
fn while_switched_a_twentieth_comes_home_and_one_a_second() {
    let mut watch = Watch::new(epoch(1), START);
    let mut home = Vec::new();
    for i in 0..200_u64 {
        // A hundred at once, then two a second.
        let now = START + i.saturating_sub(100) * SECOND / 2;
        let leaves = watch.leaves(now);
        watch.on_sent(!leaves, now);
        if !leaves {
            home.push(i);
        }
    }
    let expected: Vec<u64> = (19..100).step_by(20).chain((102..200).step_by(2)).collect();
    assert_eq!(home, expected);
    assert!(!Watch::new(epoch(2), START).leaves(START));
}

/// 40/s at each of two endpoints where all leave at 15/s and return at 10/s: 10/s may come home, so
/// one of eight; and one in 30 s, whatever was heard before.
#[test]
fn slow_callers_come_home_as_far_as_there_is_room() {
    let mut watch = Watch::new(epoch(1), START);
    let heard = News {
        demand: 40_000,
        ..news(1, 0, 0, 1)
    };
    watch.on_news(&limits(15, 10, 2), &heard, START);
    watch.on_sent(true, START);
    let home: Vec<u64> = (1..=40)
        .filter(|second| {
            let now = START + second * 2 * SECOND;
            let leaves = watch.leaves(now);
            watch.on_sent(!leaves, now);
            !leaves
        })
        .collect();
    assert_eq!(home, [8, 16, 24, 32, 40]);
    assert!(watch.leaves(START + 90 * SECOND));
    assert!(!watch.leaves(START + 110 * SECOND));
}

/// Adopted, whoever says it; what was summed up for another state is forgotten.
#[test]
fn a_newer_epoch_is_followed_and_an_older_one_is_not() {
    let limits = limits(15, 10, 1);
    let mut watch = Watch::new(epoch(5), START);
    watch.on_news(&limits, &news(1, 0, 0, 4), START);
    assert_eq!(watch.epoch(), epoch(5));
    watch.on_news(&limits, &news(1, 0, 1_900, 5), START + 2 * SECOND);
    watch.on_news(&limits, &news(1, 0, 1_901, 8), START + 2 * SECOND);
    assert_eq!(watch.epoch(), epoch(8));
    watch.on_news(&limits, &news(1, 0, 1_950, 9), START + 2 * SECOND);
    watch.on_news(&limits, &news(1, 0, 3_800, 9), START + 4 * SECOND);
    assert_eq!(
        watch.epoch(),
        epoch(9),
        "19 of 20 were for the epoch 5, and 18.5 for this one"
    );
}

/// An endpoint with demand of this rate, and its thread.
struct At {
    limits: Limits,
    totals: Totals,
    home: Home,
    now: u64,
}

impl At {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            totals: Totals::default(),
            home: Home::default(),
            now: START,
        }
    }

    fn tick(&mut self) {
        self.now += 100 * MILLI;
        let seen = self.home.drain();
        self.totals = self.totals.tick(&self.limits, self.now, || 42, &seen);
        self.home.on_totals(self.totals);
    }

    fn ask(&mut self, header: &[u8], attempt: u32, own: &str) -> Option<News> {
        let hop = Hop::parse(header);
        self.home
            .on_request(hop.as_ref(), Epoch::of_hop(header), attempt, own)
    }

    /// So many requests in each tick, for so many ticks.
    fn demand(&mut self, in_tick: u32, ticks: u32) {
        for _ in 0..ticks {
            for _ in 0..in_tick {
                self.ask(&hop(1, ""), 1, "home");
            }
            self.tick();
        }
    }

    /// What it believes after a request with this epoch.
    fn believes(&mut self, number: u32) -> Epoch {
        self.ask(&hop(1, &format!(";{number}")), 1, "home");
        self.tick();
        self.totals.epoch()
    }
}

#[test]
fn an_endpoint_counts_what_was_meant_for_it() {
    let mut at = At::new(limits(15, 10, 1));
    assert_eq!(at.ask(&hop(1, ";0"), 1, "home"), None, "it has no name yet");
    at.tick();
    let before = at.ask(&hop(1, ";0"), 1, "home").unwrap();
    assert_eq!((before.endpoint, before.total), (42, 1));
    at.ask(&hop(7, ""), 1, "home");
    at.ask(&hop(u32::MAX, ";0"), 1, "home"); // believed to stand for 20
    at.ask(b"", 1, "home"); // a caller without the filter
    at.ask(&hop(7, ";0"), 2, "home"); // a retry
    at.ask(&hop(7, ";0"), 1, "burst"); // another cluster's
    let spilled = Hop::start("burst", "mesh-token-1", "home", "worker");
    let mut header = Vec::new();
    Hop::finish(&mut header, &spilled, 7, Flags::default());
    at.ask(&header, 1, "home"); // for another target
    at.tick();
    let after = at.ask(&hop(1, ";0"), 1, "home").unwrap();
    assert_eq!(after.total - before.total, 1 + 7 + TRICKLE + 1);
    assert_eq!(after.time - before.time, 100);
    assert_eq!(
        at.ask(&hop(1, ""), 1, "home"),
        None,
        "who tells no epoch is told nothing"
    );
}

/// Switched from .9 × leave on, home up to 1.1 × enter: 9 and 16.5 a second.
#[test]
fn an_endpoint_believes_what_its_own_demand_agrees_with() {
    for (in_tick, endpoints, away, home) in [
        (0, 1, false, true),
        (1, 2, true, true),  // 10/s of 7.5: above 1.1 × enter
        (1, 1, true, true),  // 10/s: between
        (2, 1, true, false), // 20/s of 15
        (2, 4, true, false), // 20/s of 3.75
    ] {
        let of = limits(15, 10, endpoints);
        let mut at = At::new(of);
        at.demand(in_tick, 600);
        assert_eq!(at.believes(1).switched(), away, "{in_tick} of {endpoints}");
        let mut at = At::new(of);
        at.demand(1, 600);
        if endpoints < 2 {
            assert!(at.believes(1).switched());
            at.demand(in_tick, 600);
            assert_eq!(!at.believes(2).switched(), home, "{in_tick} of {endpoints}");
        }
    }
}

/// Between the limits both are right: four changes, then one a minute, whoever wants them.
#[test]
fn where_both_states_are_right_changes_are_few() {
    let mut at = At::new(limits(15, 10, 1));
    at.demand(1, 600);
    let mut number = 0;
    let mut changes = Vec::new();
    for second in 0..600 {
        for _ in 0..9 {
            at.demand(1, 1);
        }
        if at.believes(number + 1) != epoch(number) {
            number += 1;
            changes.push(second);
        }
    }
    assert_eq!(number, 4 + 9, "{changes:?}");
    // Above them, the right one is believed at once.
    let to_home = number + number % 2;
    at.believes(to_home);
    at.demand(3, 100);
    assert!(at.believes(to_home + 1).switched());
}

/// A number from nowhere moves an endpoint by a thousand, and never to a state that its demand denies.
#[test]
fn an_epoch_far_ahead_is_followed_in_steps() {
    let mut at = At::new(limits(15, 10, 1));
    at.demand(0, 10);
    assert_eq!(at.believes(400_000_000), epoch(MOST_AHEAD));
    assert_eq!(
        at.believes(400_000_001),
        epoch(MOST_AHEAD),
        "no demand to leave for"
    );
    at.demand(2, 100);
    assert_eq!(at.believes(400_000_001), epoch(2 * MOST_AHEAD - 1));
    assert_eq!(
        at.believes(700_000_000),
        epoch(2 * MOST_AHEAD - 1),
        "older, around the turn"
    );
    assert_eq!(at.believes(2 * MOST_AHEAD + 1), epoch(2 * MOST_AHEAD + 1));
}

/// An honest request is heard among those of a liar, whatever the liar's numbers.
#[test]
fn a_liar_hides_no_honest_epoch() {
    let mut at = At::new(limits(15, 10, 1));
    at.demand(2, 300);
    at.ask(&hop(1, ";499999998"), 1, "home");
    at.ask(&hop(1, ";1"), 1, "home");
    at.ask(&hop(1, ";2"), 1, "home");
    assert_eq!(at.believes(499_999_998), epoch(1));
}

#[test]
fn what_could_not_be_handed_over_is_not_lost() {
    let mut at = At::new(limits(15, 10, 1));
    at.demand(2, 100);
    at.ask(&hop(5, ";1"), 1, "home");
    let seen = at.home.drain();
    at.ask(&hop(2, ";0"), 1, "home");
    at.home.restore(&seen);
    let before = at.ask(&hop(1, ";0"), 1, "home").unwrap();
    at.tick();
    let after = at.ask(&hop(1, ";0"), 1, "home").unwrap();
    assert_eq!(after.total - before.total, 8);
    assert!(after.epoch.switched());
}

/// A record of another clock begins anew, with another name, and keeps the epoch.
#[test]
fn a_clock_that_goes_back_loses_no_epoch() {
    let mut at = At::new(limits(15, 10, 1));
    at.demand(2, 100);
    assert!(at.believes(1).switched());
    at.now = SECOND;
    at.tick();
    assert_eq!(at.totals.epoch(), epoch(1));
    let news = at.ask(&hop(1, ";1"), 1, "home").unwrap();
    assert_eq!((news.total, news.time), (0, 1_100));
}
