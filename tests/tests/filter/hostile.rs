//! What callers and applications send on purpose, and clocks that jump. Nothing traps, nothing is lost, nothing
//! takes long.

use std::time::Duration;

use spillway_tests::{Fault, Headers, HostFunction, Outcome, Request, Response, traffic};

use crate::sidecar::{BURST, HOME, Sidecar, client, hop, inbound, outbound, server};

/// Values that are numbers, nearly numbers, and nothing of the sort.
pub(crate) fn values() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        "",
        " ",
        "0",
        "-0",
        "-1",
        "1",
        "2",
        "3",
        "4",
        "5",
        "+1",
        "1.5",
        "1e9",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "0x10",
        "00000001",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "999999999",
        "1;1",
        "1,1",
        ";",
        ";;;;;",
        ";;;;;;",
        "primary;1;1",
        "primary;mesh-token-1;primary;worker;1;b",
        "primary;mesh-token-1;primary;worker;;",
        "primary;mesh-token-1;primary;worker;NaN;b",
        "primary;mesh-token-1;primary;worker;-1;b",
        "primary;mesh-token-1;primary;worker;4294967296;b",
        "primary;mesh-token-1;primary;worker;999999999;bhs",
        ";mesh-token-1;;worker;1;b",
        "burst;mesh-token-1;burst;worker;1;b",
        "nowhere;mesh-token-1;nowhere;worker;1;h",
        "\u{661}",
        "\u{ff11}",
        "\u{202e}1",
        "🦀;🦀;🦀;🦀;1;b",
    ]
    .iter()
    .map(|v| v.as_bytes().to_vec())
    .collect();
    values.push(b"9".repeat(1 << 20));
    values.push(b";".repeat(1 << 20));
    values.push([HOME.as_bytes(), &b"b".repeat(1 << 20)].concat());
    values.push(vec![0xff, 0xfe, 0x80]);
    values.push([HOME.as_bytes(), &[0xff]].concat());
    values.push((1..=255).filter(|b| !matches!(b, b'\r' | b'\n')).collect());
    values
}

pub(crate) const NAMES: [&str; 15] = [
    "x-spillway",
    "x-spillway-load",
    "x-spillway-bounce",
    "x-spillway-prefix",
    "x-spillway-shed",
    "x-spillway-",
    "x-spillwayx",
    "x-envoy-attempt-count",
    "content-length",
    "content-type",
    "upgrade",
    ":path",
    ":method",
    ":status",
    ":authority",
];

/// What must hold for the headers that go on, whatever came.
fn check(sidecar: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Forwarded(headers) if sidecar == "caller" => {
            let parts = hop(headers);
            assert_eq!(parts[1..4], ["mesh-token-1", "primary", "worker"]);
            assert!(parts[0] == "primary" || parts[0] == "burst");
            assert!(parts[4].parse::<u32>().unwrap() > 0);
        }
        Outcome::Forwarded(headers) => assert!(!headers.has("x-spillway")),
        Outcome::Answered(answer) => assert_eq!((sidecar, answer.status), ("server", 429)),
    }
}

#[test]
fn no_header_of_any_value_does_harm() {
    for (side, document) in [("caller", client()), ("server", server())] {
        let plain = if side == "caller" {
            outbound()
        } else {
            inbound(HOME)
        };
        let mut sidecar = Sidecar::start("primary", &document);
        sidecar.vm.take_cost();
        for name in NAMES {
            for value in values() {
                for times in [1, 2] {
                    let add = |headers: &Headers| {
                        let once = headers.clone().set(name, &value);
                        if times == 1 {
                            once
                        } else {
                            once.with(name, &value)
                        }
                    };
                    let request = Request {
                        headers: add(&plain.headers),
                        ..plain.clone()
                    };
                    let mut response = traffic::response(200);
                    response.headers = add(&response.headers);
                    let (outcome, answer) = sidecar.exchange(&request, &response);
                    check(side, &outcome);
                    assert!(
                        !answer.has("x-spillway")
                            && (side == "caller" || !answer.has("x-spillway-shed"))
                    );
                    let fuel = sidecar.vm.take_cost().fuel;
                    assert!(
                        fuel < 60_000_000,
                        "{name} with {} bytes: {fuel} fuel",
                        value.len()
                    );
                }
            }
            sidecar.pass(100);
        }
    }
}

