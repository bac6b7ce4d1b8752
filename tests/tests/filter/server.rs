//! The server's side: what the application sees, and what its callers get back.

use serde_json::json;
use spillway_tests::traffic;

use crate::sidecar::{
    BURST, HOME, SPILLED, Sidecar, attempt, document, inbound, policy, response_with, server,
    stranger,
};

#[test]
fn a_request_reaches_the_application_as_it_was_sent() {
    let mut home = Sidecar::start("primary", &server());
    let response = traffic::response(200);
    let (outcome, answer) = home.exchange(&inbound(HOME), &response);
    assert_eq!(
        outcome.forwarded().unwrap(),
        stranger().headers,
        "the header is taken off"
    );
    assert_eq!(
        answer, response.headers,
        "an idle home has nothing to tell and no prefix"
    );
}

#[test]
fn a_cluster_with_a_prefix_tells_it_to_both_ends() {
    let mut burst = Sidecar::start("burst", &server());
    let (outcome, answer) = burst.exchange(&inbound(SPILLED), &traffic::response(200));
    let headers = outcome.forwarded().unwrap();
    assert_eq!(headers.only("x-spillway-prefix").unwrap(), "bursty-");
    assert_eq!(headers.names_starting("x-spillway"), ["x-spillway-prefix"]);
    assert_eq!(answer.only("x-spillway-prefix").unwrap(), "bursty-");
    assert_eq!(answer.only("x-spillway-load").unwrap(), "burst;0;1");

    let named = document("Server", |d| d["prefixHeader"] = json!("x-cluster-tag"));
    let mut burst = Sidecar::start("burst", &named);
    let headers = burst.forward(&inbound(SPILLED));
    assert_eq!(headers.only("x-cluster-tag").unwrap(), "bursty-");
    assert!(!headers.has("x-spillway-prefix"));
}

#[test]
fn a_caller_without_the_filter_is_counted_and_never_bounced() {
    let strangers = [
        "",
        "primary;mesh-token-1;primary;worker;1",
        "primary;mesh-token-1;primary;worker;1;b;",
        "primary;mesh-token-1;primary;worker;0;b",
        "primary;mesh-token-1;primary;worker;-1;b",
        "primary;mesh-token-1;primary;worker;1;bb",
        "primary;mesh-token-1;primary;worker;1;x",
        "primary;wrong-token;primary;worker;1;b",
        "primary;mesh-token;primary;worker;1;b",
        "primary;mesh-token-1;primary;other;1;b",
        "PRIMARY",
    ];
    let mut home = Sidecar::start("primary", &server());
    home.admitted(HOME, BURST + 1);
    for hop in strangers {
        let (outcome, answer) = home.exchange(&inbound(hop), &traffic::response(200));
        assert_eq!(outcome.forwarded().unwrap(), stranger().headers, "{hop}");
        assert_eq!(
            answer,
            traffic::response(200).headers,
            "{hop}: no load goes back"
        );
    }
    let mut twice = inbound(HOME);
    twice.headers = twice.headers.with("x-spillway", HOME);
    assert_eq!(
        home.forward(&twice),
        stranger().headers,
        "two headers are none"
    );
    for _ in 0..200 {
        assert!(home.refused(&stranger()).is_none());
    }
    assert!(
        home.refused(&inbound(HOME)).is_some(),
        "they fill the gate for others"
    );
    home.pass(100);
    let strangers = strangers.len() as u64 + 1 + 200;
    assert_eq!(
        home.metric(
            "spillway_callers_without_filter",
            &[("service", "default/worker")]
        ),
        strangers
    );
    assert_eq!(
        home.metric("spillway_gate", &[("verdict", "forced")]),
        strangers
    );
}

#[test]
fn both_tokens_are_accepted() {
    let mut home = Sidecar::start("primary", &server());
    home.admitted("primary;mesh-token-0;primary;worker;1;b", BURST);
    assert!(
        home.refused(&inbound("primary;mesh-token-0;primary;worker;1;b"))
            .is_some()
    );
}

#[test]
fn nothing_of_ours_that_a_caller_forged_reaches_the_application() {
    for cluster in ["primary", "burst"] {
        let mut sidecar = Sidecar::start(cluster, &server());
        for hop in [HOME, "nonsense"] {
            let mut request = inbound(hop);
            for (name, value) in [
                ("x-spillway-prefix", "evil-"),
                ("X-Spillway-Prefix", "evil-"),
                ("x-spillway-load", "primary;1;1"),
                ("x-spillway-bounce", "1"),
                ("x-spillway-shed", "1"),
                ("x-spillway-of-tomorrow", "1"),
                ("x-spillway-of-next-year", "1"),
            ] {
                request.headers = request.headers.with(name, value);
            }
            let headers = sidecar.forward(&request);
            let expected: &[&str] = if cluster == "burst" {
                &["bursty-"]
            } else {
                &[]
            };
            assert_eq!(headers.all("x-spillway-prefix"), expected);
            assert_eq!(headers.without("x-spillway-prefix"), stranger().headers);
        }
    }
}

/// An application that passes on what it was told must not make its caller's Envoy repeat a request.
#[test]
fn nothing_of_ours_that_the_application_sets_gets_back() {
    let response = response_with(&[
        ("x-spillway-bounce", "1"),
        ("X-Spillway-Bounce", "1"),
        ("x-spillway-load", "primary;1000000;1"),
        ("x-spillway-prefix", "evil-"),
        ("x-spillway-shed", "exhausted"),
        ("x-spillway", HOME),
    ]);
    let no_policy = document("Server", |d| d["policies"] = json!([]));
    let elsewhere = policy("Server", |p| {
        p["workload"] = json!({"labels": {"app": "other"}})
    });
    for document in [server(), no_policy, elsewhere] {
        let mut home = Sidecar::start("primary", &document);
        for request in [inbound(HOME), attempt(HOME, 2), stranger()] {
            let answer = home.answer(&request, &response);
            let ours = answer.names_starting("x-spillway");
            assert!(
                ours.is_empty() || ours == ["x-spillway-load"],
                "{document}\n{ours:?}"
            );
            assert_ne!(
                answer.only("x-spillway-load").as_deref(),
                Some("primary;1000000;1")
            );
        }
    }
    let mut burst = Sidecar::start("burst", &server());
    let answer = burst.answer(&inbound(SPILLED), &response);
    assert_eq!(
        answer.names_starting("x-spillway"),
        ["x-spillway-load", "x-spillway-prefix"]
    );
    assert_eq!(answer.only("x-spillway-prefix").unwrap(), "bursty-");
}

#[test]
fn a_bounce_header_behind_many_others_is_found_all_the_same() {
    let mut response = traffic::response(200);
    for i in 0..200 {
        response.headers = response.headers.with(&format!("x-spillway-{i}"), "1");
    }
    response.headers = response.headers.with("x-spillway-bounce", "1");
    let mut home = Sidecar::start("primary", &server());
    for request in [inbound(HOME), stranger()] {
        assert!(!home.answer(&request, &response).has("x-spillway-bounce"));
    }
}
