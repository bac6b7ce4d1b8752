//! The caller's side: where requests go, what their header says, what the application gets to see.

use serde_json::json;
use spillway_tests::traffic;

use crate::sidecar::{
    HOST, Sidecar, client, document, hop, load, outbound, policy, response_with, to,
};

/// Home has far more than it can serve.
pub(crate) const FULL: &[(&str, u32)] = &[("primary", 1_000_000)];

/// A caller that has just heard this load from home.
pub(crate) fn loaded(document: &str, rho_milli: u32) -> Sidecar {
    let mut caller = Sidecar::start("primary", document);
    caller.answer(&outbound(), &load("primary", rho_milli, 1));
    caller
}

#[test]
fn a_request_that_stays_home_says_so_in_one_header() {
    let mut caller = Sidecar::start("primary", &client());
    let (stream, outcome) = caller.vm.open(caller.plugin, &outbound()).unwrap();
    let headers = outcome.forwarded().unwrap();
    assert_eq!(
        headers.only("x-spillway").unwrap(),
        "primary;mesh-token-1;primary;worker;1;b"
    );
    assert_eq!(headers.len(), outbound().headers.len() + 1);
    assert!(caller.vm.route_was_chosen_anew(stream));
    assert_eq!(caller.vm.filter_state(stream, "spillway.reason"), None);
}

#[test]
fn the_excess_spills_and_the_echoes_add_up() {
    let mut caller = loaded(&client(), 2_000);
    let sent = caller.send_many(1_000, &[("primary", 2_000)]);
    let home = to(&sent, "primary");
    assert!(
        (508..=512).contains(&home),
        "1.02 / 2 of 1,000 stay home: {home}"
    );
    assert_eq!(home + to(&sent, "burst"), 1_000);
    let echoes = |cluster: &str| -> u64 {
        let of = sent.iter().filter(|parts| parts[0] == cluster);
        of.map(|parts| parts[4].parse::<u64>().unwrap()).sum()
    };
    assert!(
        (998..=1_000).contains(&echoes("primary")),
        "home hears of the whole demand"
    );
    assert_eq!(echoes("burst"), to(&sent, "burst") as u64);
    for parts in sent {
        assert_eq!(parts[1..4], ["mesh-token-1", "primary", "worker"]);
        assert_eq!(parts[5], "b");
    }
}

#[test]
fn the_access_log_is_told_why_a_request_spilled() {
    let mut caller = loaded(&client(), 1_000_000);
    let reasons: Vec<Option<String>> = (0..3)
        .map(|_| {
            let (stream, _) = caller.vm.open(caller.plugin, &outbound()).unwrap();
            caller.vm.filter_state(stream, "spillway.reason")
        })
        .collect();
    assert!(
        reasons.contains(&Some("over-limit".to_owned())),
        "{reasons:?}"
    );
}

#[test]
fn decisions_are_counted_by_reason_and_target() {
    let mut caller = loaded(&client(), 2_000);
    let sent = caller.send_many(100, &[("primary", 2_000)]);
    caller.pass(200);
    let metric = |reason, target| {
        caller.metric(
            "spillway_decisions",
            &[
                ("service", "default/worker"),
                ("reason", reason),
                ("target", target),
            ],
        )
    };
    assert_eq!(
        metric("below-limit", "primary"),
        1 + to(&sent, "primary") as u64
    );
    assert_eq!(metric("over-limit", "burst"), to(&sent, "burst") as u64);
}

#[test]
fn a_callers_own_spillway_headers_have_no_effect_and_go_no_further() {
    let forged = [
        ("x-spillway", "burst;mesh-token-1;primary;worker;1000000;b"),
        ("x-spillway", "burst;mesh-token-1;primary;worker;1;"),
        ("X-Spillway-Load", "primary;900000;1"),
        ("x-spillway-load", "burst;1;3"),
        ("x-spillway-bounce", "1"),
        ("x-spillway-bounce", "1"),
        ("x-spillway-prefix", "evil-"),
        ("x-spillway-shed", "exhausted"),
        ("x-spillway-of-tomorrow", "1"),
        ("x-spillway-of-next-year", "1"),
    ];
    let mut caller = Sidecar::start("primary", &client());
    for host in [HOST, "other-service.default.svc.cluster.local"] {
        let mut request = traffic::outbound(host, 80);
        let clean = request.headers.clone();
        for (name, value) in forged {
            request.headers = request.headers.with(name, value);
        }
        for _ in 0..50 {
            let headers = caller.forward(&request);
            if host == HOST {
                assert_eq!(
                    headers.only("x-spillway").unwrap(),
                    "primary;mesh-token-1;primary;worker;1;b"
                );
            }
            assert_eq!(headers.without("x-spillway"), clean, "{host}");
        }
    }
    let mut request = traffic::outbound("other-service.default.svc.cluster.local", 80);
    request.headers = request
        .headers
        .with("x-spillway", "burst;mesh-token-1;primary;worker;1;b");
    assert!(!caller.forward(&request).has("x-spillway"));
}

