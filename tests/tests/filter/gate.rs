//! The gate: who is served, who is sent elsewhere, what the callers are told of the load.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;
use spillway_tests::{HostFunction, traffic};

use crate::sidecar::{
    BURST, HOME, RETURNED, SPILLED, Sidecar, attempt, document, inbound, policy, server, stranger,
};

#[test]
fn what_exceeds_the_capacity_is_bounced_before_the_application_sees_it() {
    let mut home = Sidecar::start("primary", &server());
    assert_eq!(home.admitted(HOME, BURST), BURST);
    let answer = home.refused(&inbound(HOME)).unwrap();
    assert_eq!((answer.status, answer.grpc_status), (429, 8));
    assert_eq!(answer.details, "spillway_bounced");
    assert_eq!(answer.headers.only(":status").unwrap(), "429");
    assert_eq!(answer.headers.only("x-spillway-bounce").unwrap(), "1");
    assert!(
        answer
            .headers
            .only("x-spillway-load")
            .unwrap()
            .starts_with("primary;")
    );
    assert!(answer.body.is_empty());

    let mut grpc = inbound(HOME);
    grpc.headers = grpc.headers.with("content-type", "application/grpc");
    let answer = home.refused(&grpc).unwrap();
    assert_eq!(answer.headers.only("grpc-status").unwrap(), "8");
    assert_eq!(answer.headers.only("x-spillway-bounce").unwrap(), "1");

    home.pass(500);
    let later = home.admitted(HOME, 40);
    assert!((7..=8).contains(&later), "half a second's worth: {later}");
    home.pass(100);
    assert_eq!(
        home.metric("spillway_gate", &[("verdict", "admitted")]),
        (BURST + later) as u64
    );
    assert_eq!(
        home.metric("spillway_gate", &[("verdict", "bounced")]),
        (2 + 40 - later) as u64
    );
}

#[test]
fn only_a_request_that_says_so_is_bounced_and_only_so_often() {
    let mut home = Sidecar::start("primary", &server());
    home.admitted(HOME, BURST);
    for flags in ["", "h", "s", "bs"] {
        let hop = format!("primary;mesh-token-1;primary;worker;1;{flags}");
        assert!(home.refused(&inbound(&hop)).is_none(), "flags {flags:?}");
    }
    for (count, bounced) in [(1, true), (2, true), (3, false), (4, false), (5, false)] {
        assert_eq!(
            home.refused(&attempt(HOME, count)).is_some(),
            bounced,
            "home, attempt {count}"
        );
    }
    let mut burst = Sidecar::start("burst", &server());
    burst.admitted(SPILLED, BURST);
    for (count, bounced) in [(1, true), (3, true), (4, true), (5, false)] {
        assert_eq!(
            burst.refused(&attempt(SPILLED, count)).is_some(),
            bounced,
            "burst, attempt {count}"
        );
    }
}

#[test]
fn overflow_yields_to_own_traffic() {
    let mut burst = Sidecar::start("burst", &server());
    let spilled = burst.admitted(SPILLED, 40);
    assert!(
        (6..=8).contains(&spilled),
        "half of the tolerance: {spilled}"
    );
    let own = "burst;mesh-token-1;burst;worker;1;b";
    assert_eq!(
        burst.admitted(own, 40),
        BURST - spilled,
        "the rest is for own traffic"
    );
}

#[test]
fn the_load_is_told_when_it_is_worth_a_header() {
    let mut home = Sidecar::start("primary", &server());
    for _ in 0..40 {
        for _ in 0..3 {
            home.refused(&inbound(HOME));
        }
        home.pass(100);
    }
    let answer = home.answer(&inbound(HOME), &traffic::response(200));
    let told = answer.only("x-spillway-load").unwrap();
    let parts: Vec<&str> = told.split(';').collect();
    let rho: u32 = parts[1].parse().unwrap();
    assert!((1_700..=2_300).contains(&rho), "30/s on 15/s: {told}");
    assert_eq!((parts[0], parts[2]), ("primary", "1"));
    let gauge = home.metric("spillway_load_milli", &[("class", "own")]);
    assert_eq!(gauge, u64::from(rho));
    let rate = home.metric("spillway_rate_milli", &[]);
    assert!((25_000..=35_000).contains(&rate), "{rate}");
}

