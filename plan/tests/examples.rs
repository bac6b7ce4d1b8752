//! The hand-written examples in `wasmplugins/` say what the planner renders for the service they
//! are about, but for the names, which people choose shorter.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use spillway_plan::{Input, plan};

fn examples() -> BTreeMap<(String, String), Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../wasmplugins");
    let mut found = BTreeMap::new();
    for file in [
        "worker-client.yaml",
        "worker-server.yaml",
        "worker-routes.yaml",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let kind = object["kind"].as_str().unwrap().to_owned();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            found.insert((kind, name), object["spec"].clone());
        }
    }
    found
}

fn rendered() -> BTreeMap<(String, String), Value> {
    let cluster = |name: &str, prefix: &str| {
        json!({
            "resource": {
                "apiVersion": "spillway.dev/v1alpha1", "kind": "MeshCluster",
                "metadata": {"name": name},
                "spec": {"access": "Hub", "controlPlane": "primary", "prefix": prefix},
            },
            "observed": {
                "uid": name,
                "namespaces": {"default": {"istio-injection": "enabled"}},
                "services": [{
                    "metadata": {"name": "worker-service", "namespace": "default"},
                    "spec": {
                        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                        "selector": {"app": "worker"},
                    },
                }],
                "endpoints": {"default/worker-service": {"ready": 2}},
            },
        })
    };
    let digest = "0".repeat(64);
    let input: Input = serde_json::from_value(json!({
        "mesh": {
            "image": format!("oci://registry.example.com/spillway/filter@sha256:{digest}"),
            "tokens": ["replace-this-token"],
        },
        "clusters": [cluster("primary", ""), cluster("burst", "bursty-")],
        "policies": [{
            "apiVersion": "spillway.dev/v1alpha1", "kind": "BurstPolicy",
            "metadata": {"name": "worker", "namespace": "default"},
            "spec": {
                "targetRefs": [{"name": "worker-service"}],
                "home": "primary",
                "overflow": [{"cluster": "burst"}],
                "capacity": {"total": {"rate": "15/s"}},
            },
        }],
    }))
    .unwrap();
    let objects = plan(&input)
        .control_planes
        .remove("primary")
        .unwrap()
        .objects
        .clone();
    let named = objects.iter().map(|object| {
        let name = object
            .name
            .replace("spillway-worker-service", "spillway-worker");
        let mut spec = object.to_value(1)["spec"].clone();
        // In the examples everybody sees the routes.
        spec.as_object_mut().unwrap().remove("exportTo");
        if let Some(policy) = spec.pointer_mut("/pluginConfig/policies/0") {
            policy["id"] = json!("worker");
            policy["name"] = json!("default/worker");
        }
        ((object.kind.kind.to_owned(), name), spec)
    });
    named.collect()
}

#[test]
fn the_examples_are_what_is_rendered() {
    let (examples, rendered) = (examples(), rendered());
    assert_eq!(
        examples.keys().collect::<Vec<_>>(),
        rendered.keys().collect::<Vec<_>>()
    );
    for (name, example) in &examples {
        assert_eq!(example, &rendered[name], "{name:?}");
    }
}
