//! What the server makes of a request: class, echo, bounce, load, for every attempt.

use spillway_core::config::Config;
use spillway_core::gate::{Class, Verdict};
use spillway_core::header::{Flags, Hop};
use spillway_core::load::{Counts, Sums};
use spillway_core::rate::SECOND;
use spillway_core::server::{RHO_WORTH_SENDING, Server};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::each;

const BOUNCEABLE: Flags = Flags {
    bounceable: true,
    returned: false,
    shadow: false,
};

const fn hop<'a>(target: &'a str, home: &'a str, echo: u32, flags: Flags) -> Hop<'a> {
    Hop {
        target,
        token: "mesh-token-1",
        home,
        policy: "worker",
        echo,
        flags,
    }
}

/// The sums of an endpoint of 10/s that sees this demand for a minute.
fn sums(own: u64, overflow: u64) -> Sums {
    let counts = Counts {
        own,
        overflow,
        admitted: 10,
    };
    (1..60).fold(Sums::default(), |sums, second| {
        sums.tick(&each(10, 1), second * SECOND, counts, 0)
    })
}

/// A server that has been told a load that explains every echo of these tests.
fn told() -> Server {
    let mut server = Server::default();
    server.on_sums(&sums(1_000, 1_000), SECOND);
    server
}

struct Row {
    /// Own demand, overflow demand.
    counted: (u64, u64),
    class: Class,
    bounceable: bool,
    returned: bool,
}

fn rows(target: &str, home: &str, own: &str, flags: Flags, expected: [Row; 6]) {
    rows_of(target, home, own, flags, false, expected);
}

/// The same where the policy sheds, or does not.
fn rows_of(target: &str, home: &str, own: &str, flags: Flags, shed: bool, expected: [Row; 6]) {
    for (attempt, row) in (1..).zip(expected) {
        let mut server = told();
        let request = server.on_request(Some(&hop(target, home, 7, flags)), attempt, own, shed);
        let what = format!("target {target}, home {home}, at {own}, attempt {attempt}");
        let counts = server.drain();
        assert_eq!((counts.own, counts.overflow), row.counted, "{what}");
        assert_eq!(counts.admitted, 0, "{what}");
        assert_eq!(request.ask.class, row.class, "{what}");
        assert_eq!(request.ask.bounceable, row.bounceable, "{what}");
        assert_eq!(request.ask.returned, row.returned, "{what}");
        assert_eq!((request.ask.shed, request.known), (shed, true), "{what}");
        assert_eq!(request.shadow, flags.shadow, "{what}");
        assert_eq!(request.attempt, attempt, "{what}");
        assert!(server.rho_for(&request).is_some(), "{what}");
    }
}

const fn own(counted: u64, bounceable: bool, returned: bool) -> Row {
    Row {
        counted: (counted, 0),
        class: Class::Own,
        bounceable,
        returned,
    }
}

const fn overflow(counted: u64, bounceable: bool) -> Row {
    Row {
        counted: (0, counted),
        class: Class::Overflow,
        bounceable,
        returned: false,
    }
}

/// Sent home: counted once, bounced by home twice, served when it comes back; shed then, where the
/// policy sheds.
#[test]
fn at_home_what_was_sent_home() {
    for shed in [false, true] {
        let expected = [
            own(7, true, false),
            own(0, true, false),
            own(0, false, shed),
            own(0, false, shed),
            own(0, false, shed),
            own(0, false, shed),
        ];
        rows_of("a", "a", "a", BOUNCEABLE, shed, expected);
    }
}

/// Sent to a rung and bounced by it: home did not count it, and must not bounce it.
#[test]
fn at_home_what_was_sent_to_a_rung() {
    for shed in [false, true] {
        let expected = [
            own(0, true, false),
            own(0, true, false),
            own(0, false, shed),
            own(0, false, shed),
            own(0, false, shed),
            own(0, false, shed),
        ];
        rows_of("b", "a", "a", BOUNCEABLE, shed, expected);
    }
}

#[test]
fn at_a_rung_what_was_sent_there() {
    rows(
        "b",
        "a",
        "b",
        BOUNCEABLE,
        [
            overflow(7, true),
            overflow(0, true),
            overflow(1, true),
            overflow(0, true),
            overflow(0, false),
            overflow(0, false),
        ],
    );
}

/// Bounced by home: each rung counts it when it arrives there, as the third attempt.
#[test]
fn at_a_rung_what_was_sent_home() {
    rows(
        "a",
        "a",
        "b",
        BOUNCEABLE,
        [
            overflow(0, true),
            overflow(0, true),
            overflow(1, true),
            overflow(0, true),
            overflow(0, false),
            overflow(0, false),
        ],
    );
}

#[test]
fn a_request_that_does_not_offer_is_never_bounced() {
    for flags in [
        Flags::default(),
        Flags {
            shadow: true,
            ..Flags::default()
        },
    ] {
        rows(
            "a",
            "a",
            "a",
            flags,
            [
                own(7, false, false),
                own(0, false, false),
                own(0, false, false),
                own(0, false, false),
                own(0, false, false),
                own(0, false, false),
            ],
        );
        rows(
            "b",
            "a",
            "b",
            flags,
            [
                overflow(7, false),
                overflow(0, false),
                overflow(1, false),
                overflow(0, false),
                overflow(0, false),
                overflow(0, false),
            ],
        );
    }
}

