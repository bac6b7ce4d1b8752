//! What each path costs, against the checked-in table `cost.txt`.

use std::path::PathBuf;

use serde_json::json;
use spillway_tests::cost::{Cost, differences, render};
use spillway_tests::{Headers, Outcome, Request, Response, traffic};

use crate::sidecar::{
    BURST, HOME, HOST, SPILLED, Sidecar, client, hop, inbound, load, outbound, policy,
    response_with, server, stranger,
};
use crate::switch_service::shared;

/// More fuel than this part of the table's is a difference: compilers differ by less.
const TOLERANCE: f64 = 0.03;

/// The most host calls that a request and its response may make on this path. A maximum rate is one more shared
/// record that is read and written by the clock; a concurrency writes the gate a second time, at the end.
fn aim(path: &str) -> u64 {
    match path {
        "caller-spilled-max-rate" => 8 + 3,
        "server-concurrency" => 10 + 2,
        caller if caller.starts_with("caller") => 8,
        _ => 10,
    }
}

/// The first exchange whose request ends as wanted, once the filter has run in; with the answer that its
/// target gives.
fn measure(
    sidecar: &mut Sidecar,
    request: &Request,
    answer: impl Fn(&Headers) -> Response,
    wanted: impl Fn(&Outcome) -> bool,
) -> Cost {
    for i in 0..1_000 {
        sidecar.vm.take_cost();
        let (stream, outcome) = sidecar.vm.open(sidecar.plugin, request).unwrap();
        if let Outcome::Forwarded(headers) = &outcome {
            sidecar.vm.respond(stream, &answer(headers)).unwrap();
        }
        sidecar.vm.close(stream).unwrap();
        if i >= 10 && wanted(&outcome) {
            return sidecar.vm.take_cost();
        }
    }
    panic!("no request ended as wanted");
}

/// A caller whose clusters report these loads, and the cost of a request to `target`.
fn caller(document: &str, loads: &[(&str, u32)], target: &str) -> Cost {
    let answer = |headers: &Headers| {
        let sent = hop(headers);
        let mut response = match loads.iter().find(|(cluster, _)| *cluster == sent[0]) {
            Some((cluster, rho)) => load(cluster, *rho, 1),
            None => traffic::response(200),
        };
        let subset = if sent[0] == "primary" {
            "home"
        } else {
            &sent[0]
        };
        let cluster = format!("outbound|80|spillway-{subset}|{}", HOST);
        response.properties = response.properties.with(&["xds", "cluster_name"], cluster);
        response
    };
    let mut sidecar = Sidecar::start("primary", document);
    let wanted = |outcome: &Outcome| matches!(outcome, Outcome::Forwarded(headers) if hop(headers)[0] == target);
    measure(&mut sidecar, &outbound(), answer, wanted)
}

/// A server, prepared, and the cost of a request that is let through, or not.
fn serving(
    cluster: &str,
    document: &str,
    request: &Request,
    prepare: impl FnOnce(&mut Sidecar),
    through: bool,
) -> Cost {
    let mut sidecar = Sidecar::start(cluster, document);
    prepare(&mut sidecar);
    let wanted = |outcome: &Outcome| matches!(outcome, Outcome::Forwarded(_)) == through;
    measure(&mut sidecar, request, |_| traffic::response(200), wanted)
}

fn nothing(_: &mut Sidecar) {}

/// Demand of 13/s, which is worth a load header and leaves room.
fn busy(sidecar: &mut Sidecar) {
    for _ in 0..100 {
        sidecar.refused(&inbound(HOME));
        sidecar.pass(77);
    }
    sidecar.pass(0);
}

fn measured() -> Vec<(&'static str, Cost)> {
    assert_eq!(outbound().headers.len(), 12);
    assert_eq!(stranger().headers.len(), 12);
    assert_eq!(traffic::response(200).headers.len(), 8);
    let shadow = |side| policy(side, |p| p["enforcement"] = json!("Shadow"));
    let two_rungs = policy("Client", |p| {
        p["overflow"] = json!([{"cluster": "burst"}, {"cluster": "third"}])
    });
    let limited = policy("Client", |p| {
        p["overflow"] = json!([{"cluster": "burst", "maxRate": "1000/s"}])
    });
    let switching = policy("Client", |p| {
        p["mode"] = json!("Switch");
        p["switch"] = json!({"enter": "15/s", "leave": "10/s"});
    });
    let concurrent =
        policy(
            "Server",
            |p| {
                p["capacity"] =
                    json!({"primary": {"total": {"rate": "1000/s", "concurrency": 100}}})
            },
        );
    let wide = policy("Server", |p| {
        p["capacity"] = json!({"primary": {"total": {"rate": "1000/s"}}, "burst": {"total": {"rate": "1000/s"}}});
    });
    let full: &[(&str, u32)] = &[("primary", 50_000), ("burst", 10_000), ("third", 100)];
    let mut other = Sidecar::start("primary", &client());
    let elsewhere = traffic::outbound("other.default.svc.cluster.local", 80);
    let without_policy = measure(&mut other, &elsewhere, |_| traffic::response(200), |_| true);
    vec![
        ("caller-home", caller(&client(), &[], "primary")),
        (
            "caller-home-loaded",
            caller(&client(), &[("primary", 900)], "primary"),
        ),
        (
            "caller-spilled",
            caller(&client(), &[("primary", 50_000), ("burst", 100)], "burst"),
        ),
        (
            "caller-spilled-second-rung",
            caller(&two_rungs, full, "third"),
        ),
        (
            "caller-spilled-max-rate",
            caller(&limited, &[("primary", 50_000), ("burst", 100)], "burst"),
        ),
        ("caller-without-policy", without_policy),
        ("caller-shadow", caller(&shadow("Client"), &[], "primary")),
        ("caller-switch-home", caller(&switching, &[], "primary")),
        ("caller-switched", switched(&switching)),
        ("caller-switched-together", switched_together()),
        (
            "server-home",
            serving("primary", &wide, &inbound(HOME), nothing, true),
        ),
        (
            "server-home-load",
            serving("primary", &server(), &inbound(HOME), busy, true),
        ),
        (
            "server-overflow",
            serving("burst", &wide, &inbound(SPILLED), nothing, true),
        ),
        (
            "server-bounced",
            serving("primary", &server(), &inbound(HOME), nothing, false),
        ),
        (
            "server-caller-without-filter",
            serving("primary", &wide, &stranger(), nothing, true),
        ),
        (
            "server-concurrency",
            serving("primary", &concurrent, &inbound(HOME), nothing, true),
        ),
        (
            "server-switch-together",
            serving(
                "primary",
                &shared("Server", 2),
                &inbound("primary;mesh-token-1;primary;worker;1;;0"),
                |home| home.pass(200),
                true,
            ),
        ),
        (
            "server-shadow",
            serving("primary", &shadow("Server"), &inbound(HOME), nothing, true),
        ),
    ]
}

