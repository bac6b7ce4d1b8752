//! From the objects of any golden output to those of any other, write by write: no route ever
//! leads to a subset that is not there, no plugin sends a request to a route that is not there
//! yet, and it comes to an end.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use spillway_plan::diff::{Action, changes};
use spillway_plan::{ControlPlane, Input, Key, plan};

/// What the control plane `primary` is to have, by golden input.
fn wanted() -> BTreeMap<String, Arc<ControlPlane>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".in.yaml") {
            let input: Input =
                serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            // Another domain is another mesh: no service has both names.
            if input.mesh.domain != "cluster.local" {
                continue;
            }
            if let Some(primary) = plan(&input).control_planes.remove("primary") {
                all.insert(name.to_owned(), primary);
            }
        }
    }
    all
}

type State = BTreeMap<Key, Value>;

fn subsets(object: &Value) -> BTreeSet<&str> {
    let subsets = object["spec"]["subsets"].as_array().into_iter().flatten();
    subsets
        .map(|subset| subset["name"].as_str().unwrap())
        .collect()
}

fn of_kind<'s>(state: &'s State, kind: &'static str) -> impl Iterator<Item = &'s Value> {
    state.values().filter(move |object| object["kind"] == kind)
}

fn loses_no_request(state: &State, context: &str) {
    for service in of_kind(state, "VirtualService") {
        for route in service["spec"]["http"].as_array().unwrap() {
            let destination = &route["route"][0]["destination"];
            let Some(subset) = destination["subset"].as_str() else {
                continue;
            };
            let rule = of_kind(state, "DestinationRule")
                .find(|rule| rule["spec"]["host"] == destination["host"]);
            let there = rule.is_some_and(|rule| subsets(rule).contains(subset));
            assert!(there, "{context}: {destination} leads nowhere");
        }
    }
}

#[test]
fn every_step_between_two_plans_keeps_requests() {
    let all = wanted();
    let (mut steps, mut longest) = (0, 0);
    for (from, before) in &all {
        let start: State = before
            .objects
            .iter()
            .map(|object| (object.key(), object.to_value(1)))
            .collect();
        for (to, after) in all.iter().filter(|(_, after)| after.held.is_empty()) {
            let mut state = start.clone();
            let mut rounds = 0;
            loop {
                let actual: Vec<Value> = state.values().cloned().collect();
                let mut due = changes(after, &actual);
                due.retain(|change| !matches!(change.action, Action::Replace { .. }));
                if due.is_empty() {
                    break;
                }
                rounds += 1;
                assert!(rounds <= 2, "{from} to {to}: {due:?}");
                for change in due {
                    match change.action {
                        Action::Apply { key, object } => state.insert(key, object),
                        Action::Delete { key, .. } => state.remove(&key),
                        Action::Replace { .. } => None,
                    };
                    steps += 1;
                    loses_no_request(&state, &format!("{from} to {to}"));
                }
            }
            longest = longest.max(rounds);
            let wanted: BTreeSet<Key> = after.objects.iter().map(|o| o.key()).collect();
            assert_eq!(state.keys().cloned().collect::<BTreeSet<_>>(), wanted);
        }
    }
    assert_eq!(longest, 2, "some rule is written twice");
    assert!(steps > 10_000, "only {steps} steps");
}

#[test]
fn what_is_used_is_written_before_what_uses_it() {
    let all = wanted();
    let place = |changes: &[spillway_plan::diff::Change], kind: &str, name: &str| {
        changes.iter().position(|change| match &change.action {
            Action::Apply { key, .. } | Action::Delete { key, .. } => {
                key.kind().unwrap().kind == kind && key.name.ends_with(name)
            }
            Action::Replace { .. } => kind == "VirtualService",
        })
    };
    let order = [
        ("DestinationRule", ""),
        ("VirtualService", ""),
        ("WasmPlugin", "-server"),
        ("WasmPlugin", "-client"),
    ];
    for name in ["simple", "merge"] {
        let wanted = &all[name];
        let install = changes(wanted, &[]);
        let places: Vec<_> = order.map(|(kind, name)| place(&install, kind, name)).into();
        assert!(places.is_sorted() && places[0].is_some(), "{install:?}");

        let actual: Vec<Value> = wanted.objects.iter().map(|o| o.to_value(1)).collect();
        let nothing = ControlPlane {
            edits: wanted
                .edits
                .iter()
                .map(|edit| spillway_plan::Edit {
                    before: Arc::new(edit.after.clone()),
                    after: Value::clone(&edit.before),
                    policies: BTreeSet::new(),
                })
                .collect(),
            ..ControlPlane::default()
        };
        let removal = changes(&nothing, &actual);
        let places: Vec<_> = order
            .iter()
            .rev()
            .map(|(kind, name)| place(&removal, kind, name))
            .collect();
        assert!(places.is_sorted() && places[0].is_some(), "{removal:?}");
    }
}