#[test]
fn an_echo_counts_for_the_requests_that_went_elsewhere() {
    let mut home = Sidecar::start("primary", &server());
    // 30/s; as soon as that is known, a third goes elsewhere, and every other request here tells of it.
    for _ in 0..150 {
        home.refused(&inbound(HOME));
        home.pass(33);
    }
    for i in 0..120 {
        home.refused(&inbound(&format!(
            "primary;mesh-token-1;primary;worker;{};b",
            1 + i % 2
        )));
        home.pass(50);
    }
    let rate = home.metric("spillway_rate_milli", &[]);
    assert!((27_000..=32_000).contains(&rate), "{rate}");
}

#[test]
fn a_forged_echo_is_worth_little() {
    let mut home = Sidecar::start("primary", &server());
    for _ in 0..50 {
        home.refused(&inbound("primary;mesh-token-1;primary;worker;999999999;b"));
        home.pass(100);
    }
    let rate = home.metric("spillway_rate_milli", &[]);
    assert!(rate < 30_000, "10/s that claim a billion: {rate}");
}

/// Overflow is told that there is room, since a rung that tells nothing counts as one that fails.
#[test]
fn a_cluster_without_capacity_has_no_gate() {
    let document = policy("Server", |p| {
        p["capacity"] = json!({});
    });
    let mut burst = Sidecar::start("burst", &document);
    for count in [1, 3] {
        for _ in 0..100 {
            let (outcome, answer) =
                burst.exchange(&attempt(SPILLED, count), &traffic::response(200));
            assert_eq!(
                outcome.forwarded().unwrap().names_starting("x-spillway"),
                ["x-spillway-prefix"]
            );
            assert_eq!(
                answer.only("x-spillway-load").unwrap(),
                format!("burst;0;{count}")
            );
        }
    }
    let mut home = Sidecar::start("primary", &document);
    for _ in 0..100 {
        let (outcome, answer) = home.exchange(&inbound(HOME), &traffic::response(200));
        assert_eq!(outcome.forwarded().unwrap(), stranger().headers);
        assert_eq!(answer, traffic::response(200).headers);
    }
}

/// Neither the load of a limit that is gone, nor the demand of the time before there was one.
#[test]
fn a_capacity_that_goes_and_comes_leaves_nothing_behind() {
    let without = policy("Server", |p| {
        p.as_object_mut().unwrap().remove("capacity");
    });
    let told = |home: &mut Sidecar| {
        home.answer(&inbound(HOME), &traffic::response(200))
            .names_starting("x-spillway")
    };
    let mut home = Sidecar::start("primary", &server());
    for _ in 0..20 {
        home.admitted(HOME, 30);
        home.pass(100);
    }
    home.pass(1_000);
    assert_eq!(told(&mut home), ["x-spillway-load"]);
    assert!(home.metric("spillway_load_milli", &[]) > 1_000);
    home.reconfigure(&without);
    home.pass(100);
    assert_eq!(told(&mut home), Vec::<String>::new());
    assert_eq!(home.metric("spillway_load_milli", &[]), 0);
    home.pass(20_000);
    home.admitted(HOME, 5_000);
    home.pass(100);
    home.reconfigure(&server());
    for _ in 0..5 {
        home.pass(100);
        assert_eq!(told(&mut home), Vec::<String>::new());
    }
}

#[test]
fn only_the_workload_of_the_policy_has_its_gate() {
    for workload in [
        json!({"labels": {"app": "other"}}),
        json!({"labels": {"app": "worker", "track": "canary"}}),
    ] {
        let document = policy("Server", |p| p["workload"] = workload.clone());
        let mut other = Sidecar::start("primary", &document);
        assert_eq!(other.admitted(HOME, 50), 50, "{workload}");
        assert_eq!(other.forward(&inbound(HOME)), stranger().headers);
        let keys = other.proxy.shared_keys();
        assert!(!keys.iter().any(|key| key.contains("worker")), "{keys:?}");
    }
}

