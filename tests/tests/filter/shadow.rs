//! Shadow decides, counts and logs, and changes nothing: what an application sends and gets is what it would
//! be without the filter.

use serde_json::json;
use spillway_tests::traffic;

use crate::sidecar::{BURST, Sidecar, hop, inbound, load, outbound, policy, server, stranger};

fn shadow(side: &str) -> String {
    policy(side, |p| p["enforcement"] = json!("Shadow"))
}

#[test]
fn the_callers_side_sends_everything_home_and_counts_what_would_have_spilled() {
    let mut caller = Sidecar::start("primary", &shadow("Client"));
    caller.answer(&outbound(), &load("primary", 1_000_000, 1));
    let mut spilled = 0;
    for _ in 0..100 {
        let (stream, outcome) = caller.vm.open(caller.plugin, &outbound()).unwrap();
        let headers = outcome.forwarded().unwrap();
        let parts = hop(&headers);
        assert_eq!((parts[0].as_str(), parts[4].as_str()), ("primary", "1"));
        // All but a few probes would have spilled.
        spilled += u32::from(parts[5] == "hs");
        assert!(["hs", "bs"].contains(&parts[5].as_str()), "{parts:?}");
        assert_eq!(headers.without("x-spillway"), outbound().headers);
        let answer = caller
            .vm
            .respond(stream, &load("primary", 1_000_000, 1))
            .unwrap();
        assert_eq!(answer, traffic::response(200).headers);
        caller.vm.close(stream).unwrap();
    }
    caller.pass(100);
    let counted = caller.metric(
        "spillway_shadow_decisions",
        &[("reason", "over-limit"), ("target", "burst")],
    );
    assert!(counted > 90, "{counted}");
    assert_eq!(u64::from(spilled), counted);
    assert_eq!(caller.metric("spillway_decisions", &[]), 0);
}

#[test]
fn the_access_log_is_told_that_it_was_shadow() {
    let mut caller = Sidecar::start("primary", &shadow("Client"));
    caller.answer(&outbound(), &load("primary", 1_000_000, 1));
    let reasons: Vec<Option<String>> = (0..4)
        .map(|_| {
            let (stream, _) = caller.vm.open(caller.plugin, &outbound()).unwrap();
            caller.vm.filter_state(stream, "spillway.reason")
        })
        .collect();
    assert!(
        reasons.contains(&Some("shadow:over-limit".to_owned())),
        "{reasons:?}"
    );
}

#[test]
fn the_servers_side_serves_everything_and_counts_what_would_have_bounced() {
    for (document, flags) in [(shadow("Server"), "b"), (server(), "bs")] {
        let mut home = Sidecar::start("primary", &document);
        let request = inbound(&format!("primary;mesh-token-1;primary;worker;1;{flags}"));
        let response = traffic::response(200);
        for _ in 0..100 {
            let (outcome, answer) = home.exchange(&request, &response);
            assert_eq!(outcome.forwarded().unwrap(), stranger().headers);
            assert_eq!(
                answer.without("x-spillway-load"),
                response.headers,
                "the load is the callers' filters' only"
            );
        }
        home.pass(100);
        let bounced = home.metric("spillway_shadow_gate", &[("verdict", "bounced")])
            + home.metric("spillway_gate", &[("verdict", "bounced")]);
        assert_eq!(bounced, 100 - BURST as u64, "{flags}");
    }
}

/// It says what would be: the excess that stays would be elsewhere.
#[test]
fn what_would_have_spilled_takes_no_room_at_the_gate() {
    let gate = |document: &str| {
        let mut home = Sidecar::start("primary", document);
        for flags in ["hs", "bs"] {
            for _ in 0..BURST {
                home.admitted(&format!("primary;mesh-token-1;primary;worker;1;{flags}"), 1);
            }
        }
        home.pass(100);
        ["spillway_shadow_gate", "spillway_gate"].map(|name| {
            ["admitted", "forced", "bounced"]
                .map(|verdict| home.metric(name, &[("verdict", verdict)]))
        })
    };
    let full = BURST as u64;
    assert_eq!(gate(&shadow("Server")), [[full, 0, 0], [0; 3]]);
    // A gate in force takes no caller's word for it: that is what came home because all is full.
    assert_eq!(gate(&server()), [[0; 3], [2 * full, 0, 0]]);
}

#[test]
fn the_servers_side_sets_no_prefix() {
    let mut burst = Sidecar::start("burst", &shadow("Server"));
    let (outcome, answer) = burst.exchange(
        &inbound("burst;mesh-token-1;primary;worker;1;bs"),
        &traffic::response(200),
    );
    assert_eq!(outcome.forwarded().unwrap(), stranger().headers);
    assert_eq!(
        answer.without("x-spillway-load"),
        traffic::response(200).headers
    );
}
