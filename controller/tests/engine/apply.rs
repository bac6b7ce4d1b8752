//! What clusters have, and when it is written.

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::json;
use spillway_controller::engine::finalizer::FINALIZER;
use spillway_controller::observe::kinds::Kind;
use std::collections::BTreeMap;

use crate::world::{World, eventually, policies, spec, versions};

const RULE: &str = "DestinationRule/spillway-worker";
const ROUTES: &str = "VirtualService/spillway-worker";
const CLIENT: &str = "WasmPlugin/spillway-client";
const SERVER: &str = "WasmPlugin/spillway-server";

fn objects(world: &World, cluster: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(world.client(cluster), "shop", &kind.resource())
}

fn has_all(ours: &BTreeMap<String, DynamicObject>) -> bool {
    [RULE, ROUTES, CLIENT, SERVER]
        .iter()
        .all(|name| ours.contains_key(*name))
}

fn rate(ours: &BTreeMap<String, DynamicObject>) -> String {
    let config = ours.get(CLIENT).map(|plugin| spec(plugin).to_string());
    config.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_reaches_its_clusters_and_leaves_them() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "50/s").await?;
    for cluster in ["a", "b"] {
        let ours = world.until(cluster, has_all).await?;
        for object in ours.values() {
            let fields = object.managed_fields();
            assert!(
                fields
                    .iter()
                    .all(|it| it.manager.as_deref() == Some("spillway")),
                "{fields:?}"
            );
            assert!(
                fields
                    .iter()
                    .all(|it| it.operation.as_deref() == Some("Apply")),
                "{fields:?}"
            );
        }
        // What is used was there before what uses it.
        let at = |name: &str| -> Result<u64> {
            let object = ours.get(name).context("missing")?;
            Ok(object.resource_version().context("no version")?.parse()?)
        };
        assert!(at(RULE)? < at(ROUTES)?);
        assert!(at(ROUTES)? < at(CLIENT)?);
        assert_eq!(engine.settled(cluster).await?.repairs, 0);
    }

    // A restart changes nothing.
    let before = [world.ours("a").await?, world.ours("b").await?];
    engine.stop().await?;
    let engine = world.engine().await?;
    for (cluster, before) in ["a", "b"].iter().zip(&before) {
        let report = engine.settled(cluster).await?;
        assert_eq!(report.writes, 0, "{report:?}");
        assert_eq!(versions(&world.ours(cluster).await?), versions(before));
    }

    // A change writes what differs, and only that.
    world.policy("a", "b", "70/s").await?;
    let after = world
        .until("a", |ours| rate(ours) != rate(&before[0]))
        .await?;
    assert_eq!(
        after.get(RULE).context("no rule")?.resource_version(),
        before[0][RULE].resource_version()
    );

    // Gone, here and there, before the policy itself.
    let policies = policies(world.client("hub"));
    assert_eq!(policies.get("worker").await?.finalizers(), [FINALIZER]);
    policies.delete("worker", &DeleteParams::default()).await?;
    eventually("the policy is gone", async || {
        Ok(policies.get_opt("worker").await?.is_none())
    })
    .await?;
    assert!(world.ours("a").await?.is_empty());
    assert!(world.ours("b").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changes_is_put_right() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "50/s").await?;
    world.until("a", has_all).await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    let before = world.ours("a").await?;

    // By another manager, by force.
    let rules = objects(&world, "a", Kind::DestinationRule);
    let theirs = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "spillway-worker"},
        "spec": {"host": "elsewhere"},
    });
    let params = PatchParams::apply("somebody").force();
    rules
        .patch("spillway-worker", &params, &Patch::Apply(&theirs))
        .await?;
    let is_right = |ours: &BTreeMap<String, DynamicObject>| {
        ours.get(RULE)
            .is_some_and(|rule| spec(rule) == spec(&before[RULE]))
    };
    let began = std::time::Instant::now();
    world.until("a", is_right).await?;
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());

    // Deleted.
    let routes = objects(&world, "a", Kind::VirtualService);
    routes
        .delete("spillway-worker", &DeleteParams::default())
        .await?;
    world.until("a", has_all).await?;

    // Without our label we would not even see it.
    let bare = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    let plugins = objects(&world, "a", Kind::WasmPlugin);
    for (objects, name) in [(plugins, "spillway-server"), (rules, "spillway-worker")] {
        objects
            .patch(name, &PatchParams::default(), &Patch::Merge(&bare))
            .await?;
        world.until("a", has_all).await?;
    }

    // Something that we would never have written.
    let stray = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "stray", "namespace": "shop", "labels": {"app.kubernetes.io/managed-by": "spillway"}},
        "spec": {"hosts": ["stray"]},
    });
    world.cluster("a").apply(&stray.to_string()).await?;
    world
        .until("a", |ours| !ours.contains_key("VirtualService/stray"))
        .await?;
    let report = engine.settled("a").await?;
    assert!(report.repairs >= 5, "{report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_that_name_that_is_not_ours_is_left_alone() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let theirs = json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": "spillway-server", "namespace": "shop"},
        "spec": {"url": "theirs"},
    });
    world.cluster("a").apply(&theirs.to_string()).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "50/s").await?;
    let report = engine
        .until("a", |report| !report.failed.is_empty())
        .await?;
    let message = report.failed.get("shop/worker").context("another policy")?;
    assert!(message.contains("is not Spillway's"), "{message}");
    world.until("b", has_all).await?;
    let plugins = objects(&world, "a", Kind::WasmPlugin);
    assert_eq!(
        spec(&plugins.get("spillway-server").await?)["url"],
        "theirs"
    );

    // As soon as it is gone all is well.
    plugins
        .delete("spillway-server", &DeleteParams::default())
        .await?;
    world.until("a", has_all).await?;
    engine.settled("a").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_no_policy_names_any_more_is_cleaned() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    let clients = |namespaces: &[&str]| {
        let mut policy = crate::world::policy("worker", "a", "b", "50/s");
        policy["spec"]["clients"] = json!({"namespaces": namespaces});
        policy.to_string()
    };
    world.hub().apply(&clients(&["shop", "front"])).await?;
    let plugins: Api<DynamicObject> =
        Api::namespaced_with(world.client("a"), "front", &Kind::WasmPlugin.resource());
    let is_there = async || Ok(plugins.get_opt("spillway-client").await?.is_some());
    eventually("front has its side", is_there).await?;
    engine.settled("a").await?;
    engine.stop().await?;

    // It happens while nobody runs.
    world.hub().apply(&clients(&["shop"])).await?;
    let engine = world.engine().await?;
    eventually("front is clean", async || Ok(!is_there().await?)).await?;
    engine.settled("a").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_are_a_few_writes() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "1/s").await?;
    world.until("a", has_all).await?;
    let before = engine.settled("a").await?;
    for rate in 2..=100 {
        world.policy("a", "b", &format!("{rate}/s")).await?;
    }
    world.until("a", |ours| rate(ours).contains("100")).await?;
    let after = engine.settled("a").await?;
    assert!(after.writes - before.writes < 40, "{before:?} {after:?}");
    Ok(())
}