#[test]
fn many_headers_and_none_do_no_harm() {
    for (side, document) in [("caller", client()), ("server", server())] {
        let plain = if side == "caller" {
            outbound()
        } else {
            inbound(HOME)
        };
        let mut sidecar = Sidecar::start("primary", &document);
        for name in NAMES {
            let mut request = plain.clone();
            for i in 0..100 {
                request.headers = request.headers.with(name, i.to_string());
            }
            let response = Response {
                headers: request.headers.clone(),
                ..Response::default()
            };
            check(side, &sidecar.exchange(&request, &response).0);
        }
        for many in [1_000, 10_000] {
            let mut request = plain.clone();
            for i in 0..many {
                request
                    .headers
                    .add(format!("x-spillway-{i}").as_bytes(), b"1");
                request.headers.add(format!("x-other-{i}").as_bytes(), b"1");
            }
            let response = Response {
                headers: request.headers.clone(),
                ..Response::default()
            };
            sidecar.vm.take_cost();
            check(side, &sidecar.exchange(&request, &response).0);
            let fuel = sidecar.vm.take_cost().fuel;
            assert!(fuel < 60_000_000, "{many} headers: {fuel} fuel");
        }
        let none = Request {
            headers: Headers::default(),
            ..plain.clone()
        };
        check(side, &sidecar.exchange(&none, &Response::default()).0);
    }
}

#[test]
fn header_maps_that_are_damaged_do_no_harm() {
    let whole = inbound(HOME).headers.encode();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len().min(140))
        .map(|cut| whole[..cut].to_vec())
        .collect();
    for at in 0..whole.len().min(120) {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut map = whole.clone();
            map[at] = byte;
            damaged.push(map);
        }
    }
    for (document, request) in [(client(), outbound()), (server(), inbound(HOME))] {
        let mut sidecar = Sidecar::start("primary", &document);
        for map in &damaged {
            sidecar
                .proxy
                .faults()
                .always(HostFunction::GetHeaderMapPairs, Fault::Value(map.clone()));
            sidecar.exchange(&request, &traffic::response(200));
        }
        sidecar.proxy.faults().clear();
        sidecar.pass(2_000);
        assert!(sidecar.refused(&request).is_none());
    }
}

#[test]
fn clocks_that_jump_lose_no_request() {
    let far = [
        0,
        1,
        86_400_000_000_000,
        u64::MAX / 2,
        u64::MAX - 1,
        u64::MAX,
    ];
    for (side, document) in [("caller", client()), ("server", server())] {
        for monotonic in far {
            for wall in far {
                let mut sidecar = Sidecar::start("primary", &document);
                let clock = sidecar.proxy.clock().clone();
                let (was, wall_was) = (clock.monotonic(), clock.wall());
                for (monotonic, wall) in [(monotonic, wall), (was, wall_was), (wall, monotonic)] {
                    clock.set_monotonic(monotonic);
                    clock.set_wall(wall);
                    for _ in 0..3 {
                        let request = if side == "caller" {
                            outbound()
                        } else {
                            inbound(HOME)
                        };
                        check(side, &sidecar.exchange(&request, &traffic::response(200)).0);
                        check(side, &sidecar.exchange(&request, &traffic::response(500)).0);
                        sidecar.vm.tick(sidecar.plugin).unwrap();
                    }
                    sidecar.reconfigure(&document);
                }
            }
        }
    }
}

/// After a long pause (a machine that slept) the gate is as good as new.
#[test]
fn a_pause_of_a_century_leaves_a_working_gate() {
    let mut home = Sidecar::start("primary", &server());
    for _ in 0..40 {
        home.refused(&inbound(HOME));
    }
    home.proxy
        .clock()
        .advance(Duration::from_secs(100 * 365 * 86_400));
    home.vm.tick(home.plugin).unwrap();
    let through = (0..40)
        .filter(|_| home.refused(&inbound(HOME)).is_none())
        .count();
    assert_eq!(through, BURST);
}