fn switched(document: &str) -> Cost {
    let mut sidecar = Sidecar::start("primary", document);
    for _ in 0..100 {
        sidecar.send(&outbound(), &[]);
        sidecar.pass(20);
    }
    let answer = |_: &Headers| {
        response_with(&[
            ("x-spillway-load", "burst;100;1"),
            ("x-spillway-prefix", "bursty-"),
        ])
    };
    let wanted = |outcome: &Outcome| matches!(outcome, Outcome::Forwarded(headers) if hop(headers)[0] == "burst");
    measure(&mut sidecar, &outbound(), answer, wanted)
}

/// The same where callers share the switch, and home says that all have left.
fn switched_together() -> Cost {
    let mut sidecar = Sidecar::start("primary", &shared("Client", 2));
    let spilled = |headers: &Headers| headers.only("x-spillway").unwrap().starts_with("burst");
    let answer = |headers: &Headers| {
        let mut answer = if spilled(headers) {
            load("burst", 100, 1)
        } else {
            response_with(&[("x-spillway-load", "primary;0;1;5;70;9000;20000;1")])
        };
        let subset = if spilled(headers) { "burst" } else { "home" };
        let route = format!("outbound|80|spillway-{subset}|{HOST}");
        answer.properties = answer.properties.with(&["xds", "cluster_name"], route);
        answer
    };
    let wanted =
        |outcome: &Outcome| matches!(outcome, Outcome::Forwarded(headers) if spilled(headers));
    measure(&mut sidecar, &outbound(), answer, wanted)
}

fn table() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cost.txt")
}

#[test]
fn no_path_costs_more_than_the_table_says() {
    let measured = measured();
    for (name, cost) in &measured {
        let aim = aim(name);
        let calls = cost.total_calls();
        assert!(
            calls <= aim,
            "{name}: {calls} host calls, and the aim is {aim}: {:?}",
            cost.calls
        );
    }
    if std::env::var_os("SPILLWAY_UPDATE").is_some() {
        std::fs::write(table(), render(&measured)).unwrap();
    }
    let checked_in = std::fs::read_to_string(table()).unwrap_or_default();
    let differences = differences(&checked_in, &measured, TOLERANCE).unwrap();
    assert!(
        differences.is_empty(),
        "{}\nSPILLWAY_UPDATE=1 writes {} anew, if this is meant",
        differences.join("\n"),
        table().display()
    );
}

#[test]
fn the_same_request_costs_the_same_each_time() {
    let mut caller = Sidecar::start("primary", &client());
    let costs: Vec<Cost> = (0..50)
        .map(|_| {
            caller.vm.take_cost();
            caller.forward(&outbound());
            caller.vm.take_cost()
        })
        .collect();
    assert!(costs[20..].iter().all(|cost| cost.calls == costs[20].calls));
    let (least, most) = (
        costs[20..].iter().map(|c| c.fuel).min().unwrap(),
        costs[20..].iter().map(|c| c.fuel).max().unwrap(),
    );
    assert!(most < least + least / 50, "{least} to {most}");
}

/// A tick comes ten times a second in every worker thread of every proxy.
#[test]
fn a_tick_is_cheap() {
    for (document, calls) in [(client(), 4), (server(), 10)] {
        let mut sidecar = Sidecar::start("primary", &document);
        sidecar.pass(1_000);
        for _ in 0..BURST {
            sidecar.exchange(&inbound(HOME), &traffic::response(200));
            sidecar.exchange(&outbound(), &traffic::response(200));
        }
        sidecar.pass(100);
        sidecar.vm.take_cost();
        sidecar.pass(100);
        let cost = sidecar.vm.take_cost();
        assert!(cost.total_calls() <= calls, "{:?}", cost.calls);
        assert!(cost.fuel < 20_000, "{}", cost.fuel);
    }
}

/// What the host hands over is freed: memory stays as it is, however long the filter runs.
#[test]
fn memory_does_not_grow_with_requests() {
    for (cluster, document, request) in [
        ("primary", client(), outbound()),
        ("burst", server(), inbound(SPILLED)),
    ] {
        let mut sidecar = Sidecar::start(cluster, &document);
        let run = |sidecar: &mut Sidecar| {
            for _ in 0..5_000 {
                sidecar.exchange(&request, &traffic::response(200));
            }
            sidecar.pass(1_000);
            sidecar.vm.memory_bytes()
        };
        let before = run(&mut sidecar);
        for _ in 0..3 {
            assert_eq!(run(&mut sidecar), before);
        }
    }
}