#[test]
fn a_request_to_another_destination_is_untouched() {
    let mut caller = Sidecar::start("primary", &client());
    for request in [
        traffic::outbound(HOST, 81),
        traffic::outbound("worker-service", 80),
        traffic::outbound("worker-service.other.svc.cluster.local", 80),
    ] {
        let response = traffic::response(200);
        let (outcome, answer) = caller.exchange(&request, &response);
        assert_eq!(outcome.forwarded().unwrap(), request.headers);
        assert_eq!(answer, response.headers);
    }
    let path = &["xds", "cluster_name"];
    for cluster in [
        "",
        "outbound",
        "PassthroughCluster",
        "inbound|80||",
        "outbound|x||a",
        "outbound|80||",
    ] {
        let mut request = outbound();
        request.properties = request.properties.with(path, cluster);
        assert_eq!(caller.forward(&request), request.headers, "{cluster}");
    }
    let mut request = outbound();
    request.properties = request
        .properties
        .with(path, format!("outbound|80|spillway-home|{HOST}"));
    assert!(
        caller.forward(&request).has("x-spillway"),
        "a subset of the destination is the destination"
    );
    let mut anywhere = Sidecar::start(
        "primary",
        &policy("Client", |p| p["destinations"] = json!([{"host": HOST}])),
    );
    assert!(
        anywhere
            .forward(&traffic::outbound(HOST, 9_999))
            .has("x-spillway"),
        "no ports are all ports"
    );
}

#[test]
fn the_application_sees_the_prefix_and_nothing_else_of_ours() {
    let mut caller = Sidecar::start("primary", &client());
    let response = response_with(&[
        ("x-spillway-load", "burst;700;3"),
        ("x-spillway-bounce", "1"),
        ("x-spillway", "primary;mesh-token-1;primary;worker;1;b"),
        ("x-spillway-shed", "exhausted"),
        ("x-spillway-prefix", "bursty-"),
    ]);
    let answer = caller.answer(&outbound(), &response);
    assert_eq!(answer.names_starting("x-spillway"), ["x-spillway-prefix"]);
    assert_eq!(answer.only("x-spillway-prefix").unwrap(), "bursty-");
}

/// Between sidecars it is a 429, which outlier detection does not count.
#[test]
fn a_shed_request_is_a_503_with_a_reason_for_its_caller() {
    let mut caller = Sidecar::start("primary", &client());
    let mut response = response_with(&[
        ("x-spillway-load", "primary;1700;3"),
        ("x-spillway-shed", "exhausted"),
    ]);
    let grpc = caller.answer(
        &outbound(),
        &response_with(&[("grpc-status", "8"), ("x-spillway-shed", "exhausted")]),
    );
    assert_eq!(grpc.only(":status").unwrap(), "200", "gRPC's always is");
    assert_eq!(grpc.names_starting("x-spillway"), ["x-spillway-shed"]);
    for (status, told, names) in [
        ("429", "503", ["x-spillway-shed"].as_slice()),
        ("503", "503", &[]),
        ("200", "200", &[]),
    ] {
        response.headers = response.headers.set(":status", status);
        let answer = caller.answer(&outbound(), &response);
        assert_eq!(answer.only(":status").unwrap(), told, "{status}");
        assert_eq!(answer.names_starting("x-spillway"), names, "{status}");
    }
}

#[test]
fn what_cannot_be_repeated_does_not_offer_to_be_bounced() {
    let flags = |document: &str, body: bool, headers: &[(&str, &str)]| {
        let mut request = outbound();
        request.body = body;
        for (name, value) in headers {
            request.headers = request.headers.set(name, value);
        }
        hop(&Sidecar::start("primary", document).forward(&request))[5].clone()
    };
    let small = &[("content-length", "65536")][..];
    let large = &[("content-length", "65537")][..];
    let grpc = &[("content-type", "application/grpc")][..];
    let (never, buffered) = ("Never", "Buffered");
    let with = |bodies| policy("Client", |p| p["bodies"] = json!(bodies));
    assert_eq!(flags(&client(), true, small), "b");
    assert_eq!(flags(&client(), true, large), "");
    assert_eq!(flags(&client(), true, grpc), "b");
    assert_eq!(flags(&client(), true, &[]), "");
    assert_eq!(flags(&with(never), true, small), "");
    assert_eq!(flags(&with(never), true, grpc), "");
    assert_eq!(flags(&with(never), false, &[]), "b");
    assert_eq!(flags(&with(buffered), true, &[]), "b");
    assert_eq!(flags(&with(buffered), true, large), "");
    assert_eq!(flags(&client(), false, &[(":method", "CONNECT")]), "");
    assert_eq!(flags(&client(), false, &[("upgrade", "websocket")]), "");
    assert_eq!(
        flags(
            &policy("Client", |p| p["bounce"] = json!("Off")),
            false,
            &[]
        ),
        ""
    );
    for odd in ["-1", "NaN", "1e3", "", " 5", "99999999999999999999"] {
        assert_eq!(
            flags(&client(), true, &[("content-length", odd)]),
            "",
            "{odd}"
        );
    }
}

