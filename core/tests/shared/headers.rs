//! The headers between sidecars: every valid form, and what must never be taken for one.

use spillway_core::header::{Flags, Hop, Load, MAX_LEN, number};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const fn flags(bits: u8) -> Flags {
    Flags {
        bounceable: bits & 1 != 0,
        returned: bits & 2 != 0,
        shadow: bits & 4 != 0,
    }
}

#[test]
fn every_valid_hop_comes_back() {
    let mut buffer = vec![b'x'; 7];
    for (target, token, home, policy) in [
        ("burst", "mesh-token-1", "primary", "worker"),
        ("primary", "mesh-token-1", "primary", "worker"),
        ("a", "t_-t-T09", "b", "0"),
        ("", "", "", ""),
        ("c.l-u_s", "token token", "home,home", "policy=x"),
    ] {
        let start = Hop::start(target, token, home, policy);
        for echo in [1, 2, 9, 10, 65_536, 99_999_999, 999_999_999] {
            for bits in 0..8 {
                Hop::finish(&mut buffer, &start, echo, flags(bits));
                let hop = Hop {
                    target,
                    token,
                    home,
                    policy,
                    echo,
                    flags: flags(bits),
                };
                assert_eq!(Hop::parse(&buffer), Some(hop), "{buffer:?}");
            }
        }
    }
}

#[test]
fn the_hop_as_documented() {
    let mut buffer = Vec::new();
    let start = Hop::start("burst", "mesh-token-1", "primary", "worker");
    assert!(start.starts_with(b"burst;mesh-token-1;"));
    Hop::finish(&mut buffer, &start, 3, flags(0));
    assert_eq!(buffer, b"burst;mesh-token-1;primary;worker;3;");
    Hop::finish(&mut buffer, &start, 12, flags(7));
    assert_eq!(buffer, b"burst;mesh-token-1;primary;worker;12;bhs");
}

#[test]
fn flags_may_come_in_any_order() {
    for (text, bits) in [("b", 1), ("h", 2), ("s", 4), ("sb", 5), ("shb", 7)] {
        let value = format!("a;t;h;p;1;{text}");
        assert_eq!(Hop::parse(value.as_bytes()).unwrap().flags, flags(bits));
    }
}

#[test]
fn hostile_hops() {
    for value in [
        "",
        ";",
        "a",
        "a;t",
        "a;t;h;p",
        "a;t;h;p;1",
        "a;t;h;p;;",
        "a;t;h;p;0;",
        "a;t;h;p;00;b",
        "a;t;h;p;-1;b",
        "a;t;h;p;+1;b",
        "a;t;h;p;1.0;b",
        "a;t;h;p;1e3;b",
        "a;t;h;p;0x1;b",
        "a;t;h;p;NaN;b",
        "a;t;h;p;inf;b",
        "a;t;h;p; 1;b",
        "a;t;h;p;1 ;b",
        "a;t;h;p;١;b",
        "a;t;h;p;1234567890;b",
        "a;t;h;p;4294967297;b",
        "a;t;h;p;0000000001;b",
        "a;t;h;p;99999999999999999999;b",
        "a;t;h;p;1;bb",
        "a;t;h;p;1;hbh",
        "a;t;h;p;1;ss",
        "a;t;h;p;1;B",
        "a;t;h;p;1;x",
        "a;t;h;p;1;b ",
        "a;t;h;p;1;b,s",
        "a;t;h;p;1;b;",
        "a;t;h;p;1;;b",
        "a;t;h;p;1;b;extra",
        "a;t;h;p;1;b, a;t;h;p;1;b",
        "a;t;h;p;1;\u{0}",
    ] {
        assert_eq!(Hop::parse(value.as_bytes()), None, "{value:?}");
    }
    for value in [
        &b"\xff;t;h;p;1;b"[..],
        b"a;\xc3;h;p;1;b",
        b"a;t;h;p;\x80;b",
        b"a;t;h;p;1;\xf0\x9f",
    ] {
        assert_eq!(Hop::parse(value), None, "{value:?}");
    }
}

#[test]
fn a_long_hop_is_not_read() {
    let with = |len: usize| format!("{};t;h;p;1;b", "a".repeat(len - ";t;h;p;1;b".len()));
    let longest = with(MAX_LEN);
    assert_eq!(longest.len(), MAX_LEN);
    assert!(Hop::parse(longest.as_bytes()).is_some());
    assert_eq!(Hop::parse(with(MAX_LEN + 1).as_bytes()), None);
    assert_eq!(Hop::parse(&vec![b';'; 1 << 20]), None);
    assert_eq!(Load::parse(&vec![b'1'; MAX_LEN + 1]), None);
}

/// The longest names that a configuration may hold fit a header that is read.
#[test]
fn the_longest_hop_of_a_configuration_is_read() {
    let cluster = "c".repeat(63);
    let start = Hop::start(&cluster, &"t".repeat(64), &cluster, &"p".repeat(32));
    let mut buffer = Vec::new();
    Hop::finish(&mut buffer, &start, u32::MAX, flags(7));
    let hop = Hop::parse(&buffer).expect("the longest hop");
    assert_eq!(hop.echo, 999_999_999);
}

#[test]
fn every_valid_load_comes_back() {
    let mut buffer = vec![b'x'; 3];
    for cluster in ["primary", "b", ""] {
        for rho in [0, 1, 800, 1_020, 1_000_000, 999_999_999] {
            for attempt in [0, 1, 5, 999] {
                let load = Load {
                    cluster,
                    rho,
                    attempt,
                };
                load.write(&mut buffer);
                assert_eq!(Load::parse(&buffer), Some(load));
            }
        }
    }
    assert_eq!(buffer, b";999999999;999");
}

#[test]
fn hostile_loads() {
    for value in [
        "",
        ";",
        ";;",
        "primary",
        "primary;1",
        "primary;1;",
        "primary;;1",
        "primary;NaN;1",
        "primary;-1;1",
        "primary;1.5;1",
        "primary;1e9;1",
        "primary;inf;1",
        "primary;1234567890;1",
        "primary;1;1234567890",
        "primary;1;1;",
        "primary;1;1;1",
        "primary; 1;1",
        "primary;1;1, primary;1;1",
    ] {
        assert_eq!(Load::parse(value.as_bytes()), None, "{value:?}");
    }
    assert_eq!(Load::parse(b"\xff;1;1"), None);
}

#[test]
fn numbers() {
    for (text, read) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("007", Some(7)),
        ("999999999", Some(999_999_999)),
        ("1000000000", None),
        ("", None),
        ("-", None),
        ("1a", None),
    ] {
        assert_eq!(number(text.as_bytes()), read, "{text:?}");
    }
}
