//! Golden pairs: `golden/NAME.in.yaml` is planned, and comes to `golden/NAME.out.yaml`.
//! `SPILLWAY_UPDATE=1` writes the outputs anew, so that a change of behaviour is reviewed as a
//! change of YAML. Whatever the input is, the output keeps what is promised of all of them.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use spillway_core::config::Config;
use spillway_plan::conditions::Status;
use spillway_plan::diff::{Action, Change, changes};
use spillway_plan::{ControlPlane, Input, Key, Plan, Text, plan, unmerge};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn inputs() -> Vec<PathBuf> {
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".in.yaml"))
        .collect();
    inputs.sort();
    inputs
}

fn read(path: &PathBuf) -> Input {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_input_comes_to_its_output() {
    let update = std::env::var_os("SPILLWAY_UPDATE").is_some();
    let mut wrong = Vec::new();
    let mut read_outputs = BTreeSet::new();
    for path in inputs() {
        let input = read(&path);
        let text = serde_saphyr::to_string(&render(&input, &plan(&input))).unwrap();
        let output = PathBuf::from(path.to_string_lossy().replace(".in.yaml", ".out.yaml"));
        if update {
            std::fs::write(&output, &text).unwrap();
        }
        if std::fs::read_to_string(&output).unwrap_or_default() != text {
            wrong.push(output.display().to_string());
        }
        read_outputs.insert(output);
    }
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let is_output = path.to_string_lossy().ends_with(".out.yaml");
        if is_output && !read_outputs.contains(&path) {
            wrong.push(format!("{} has no input", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nSPILLWAY_UPDATE=1 writes them anew, if this is meant",
        wrong.join("\n")
    );
}

#[test]
fn every_output_keeps_what_is_promised() {
    for path in inputs() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let input = read(&path);
        let plan = plan(&input);
        for (plane, wanted) in &plan.control_planes {
            let context = format!("{name}, {plane}");
            plugins_are_taken(&input, wanted, &context);
            routes_lead_to_subsets(wanted, &context);
            for edit in &wanted.edits {
                assert_eq!(unmerge(&edit.after), unmerge(&edit.before), "{context}");
            }
        }
        assert_settled(&name, &input, &plan);
        assert_eq!(
            plan,
            spillway_plan::plan(&Input {
                policies: input.policies.iter().rev().cloned().collect(),
                clusters: input.clusters.iter().rev().cloned().collect(),
                fleets: input.fleets.iter().rev().cloned().collect(),
                ..input
            }),
            "{name}: the order of the input does not matter"
        );
    }
}

/// Once all of it is written, there is nothing left to write.
fn assert_settled(name: &str, input: &Input, first: &Plan) {
    let mut written = input.clone();
    for cluster in &mut written.clusters {
        let plane = cluster.resource.metadata.name.as_deref().unwrap();
        let (Some(wanted), Some(observed)) =
            (first.control_planes.get(plane), &mut cluster.observed)
        else {
            continue;
        };
        let observed = Arc::make_mut(observed);
        let held =
            |object: &Text| Key::of(&object.value()).is_some_and(|key| wanted.held.contains(&key));
        cluster.deployed.retain(held);
        let objects = wanted.objects.iter();
        let objects = objects.map(|object| Text::from(&object.to_value(7)));
        cluster.deployed.extend(objects);
        for edit in &wanted.edits {
            let it = |service: &&mut Arc<Value>| **service == edit.before;
            *observed.virtual_services.iter_mut().find(it).unwrap() = Arc::new(edit.after.clone());
        }
    }
    let second = plan(&written);
    for cluster in &written.clusters {
        let plane = cluster.resource.metadata.name.as_deref().unwrap();
        if let Some(wanted) = second.control_planes.get(plane) {
            let left = changes(wanted, &values(&cluster.deployed));
            assert_eq!(left, [], "{name}, {plane}: written twice");
        }
    }
    assert_eq!(first.policies, second.policies, "{name}");
}

fn plugins_are_taken(input: &Input, wanted: &ControlPlane, context: &str) {
    for object in wanted
        .objects
        .iter()
        .filter(|o| o.kind.kind == "WasmPlugin")
    {
        let spec = &object.to_value(1)["spec"];
        let config = spec["pluginConfig"].to_string();
        assert!(
            config.len() <= spillway_core::config::MAX_BYTES,
            "{context}"
        );
        for cluster in spec["pluginConfig"]["clusters"].as_object().unwrap().keys() {
            if let Err(errors) = Config::parse(config.as_bytes(), cluster) {
                panic!("{context}: {cluster} would refuse {config}: {errors}");
            }
        }
        assert!(
            Config::parse(config.as_bytes(), "unknown").is_ok(),
            "{context}"
        );
        assert_eq!(spec["failStrategy"], "FAIL_OPEN", "{context}");
        assert!(spec.get("vmConfig").is_none(), "{context}");
        assert!(
            spec["url"].as_str().unwrap().contains("@sha256:"),
            "{context}"
        );
        let everywhere = object.namespace == input.mesh.root_namespace;
        assert!(!everywhere || spec.get("selector").is_some(), "{context}");
    }
}

fn routes_lead_to_subsets(wanted: &ControlPlane, context: &str) {
    let mut subsets: BTreeSet<(String, String)> = BTreeSet::new();
    for rule in wanted
        .objects
        .iter()
        .filter(|o| o.kind.kind == "DestinationRule")
    {
        let spec = rule.spec.value();
        let host = spec["host"].as_str().unwrap();
        for subset in spec["subsets"].as_array().unwrap() {
            subsets.insert((host.to_owned(), subset["name"].as_str().unwrap().to_owned()));
        }
    }
    let own = wanted
        .objects
        .iter()
        .filter(|o| o.kind.kind == "VirtualService");
    let routes = own.map(|object| object.spec.value()["http"].clone()).chain(
        wanted
            .edits
            .iter()
            .map(|edit| edit.after["spec"]["http"].clone()),
    );
    for route in routes.flat_map(|http| http.as_array().cloned().unwrap_or_default()) {
        for destination in route["route"].as_array().into_iter().flatten() {
            let destination = &destination["destination"];
            let Some(subset) = destination["subset"].as_str() else {
                continue;
            };
            if subset.starts_with("spillway-") {
                let named = |(host, name): &(String, String)| {
                    name == subset && host.starts_with(destination["host"].as_str().unwrap())
                };
                assert!(subsets.iter().any(named), "{context}: {destination}");
            }
        }
    }
}

fn render(input: &Input, plan: &Plan) -> Value {
    let mut output = Map::new();
    let planes = plan.control_planes.iter().map(|(name, wanted)| {
        let resource =
            |c: &&spillway_plan::Cluster| c.resource.metadata.name.as_deref() == Some(name);
        let cluster = input.clusters.iter().find(resource).unwrap();
        (name.clone(), render_plane(wanted, &cluster.deployed))
    });
    output.insert("controlPlanes".to_owned(), Value::Object(planes.collect()));
    let policies = plan.policies.iter().map(|(name, report)| {
        let told = report
            .conditions
            .iter()
            .filter(|c| c.status != Status::False || c.kind.as_str() == "Accepted");
        let conditions: Vec<Value> = told
            .map(|c| {
                json!({
                    "type": c.kind.as_str(), "status": c.status.as_str(),
                    "reason": c.reason, "message": c.message,
                })
            })
            .collect();
        let value = json!({"conditions": conditions, "controlPlanes": report.control_planes});
        (name.clone(), value)
    });
    output.insert("policies".to_owned(), Value::Object(policies.collect()));
    if !plan.clusters.is_empty() {
        output.insert("clusters".to_owned(), json!(plan.clusters));
    }
    if !plan.idle.is_empty() {
        output.insert("idle".to_owned(), json!(plan.idle));
    }
    if !plan.fleets.is_empty() {
        output.insert("fleets".to_owned(), json!(plan.fleets));
    }
    Value::Object(output)
}

fn values(texts: &[Text]) -> Vec<Value> {
    texts.iter().map(Text::value).collect()
}

fn render_plane(wanted: &ControlPlane, deployed: &[Text]) -> Value {
    let mut plane = Map::new();
    let objects = wanted.objects.iter().map(|object| object.to_value(1));
    plane.insert("objects".to_owned(), objects.collect());
    if !wanted.edits.is_empty() {
        let edits = wanted.edits.iter().map(|edit| edit.after.clone());
        plane.insert("edits".to_owned(), edits.collect());
    }
    if !wanted.held.is_empty() {
        let held = wanted.held.iter().map(|key| json!(path(key)));
        plane.insert("held".to_owned(), held.collect());
    }
    if !deployed.is_empty() {
        let changes = changes(wanted, &values(deployed));
        plane.insert("changes".to_owned(), changes.iter().map(change).collect());
    }
    Value::Object(plane)
}

fn change(change: &Change) -> Value {
    let what = match &change.action {
        Action::Apply { key, object } => {
            let version = &object["metadata"]["resourceVersion"];
            let generation = &object["metadata"]["annotations"]["spillway.dev/generation"];
            json!({"apply": path(key), "resourceVersion": version, "generation": generation})
        }
        Action::Replace { object, .. } => json!({"replace": object["metadata"]["name"]}),
        Action::Delete { key, uid } => json!({"delete": path(key), "uid": uid}),
    };
    json!({"stage": format!("{:?}", change.stage), "action": what})
}

fn path(key: &spillway_plan::Key) -> String {
    let kind = key.kind().unwrap().kind;
    format!("{kind} {}/{}", key.namespace, key.name)
}
