//! What holds whatever people write: merges are undone exactly, and names fit.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Map, Value, json};
use spillway_plan::user::merge::{HeaderMatch, Retries};
use spillway_plan::{Copies, merge, names, unmerge};

const DOMAIN: &str = "cluster.local";

/// Anything that may stand in a VirtualService.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z/ ;.*]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_route() -> impl Strategy<Value = Value> {
    let host = prop::sample::select(vec![
        "worker",
        "worker.default.svc.cluster.local",
        "other.default.svc.cluster.local",
        "*",
    ]);
    let destination = (host, any::<bool>()).prop_map(|(host, in_subset)| {
        let mut destination = json!({"host": host});
        if in_subset {
            destination["subset"] = json!("v1");
        }
        json!({"destination": destination, "weight": 50})
    });
    let field = prop::sample::select(vec![
        "match", "headers", "retries", "rewrite", "route", "delegate", "timeout", "name",
    ]);
    (
        prop::collection::vec(destination, 0..3),
        prop::collection::btree_map(field, any_value(), 0..5),
        any::<bool>(),
    )
        .prop_map(|(destinations, fields, routed)| {
            let mut route: Map<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            if routed {
                route.insert("route".to_owned(), Value::Array(destinations));
            }
            Value::Object(route)
        })
}

fn any_virtual_service() -> impl Strategy<Value = Value> {
    let routes = prop_oneof![
        8 => prop::collection::vec(any_route(), 0..6).prop_map(Value::from),
        1 => any_value(),
    ];
    (routes, any_value(), any::<bool>()).prop_map(|(http, rest, has_http)| {
        let mut spec = json!({"hosts": ["worker"], "tcp": rest});
        if has_http {
            spec["http"] = http;
        }
        json!({"metadata": {"namespace": "default", "name": "worker"}, "spec": spec})
    })
}

fn any_copies() -> impl Strategy<Value = Vec<Copies>> {
    let service = |host: &'static str| {
        (any::<bool>(), any::<bool>()).prop_map(move |(retried, regex)| Copies {
            host: format!("{host}.default.svc.cluster.local"),
            subsets: vec![
                (
                    "spillway-burst".to_owned(),
                    HeaderMatch::Prefixes(vec!["burst;one;".to_owned(), "burst;two;".to_owned()]),
                ),
                (
                    "spillway-home".to_owned(),
                    if regex {
                        HeaderMatch::Regexes(vec!["[^;]+;one;.*".to_owned()])
                    } else {
                        HeaderMatch::Prefixes(vec!["primary;one;".to_owned()])
                    },
                ),
            ],
            retries: retried.then(|| Retries {
                retries: json!({"attempts": 4}),
                headers: vec![("x-envoy-retry-on", "retriable-headers")],
            }),
        })
    };
    prop_oneof![
        service("worker").prop_map(|one| vec![one]),
        (service("worker"), service("other")).prop_map(|(a, b)| vec![a, b]),
        Just(Vec::new()),
    ]
}

fn routes(service: &Value) -> Vec<Value> {
    let http = service.pointer("/spec/http").and_then(Value::as_array);
    http.cloned().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_merge_is_undone_exactly(user in any_virtual_service(), copies in any_copies()) {
        let merged = merge(&user, &copies, DOMAIN);
        prop_assert_eq!(unmerge(&merged), user);
    }

    #[test]
    fn a_merge_is_made_once(user in any_virtual_service(), copies in any_copies(), before in any_copies()) {
        let once = merge(&user, &copies, DOMAIN);
        prop_assert_eq!(merge(&merge(&user, &before, DOMAIN), &copies, DOMAIN), once);
    }

    #[test]
    fn copies_stand_before_their_route_and_match_our_header(
        user in any_virtual_service(),
        copies in any_copies(),
    ) {
        let merged = merge(&user, &copies, DOMAIN);
        let mut waiting = 0;
        for route in routes(&merged) {
            let ours = route.get("name").and_then(Value::as_str)
                .is_some_and(|name| name.starts_with("spillway-"));
            if ours {
                waiting += 1;
                let matches = route["match"].as_array().unwrap();
                prop_assert!(!matches.is_empty());
                for one in matches.iter().filter(|one| one.get("headers").is_some_and(Value::is_object)) {
                    prop_assert!(one["headers"].get("x-spillway").is_some());
                }
            } else {
                prop_assert!(waiting % 2 == 0);
                waiting = 0;
            }
        }
        prop_assert_eq!(waiting, 0, "no copy is last");
    }

    #[test]
    fn names_fit(namespace in ".{0,300}", policy in ".{0,300}", service in ".{0,300}", section in proptest::option::of(".{0,80}")) {
        let id = names::policy_id(&namespace, &policy, &service, section.as_deref());
        prop_assert!((1..=32).contains(&id.len()), "{}", id);
        prop_assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }

    #[test]
    fn subsets_are_dns_labels_or_refused(cluster in prop_oneof!["[a-zA-Z0-9._-]{0,70}", ".{0,70}", "[a-z0-9]{1,54}"]) {
        if let Ok(subset) = names::rung(&cluster) {
            prop_assert!(subset.len() <= 63);
            prop_assert!(subset.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!subset.ends_with('-'));
            prop_assert_ne!(subset.as_str(), names::HOME);
        }
    }

    #[test]
    fn routes_have_names_of_objects(service in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?") {
        let name = names::routes(&service);
        prop_assert!(name.len() <= 253);
        prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }
}

#[test]
fn ids_differ_where_anything_differs() {
    let ids = [
        names::policy_id("default", "worker", "worker", None),
        names::policy_id("shop", "worker", "worker", None),
        names::policy_id("default", "other", "worker", None),
        names::policy_id("default", "worker", "other", None),
        names::policy_id("default", "worker", "worker", Some("http")),
    ];
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}