#[test]
fn a_route_of_class_never_stays_home() {
    let document = policy("Client", |p| {
        p["routes"] = json!([{"pathPrefix": "/checkout", "class": "Never"}]);
    });
    let mut caller = loaded(&document, 1_000_000);
    let mut request = outbound();
    request.headers = request.headers.set(":path", "/checkout/7");
    for _ in 0..50 {
        let parts = hop(&caller.forward(&request));
        assert_eq!((parts[0].as_str(), parts[5].as_str()), ("primary", ""));
    }
    let sent = caller.send_many(50, FULL);
    assert!(to(&sent, "burst") >= 48, "others spill: {sent:?}");
}

#[test]
fn an_override_holds_until_its_time() {
    for (force, during, after) in [
        ("Home", "primary", "burst"),
        ("Overflow", "burst", "primary"),
    ] {
        let loads: &[(&str, u32)] = if force == "Home" { FULL } else { &[] };
        let mut caller = Sidecar::start("primary", &client());
        let until = caller.proxy.clock().wall() / 1_000_000_000 + 60;
        caller.reconfigure(&policy("Client", |p| {
            p["override"] = json!({"force": force, "untilUnixSeconds": until});
        }));
        let sent = caller.send_many(50, loads);
        assert_eq!(to(&sent, during), 50, "{force}: {sent:?}");
        caller.pass(60_200);
        caller.send_many(10, loads);
        let sent = caller.send_many(50, loads);
        assert!(to(&sent, after) >= 45, "after {force}: {sent:?}");
    }
}

#[test]
fn a_load_header_that_is_none_is_not_believed() {
    for value in [
        "",
        ";",
        ";;",
        "primary;;1",
        "primary;NaN;1",
        "primary;-5;1",
        "primary;1e9;1",
        "primary;9000000000000;1",
        "primary;900000",
        "primary;900000;1;1",
        "elsewhere;900000;1",
        "primary;900000;",
        "primary; 900000;1",
    ] {
        let mut caller = Sidecar::start("primary", &client());
        caller.answer(&outbound(), &response_with(&[("x-spillway-load", value)]));
        assert_eq!(to(&caller.send_many(50, &[]), "primary"), 50, "{value}");
    }
}

#[test]
fn what_is_known_of_the_clusters_survives_a_reload() {
    let mut caller = loaded(&client(), 2_000);
    caller.send_many(11, &[("primary", 2_000)]);
    caller.reconfigure(&policy("Client", |p| {
        p["overflow"] = json!([{"cluster": "third"}, {"cluster": "burst"}])
    }));
    let sent = caller.send_many(100, &[]);
    assert!((50..=52).contains(&to(&sent, "primary")), "{sent:?}");
    assert_eq!(
        to(&sent, "primary") + to(&sent, "third"),
        100,
        "the new ladder holds"
    );
}

#[test]
fn a_request_that_outlives_its_configuration_ends_well() {
    let mut caller = Sidecar::start("primary", &client());
    let (stream, _) = caller.vm.open(caller.plugin, &outbound()).unwrap();
    caller.reconfigure(&policy("Client", |p| p["id"] = json!("renamed")));
    let answer = caller.vm.respond(stream, &load("primary", 900, 1)).unwrap();
    assert!(!answer.has("x-spillway-load"));
    caller.vm.close(stream).unwrap();
    assert_eq!(hop(&caller.forward(&outbound()))[3], "renamed");
}

/// The token that is sent is the first, so that a mesh can go over to a new one.
#[test]
fn the_first_token_is_sent() {
    let document = document("Client", |d| {
        d["tokens"] = json!(["mesh-token-2", "mesh-token-1"])
    });
    assert_eq!(
        hop(&Sidecar::start("primary", &document).forward(&outbound()))[1],
        "mesh-token-2"
    );
}
