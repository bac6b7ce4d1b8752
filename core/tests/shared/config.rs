//! The plugin's configuration: what is documented is accepted, what is wrong is told.

use spillway_core::caller::Force;
use spillway_core::config::{Bodies, Config, EnvoyCluster, MAX_BYTES, Mode, Side};
use spillway_core::header::{Flags, Hop};
use spillway_core::rate::{Capacity, RateLimit, SECOND};
use spillway_core::switch::Limits;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::golden::{BAD, documented, documented_value, render, set};
use super::help::{MILLI, count, per_second};

#[test]
fn the_documented_example() {
    let config = Config::parse(documented().as_bytes(), "primary").unwrap();
    assert_eq!((config.generation, config.side), (7, Side::Client));
    assert_eq!(config.prefix_header, "x-spillway-prefix");
    assert_eq!(
        (config.own.as_str(), config.prefix.as_str()),
        ("primary", "")
    );
    assert!(config.passed_over.is_empty());
    let [policy] = config.policies.as_slice() else {
        panic!("{:?}", config.policies);
    };
    assert_eq!(
        (policy.id.as_str(), policy.name.as_str()),
        ("worker", "default/worker")
    );
    assert_eq!(policy.home, "primary");
    assert_eq!(policy.home_hop, b"primary;mesh-token-1;primary;worker;");
    let [rung] = policy.rungs.as_slice() else {
        panic!("{:?}", policy.rungs);
    };
    assert_eq!(
        (rung.cluster.as_str(), rung.subset.as_str()),
        ("burst", "spillway-burst")
    );
    assert_eq!(rung.hop, b"burst;mesh-token-1;primary;worker;");
    let max = RateLimit {
        interval: 5 * MILLI,
        limit: 995 * MILLI,
    };
    assert_eq!(rung.max_rate, Some(max), "200 at once, then 200/s");
    assert_eq!(policy.mode, Mode::Spill);
    let capacity = Capacity::of_total(Some(per_second(15)), None, count(2));
    assert_eq!(policy.capacity, Some(capacity));
    assert!(policy.bounce && !policy.shadow && !policy.shed);
    assert_eq!(policy.bodies, Bodies::Small);
    assert_eq!(policy.never, ["/checkout"]);
    let force = policy.force.unwrap();
    assert_eq!(
        (force.force, force.until),
        (Force::Home, 1_796_112_000 * SECOND)
    );
    let workload = policy.workload.as_ref().unwrap();
    assert_eq!(
        workload.labels.get("app").map(String::as_str),
        Some("worker")
    );
    assert_eq!(workload.ports, [8080]);

    let name = "outbound|80||worker-service.default.svc.cluster.local";
    assert_eq!(config.policy_for_cluster(name), Some(0));
}

#[test]
fn each_cluster_has_its_own_row() {
    let config = Config::parse(documented().as_bytes(), "burst").unwrap();
    assert_eq!(config.prefix, "bursty-");
    assert_eq!(config.policies[0].capacity, None, "no row, no gate");
    assert_eq!(config.policies[0].home, "primary");
}

/// Bad documents, with what is said about each.
#[test]
fn what_is_said_about_bad_configurations() {
    let (rendered, cases) = render(BAD);
    assert!(cases >= 60, "{cases} cases");
    #[cfg(not(target_arch = "wasm32"))]
    if std::env::var_os("SPILLWAY_UPDATE").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/bad-configurations.txt"
        );
        std::fs::write(path, &rendered).unwrap();
        return;
    }
    for (was, is) in BAD.lines().zip(rendered.lines()) {
        assert_eq!(was, is, "run with SPILLWAY_UPDATE=1 if this is meant");
    }
    assert_eq!(BAD, rendered, "run with SPILLWAY_UPDATE=1 if this is meant");
    assert!(!BAD.contains("ACCEPTED"), "a bad configuration is accepted");
}

#[test]
fn errors_read_as_one_line() {
    let errors = Config::parse(b"{\"version\": 1, \"side\": \"x\"}", "a").unwrap_err();
    let line = errors.to_string();
    assert!(
        line.starts_with("side: write one of Client, Server; tokens: is missing; "),
        "{line}"
    );
    let errors = Config::parse(b"{", "a").unwrap_err();
    assert!(errors.to_string().starts_with("is not JSON"), "{errors}");
}