/// What came home again is never bounced, even where a caller offers it against all sense.
#[test]
fn a_return_is_never_bounced() {
    for bounceable in [false, true] {
        let flags = Flags {
            bounceable,
            returned: true,
            shadow: false,
        };
        let expected = [7, 0, 0, 0, 0, 0].map(|counted| own(counted, false, true));
        rows("a", "a", "a", flags, expected);
    }
    // At a rung the flag means nothing.
    let flags = Flags {
        returned: true,
        ..BOUNCEABLE
    };
    let request = told().on_request(Some(&hop("b", "a", 1, flags)), 1, "b", false);
    assert!(request.ask.bounceable && !request.ask.returned && !request.ask.shed);
}

/// Without a header that is believed: own traffic, one, never bounced, no load back.
#[test]
fn a_caller_without_the_filter() {
    for attempt in 0..=6 {
        let mut server = told();
        let request = server.on_request(None, attempt, "a", true);
        let counts = server.drain();
        assert_eq!((counts.own, counts.overflow), (1, 0));
        assert_eq!(request.ask.class, Class::Own);
        assert!(!request.ask.bounceable && !request.ask.returned && !request.known);
        assert_eq!(server.rho_for(&request), None);
    }
}

/// A wrong token or a policy that nobody knows is a caller without the filter.
#[test]
fn the_token_and_the_policy_decide_whether_a_header_is_believed() {
    let document = r#"{"version": 1, "side": "Server", "tokens": ["new-token", "old-token"],
        "clusters": {"a": {}}, "policies": [{"id": "one", "name": "one"}, {"id": "two", "name": "two"}]}"#;
    let config = Config::parse(document.as_bytes(), "a").unwrap();
    for (token, policy, found) in [
        ("new-token", "one", Some(0)),
        ("new-token", "two", Some(1)),
        ("old-token", "two", Some(1)),
        ("new-token", "three", None),
        ("new-token", "", None),
        ("new-tokem", "one", None),
        ("New-token", "one", None),
        ("new-toke", "one", None),
        ("new-token2", "one", None),
        ("", "one", None),
    ] {
        let value = format!("a;{token};a;{policy};1;b");
        let hop = Hop::parse(value.as_bytes()).unwrap();
        assert_eq!(config.policy_for_hop(&hop), found, "{token} {policy}");
    }
}

/// Own traffic hears nothing below 0.8, since it does the same up to 1.02; overflow and what was
/// bounced once hear everything, and strangers nothing.
#[test]
fn when_the_load_goes_back() {
    let mut server = Server::default();
    for (own, overflow) in [(2, 0), (7, 1), (8, 2), (9, 3), (30, 3)] {
        let sums = sums(own, overflow);
        server.on_sums(&sums, SECOND);
        let mut told = |target, attempt| {
            let request = server.on_request(
                Some(&hop(target, "a", 1, BOUNCEABLE)),
                attempt,
                target,
                false,
            );
            server.rho_for(&request)
        };
        let rho = sums.rho(Class::Own);
        let worth = (rho >= RHO_WORTH_SENDING).then_some(rho);
        assert_eq!(told("a", 1), worth, "{own}/s of 10/s");
        assert_eq!(told("a", 2), Some(rho));
        assert_eq!(told("b", 1), Some(sums.rho(Class::Overflow)));
        assert_eq!(
            server.rho_for(&server.clone().on_request(None, 9, "a", false)),
            None
        );
    }
    assert_eq!(RHO_WORTH_SENDING, 800);
    // Who heard of more hears of the fall, as long as he would believe the old.
    for (later, told) in [(0, true), (3 * SECOND - 1, true), (3 * SECOND, false)] {
        let sums = sums(2, 0);
        server.on_sums(&sums, SECOND + later);
        let request = server.on_request(Some(&hop("a", "a", 1, BOUNCEABLE)), 1, "a", false);
        let rho = told.then_some(sums.rho(Class::Own));
        assert_eq!(server.rho_for(&request), rho, "{later} ns later");
    }
}

#[test]
fn verdicts_count_what_is_served() {
    let mut server = Server::default();
    for (verdict, served) in [
        (Verdict::Admit, 1),
        (Verdict::Force, 1),
        (Verdict::Bounce, 0),
        (Verdict::Shed, 0),
    ] {
        server.on_verdict(verdict);
        assert_eq!(server.drain().admitted, served, "{verdict:?}");
    }
    assert_eq!(server.drain(), Counts::default());
}

#[test]
fn counts_that_could_not_be_handed_over_are_kept() {
    let mut server = told();
    server.on_request(None, 1, "a", false);
    server.on_verdict(Verdict::Admit);
    let counts = server.drain();
    server.on_request(Some(&hop("a", "z", 3, BOUNCEABLE)), 1, "a", false);
    server.restore(counts);
    let all = Counts {
        own: 1,
        overflow: 3,
        admitted: 1,
    };
    assert_eq!(server.drain(), all);
}
