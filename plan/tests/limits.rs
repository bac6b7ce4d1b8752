//! Sizes: what does not fit is left out and told, the older policies stay, and what is written is
//! always something that the filter takes.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use serde_json::{Value, json};
use spillway_core::config::{Config, MAX_BYTES};
use spillway_plan::{Input, Plan, plan};

fn cluster(name: &str, services: &[Value]) -> Value {
    json!({
        "resource": {
            "apiVersion": "spillway.dev/v1alpha1", "kind": "MeshCluster",
            "metadata": {"name": name},
            "spec": {
                "secretRef": {"namespace": "spillway-system", "name": name},
                "controlPlane": "primary",
            },
        },
        "observed": {
            "uid": name,
            "namespaces": {"default": {"istio-injection": "enabled"}},
            "services": services,
        },
    })
}

fn service(i: usize) -> Value {
    json!({
        "metadata": {"name": format!("worker-{i}"), "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": format!("worker-{i}")}},
    })
}

fn policy(i: usize, routes: usize) -> Value {
    let routes: Vec<Value> = (0..routes)
        .map(|r| json!({"match": {"pathPrefix": format!("/{r}{}", "a".repeat(1_000))}, "class": "Never"}))
        .collect();
    json!({
        "apiVersion": "spillway.dev/v1alpha1", "kind": "BurstPolicy",
        "metadata": {
            "name": format!("worker-{i}"), "namespace": "default",
            "creationTimestamp": format!("2026-01-01T{:02}:{:02}:{:02}Z", i / 3600, i / 60 % 60, i % 60),
        },
        "spec": {
            "targetRefs": [{"name": format!("worker-{i}")}],
            "home": "primary",
            "overflow": [{"cluster": "burst"}],
            "capacity": {"total": {"rate": "15/s"}},
            "routes": routes,
        },
    })
}

fn mesh() -> Value {
    json!({
        "image": format!("oci://registry.example.com/filter@sha256:{}", "0".repeat(64)),
        "tokens": ["mesh-token-1"],
    })
}

fn planned(policies: usize, routes: usize) -> Plan {
    let services: Vec<Value> = (0..policies).map(service).collect();
    let input = json!({
        "mesh": mesh(),
        "clusters": [cluster("primary", &services), cluster("burst", &services)],
        "policies": (0..policies).map(|i| policy(i, routes)).collect::<Vec<_>>(),
    });
    let input: Input = serde_json::from_value(input).unwrap();
    plan(&input)
}

/// The policies in the caller's plugin, after its configuration was seen to be one.
fn in_plugin(plan: &Plan) -> Vec<String> {
    let plugins = &plan.control_planes["primary"].objects;
    let client = plugins
        .iter()
        .find(|o| o.name == "spillway-client")
        .unwrap();
    let config = client.to_value(u64::from(u32::MAX))["spec"]["pluginConfig"].clone();
    let text = config.to_string();
    assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
    Config::parse(text.as_bytes(), "primary").unwrap();
    let policies = config["policies"].as_array().unwrap();
    policies
        .iter()
        .map(|p| p["name"].as_str().unwrap().to_owned())
        .collect()
}

fn too_large(plan: &Plan) -> Vec<&str> {
    let told = plan.policies.iter().filter(|(_, report)| {
        let mut conditions = report.conditions.iter();
        conditions.any(|c| c.reason == "ConfigurationTooLarge")
    });
    told.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_mebibyte_of_policies_is_cut_at_512_kibibytes() {
    let plan = planned(32, 32);
    let kept = in_plugin(&plan);
    assert!((14..=16).contains(&kept.len()), "{kept:?}");
    let told = too_large(&plan);
    assert_eq!(told.len() + kept.len(), 32);
    let oldest: Vec<String> = (0..kept.len())
        .map(|i| format!("default/worker-{i}"))
        .collect();
    assert_eq!(kept, oldest, "the older policies stay");
    assert!(!told.contains(&"default/worker-0"));
}

#[test]
fn a_plugin_has_at_most_1024_policies() {
    let plan = planned(1_030, 0);
    assert_eq!(in_plugin(&plan).len(), 1_024);
    assert_eq!(too_large(&plan).len(), 6);
    let plugin = &plan.control_planes["primary"].objects;
    let client = plugin.iter().find(|o| o.name == "spillway-client").unwrap();
    let annotations = client.to_value(1)["metadata"]["annotations"].to_string();
    assert!(annotations.len() < 8_192, "annotations are bounded");
}

/// A thousand control planes, each in the ladder of none but one policy: what a change of one
/// policy costs. The bound is far above what it takes, and far below a quadratic plan's time.
#[test]
fn a_thousand_control_planes_are_planned_in_seconds() {
    const CLUSTERS: usize = 1_000;
    const POLICIES: usize = 10;
    let services: Vec<Value> = (0..POLICIES).map(service).collect();
    let clusters: Vec<Value> = (0..CLUSTERS)
        .map(|i| {
            let mut cluster = cluster(&format!("c{i}"), &services);
            cluster["resource"]["spec"]["controlPlane"] = json!(format!("c{i}"));
            cluster
        })
        .collect();
    let policies: Vec<Value> = (0..POLICIES)
        .map(|i| {
            let mut policy = policy(i, 0);
            policy["spec"]["home"] = json!("c0");
            policy["spec"]["overflow"] = json!([{"cluster": "c1"}]);
            policy
        })
        .collect();
    let input = json!({"mesh": mesh(), "clusters": clusters, "policies": policies});
    let input: Input = serde_json::from_value(input).unwrap();
    let start = std::time::Instant::now();
    let plan = plan(&input);
    let took = start.elapsed();
    assert_eq!(plan.control_planes.len(), CLUSTERS);
    let objects = plan
        .control_planes
        .values()
        .map(|plane| plane.objects.len());
    assert_eq!(objects.sum::<usize>(), CLUSTERS * (2 * POLICIES + 2));
    println!("planned in {took:?}");
    assert!(took.as_secs() < 20, "{took:?}");
}