/// The smallest document, and the defaults of the reference.
#[test]
fn defaults() {
    let document = br#"{"version": 1, "side": "Server", "tokens": ["mesh-token-1"],
        "clusters": {"a": {}}, "policies": [{"id": "p", "name": "p"}]}"#;
    let config = Config::parse(document, "a").unwrap();
    assert_eq!((config.generation, config.side), (0, Side::Server));
    assert_eq!(config.prefix_header, "x-spillway-prefix");
    let policy = &config.policies[0];
    assert_eq!(policy.home, "a", "the caller's own");
    assert!(policy.rungs.is_empty() && policy.never.is_empty());
    assert!(policy.capacity.is_none() && policy.workload.is_none() && policy.force.is_none());
    assert_eq!((policy.mode, policy.bodies), (Mode::Spill, Bodies::Small));
    assert!(policy.bounce && !policy.shadow && !policy.shed);
}

#[test]
fn a_cluster_that_the_table_does_not_know() {
    let mut document = documented_value();
    let second = r#"{"id": "two", "name": "two", "overflow": [{"cluster": "burst"}],
        "destinations": [{"host": "two"}]}"#;
    set(
        &mut document,
        "/policies/1",
        serde_json::from_str(second).ok(),
    );
    // A name that was not checked is not taken over.
    let config = Config::parse(document.to_string().as_bytes(), "else;where").unwrap();
    assert_eq!(config.passed_over, ["two"], "no home, and none of its own");
    assert_eq!(config.policies.len(), 1);
    assert_eq!(config.policies[0].home, "primary");
    assert_eq!((config.prefix.as_str(), config.own.as_str()), ("", ""));
    assert_eq!(config.policy_for_cluster("outbound|80||two"), None);
    let hop = |policy| Hop {
        target: "primary",
        token: "mesh-token-1",
        home: "primary",
        policy,
        echo: 1,
        flags: Flags::default(),
    };
    assert_eq!(config.policy_for_hop(&hop("worker")), Some(0));
    assert_eq!(config.policy_for_hop(&hop("two")), None);
}

#[test]
fn a_rung_that_is_the_callers_home_is_passed_over() {
    let document = |own: &str| {
        let text = r#"{"version": 1, "side": "Client", "tokens": ["mesh-token-1"],
            "clusters": {"a": {}, "b": {}, "c": {}}, "policies": [{"id": "p", "name": "p",
            "overflow": [{"cluster": "a"}, {"cluster": "b"}, {"cluster": "c"}]}]}"#;
        let config = Config::parse(text.as_bytes(), own).unwrap();
        let policy = &config.policies[0];
        let rungs = policy
            .rungs
            .iter()
            .map(|r| r.cluster.clone())
            .collect::<Vec<_>>();
        (policy.home.clone(), rungs.join(" "))
    };
    assert_eq!(document("a"), ("a".into(), "b c".into()));
    assert_eq!(document("b"), ("b".into(), "a c".into()));
}

/// While a token is rotated the first is sent and both are accepted.
#[test]
fn two_tokens() {
    let mut document = documented_value();
    set(
        &mut document,
        "/tokens",
        Some(["new-token", "old-token"].into_iter().collect()),
    );
    let config = Config::parse(document.to_string().as_bytes(), "primary").unwrap();
    assert_eq!(
        config.policies[0].home_hop,
        b"primary;new-token;primary;worker;"
    );
    for (token, known) in [
        ("new-token", true),
        ("old-token", true),
        ("bad-token", false),
    ] {
        let value = format!("primary;{token};primary;worker;1;b");
        let hop = Hop::parse(value.as_bytes()).unwrap();
        assert_eq!(config.policy_for_hop(&hop).is_some(), known, "{token}");
    }
}

#[test]
fn destinations_are_found_by_host_and_port() {
    let text = r#"{"version": 1, "side": "Client", "tokens": ["mesh-token-1"],
        "clusters": {"a": {}}, "policies": [
        {"id": "p", "name": "p", "destinations": [{"host": "x.svc", "ports": [80, 81]}, {"host": "y.svc"}]},
        {"id": "q", "name": "q", "destinations": [{"host": "x.svc", "ports": [443]}]}]}"#;
    let config = Config::parse(text.as_bytes(), "a").unwrap();
    for (name, found) in [
        ("outbound|80||x.svc", Some(0)),
        ("outbound|81|spillway-b|x.svc", Some(0)),
        ("outbound|443|v1|x.svc", Some(1)),
        ("outbound|8080||x.svc", None),
        ("outbound|1||y.svc", Some(0)),
        ("outbound|80||z.svc", None),
        ("inbound|80||x.svc", None),
        ("outbound_.80_._.x.svc", None),
        ("outbound|80|x.svc", None),
        ("outbound|eighty||x.svc", None),
        ("outbound|65536||x.svc", None),
        ("PassthroughCluster", None),
        ("", None),
        ("|||", None),
    ] {
        assert_eq!(config.policy_for_cluster(name), found, "{name}");
    }
    let inbound = EnvoyCluster::parse("inbound|8080||").unwrap();
    assert_eq!((inbound.port, inbound.subset, inbound.host), (8080, "", ""));
}