#[test]
fn a_stranger_on_another_port_is_not_the_policys() {
    let document = policy("Server", |p| {
        p["workload"] = json!({"labels": {"app": "worker"}, "ports": [9_999]})
    });
    let mut home = Sidecar::start("primary", &document);
    home.refused(&stranger());
    home.pass(100);
    assert_eq!(home.metric("spillway_callers_without_filter", &[]), 0);
}

#[test]
fn worker_threads_share_the_gate() {
    let mut one = Sidecar::start("primary", &server());
    let mut two = Sidecar::of(&one.proxy, &server());
    let mut through = 0;
    for _ in 0..20 {
        for sidecar in [&mut one, &mut two] {
            through += sidecar.admitted(HOME, 1);
        }
    }
    assert_eq!(through, BURST);
}

/// While one thread decides, the other admits a request: the first must see it and decide anew.
#[test]
fn worker_threads_that_race_share_the_gate_all_the_same() {
    let mut one = Sidecar::start("primary", &server());
    let two = Rc::new(RefCell::new(Sidecar::of(&one.proxy, &server())));
    let through = Rc::new(RefCell::new(0));
    for _ in 0..30 {
        let (other, count) = (two.clone(), through.clone());
        one.proxy
            .faults()
            .before(HostFunction::SetSharedData, move || {
                *count.borrow_mut() += other.borrow_mut().admitted(HOME, 1);
            });
        let own = one.admitted(HOME, 1);
        *through.borrow_mut() += own;
        one.proxy.faults().clear();
    }
    assert_eq!(*through.borrow(), BURST);
}

#[test]
fn worker_threads_share_the_load() {
    let mut one = Sidecar::start("primary", &server());
    let mut two = Sidecar::of(&one.proxy, &server());
    for _ in 0..40 {
        for _ in 0..3 {
            one.refused(&inbound(HOME));
        }
        one.pass(100);
        two.vm.tick(two.plugin).unwrap();
    }
    let told = two
        .answer(&inbound(HOME), &traffic::response(200))
        .only("x-spillway-load")
        .unwrap();
    let rho: u32 = told.split(';').nth(1).unwrap().parse().unwrap();
    assert!((1_700..=2_300).contains(&rho), "{told}");
}

#[test]
fn the_gate_and_the_load_survive_a_reload() {
    let mut home = Sidecar::start("primary", &server());
    for _ in 0..40 {
        for _ in 0..3 {
            home.refused(&inbound(HOME));
        }
        home.pass(100);
    }
    home.admitted(HOME, 40);
    home.reconfigure(&document("Server", |d| d["generation"] = json!(8)));
    assert!(
        home.refused(&inbound(HOME)).is_some(),
        "the gate is as full as before"
    );
    let answer = home.answer(&attempt(HOME, 3), &traffic::response(200));
    let rho: u32 = answer
        .only("x-spillway-load")
        .unwrap()
        .split(';')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(rho > 1_500, "{rho}");
    home.pass(100);
    assert_eq!(home.proxy.metric_sum(&["spillway_config_generation"]), 8);
}

#[test]
fn what_came_home_again_is_served_or_shed_as_the_policy_says() {
    let mut home = Sidecar::start("primary", &server());
    home.admitted(HOME, BURST);
    for _ in 0..50 {
        assert!(home.refused(&inbound(RETURNED)).is_none());
    }
    let mut shedding = Sidecar::start(
        "primary",
        &policy("Server", |p| p["onExhausted"] = json!("Shed")),
    );
    shedding.admitted(HOME, BURST);
    let answer = shedding.refused(&inbound(RETURNED)).unwrap();
    assert_eq!((answer.status, answer.grpc_status), (429, 8));
    assert!(answer.headers.has("x-spillway-shed"));
    assert!(
        !answer.headers.has("x-spillway-bounce"),
        "nobody is to repeat it"
    );
    assert!(
        shedding
            .refused(&attempt(HOME, 3))
            .is_some_and(|a| a.headers.has("x-spillway-shed"))
    );
    assert!(
        shedding.refused(&stranger()).is_none(),
        "callers without the filter are never shed"
    );
}