#[test]
fn switch_mode() {
    let mut document = documented_value();
    set(&mut document, "/policies/0/mode", Some("Switch".into()));
    let limits = serde_json::json!({"enter": "15/s", "leave": "10/s"});
    set(&mut document, "/policies/0/switch", Some(limits));
    let config = Config::parse(document.to_string().as_bytes(), "primary").unwrap();
    let limits = Limits::new(per_second(15), per_second(10)).unwrap();
    assert_eq!(config.policies[0].mode, Mode::Switch(limits));
}

/// A maximum rate lets a second's worth through at once.
#[test]
fn max_rates() {
    for (text, interval, limit) in [
        ("1/s", SECOND, 0),
        ("10/m", 6 * SECOND, 0),
        ("100/s", 10 * MILLI, 990 * MILLI),
    ] {
        let mut document = documented_value();
        set(
            &mut document,
            "/policies/0/overflow/0/maxRate",
            Some(text.into()),
        );
        let config = Config::parse(document.to_string().as_bytes(), "primary").unwrap();
        let rate = config.policies[0].rungs[0].max_rate;
        assert_eq!(rate, Some(RateLimit { interval, limit }), "{text}");
    }
}

#[test]
fn the_size_is_limited() {
    let pad = |len: usize| {
        let mut text = documented().to_owned();
        text.push_str(&" ".repeat(len - text.len()));
        Config::parse(text.as_bytes(), "primary")
    };
    assert!(pad(MAX_BYTES).is_ok());
    let errors = pad(MAX_BYTES + 1).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert_eq!(errors.to_string(), "has 524289 bytes: write at most 524288");
    let nested = "[".repeat(200_000);
    assert!(Config::parse(nested.as_bytes(), "primary").is_err());
}

#[test]
fn tables_have_limits() {
    let rungs = |n: usize| {
        let mut document = documented_value();
        let names: Vec<String> = (0..n).map(|i| format!("c{i}")).collect();
        for name in &names {
            set(
                &mut document,
                &format!("/clusters/{name}"),
                Some(serde_json::json!({})),
            );
        }
        let rungs: Vec<_> = names
            .iter()
            .map(|n| serde_json::json!({"cluster": n}))
            .collect();
        set(&mut document, "/policies/0/overflow", Some(rungs.into()));
        Config::parse(document.to_string().as_bytes(), "primary")
    };
    assert!(rungs(8).is_ok());
    let errors = rungs(9).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "policies[0].overflow: write at most 8 rungs"
    );

    let policies = |n: usize| {
        let mut document = documented_value();
        let list: Vec<_> = (0..n)
            .map(|i| serde_json::json!({"id": format!("p{i}"), "name": "p"}))
            .collect();
        set(&mut document, "/policies", Some(list.into()));
        Config::parse(document.to_string().as_bytes(), "primary")
    };
    assert!(policies(1_024).is_ok());
    assert_eq!(
        policies(1_025).unwrap_err().to_string(),
        "policies: write at most 1024 policies"
    );

    let clusters = |n: usize| {
        let mut document = documented_value();
        let table: serde_json::Map<_, _> = (2..n)
            .map(|i| (format!("c{i}"), serde_json::json!({})))
            .collect();
        set(&mut document, "/clusters", Some(table.into()));
        for name in ["primary", "burst"] {
            set(
                &mut document,
                &format!("/clusters/{name}"),
                Some(serde_json::json!({})),
            );
        }
        Config::parse(document.to_string().as_bytes(), "primary")
    };
    assert!(clusters(4_096).is_ok());
    assert_eq!(
        clusters(4_097).unwrap_err().to_string(),
        "clusters: write 1 to 4096 clusters"
    );
}
