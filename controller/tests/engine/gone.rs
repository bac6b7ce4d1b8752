//! What is taken away while it is being written to: others go on, and when it is back it is whole.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use spillway_api::MeshCluster;
use spillway_clusters::{Method, Requests, StatusCode};

use crate::world::{NAMESPACES, SERVICE, World, eventually};

const CLIENT: &str = "WasmPlugin/spillway-client";

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_in_mid_push_is_forgotten_and_comes_back() -> Result<()> {
    let world = World::start(&["a", "b", "c"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.attach("c").await?;
    let policy = |rate: &str| {
        let mut policy = crate::world::policy("worker", "a", "b", rate);
        let rungs = json!([{"cluster": "b", "maxRate": rate}, {"cluster": "c", "maxRate": rate}]);
        policy["spec"]["overflow"] = rungs;
        policy.to_string()
    };

    // It has its rule, and never gets its routes.
    let routes = Requests::all()
        .method(Method::PATCH)
        .path("/virtualservices/");
    proxy.fail_next(usize::MAX, routes, StatusCode::SERVICE_UNAVAILABLE);
    world.hub().apply(&policy("7701/s")).await?;
    world.has_rate("a", 7701).await?;
    world.has_rate("c", 7701).await?;
    engine.until("b", |report| report.problem.is_some()).await?;
    let half = world.ours("b").await?;
    assert_eq!(
        half.keys().collect::<Vec<_>>(),
        ["DestinationRule/spillway-worker"]
    );

    let clusters: Api<MeshCluster> = Api::all(world.client("hub"));
    world.cluster("b").api_server().kill();
    clusters.delete("b", &DeleteParams::default()).await?;
    eventually("nothing is reported of it", async || {
        Ok(!engine.reports.all().contains_key("b"))
    })
    .await?;
    world.hub().apply(&policy("7702/s")).await?;
    world.has_rate("a", 7702).await?;
    world.has_rate("c", 7702).await?;
    let without = "cluster b: there is no MeshCluster of this name";
    let says = ["True", "RungsPassedOver", without];
    world.told("worker", "RungsPassedOver", says).await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;

    proxy.fail_no_more();
    world.cluster("b").api_server().start().await?;
    world.attach_behind("b", &proxy).await?;
    world.has_rate("b", 7702).await?;
    let says = ["True", "Programmed", "all of 3 clusters"];
    world.told("worker", "Programmed", says).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_and_made_anew_is_filled_again() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("b", "a", "7711/s").await?;
    world.has_rate("a", 7711).await?;
    world.has_rate("b", 7711).await?;
    engine.settled("b").await?;

    let namespaces: Api<Namespace> = Api::all(world.client("b"));
    let before = namespaces.get("shop").await?.metadata.uid;
    namespaces.delete("shop", &DeleteParams::default()).await?;
    // Terminating: nothing can be made there, whatever is changed.
    world.policy("b", "a", "7712/s").await?;
    world.has_rate("a", 7712).await?;
    let _controllers = world
        .cluster("b")
        .start_controllers(&["namespace-controller"])
        .await?;
    eventually("it is gone", async || {
        Ok(namespaces.get_opt("shop").await?.is_none())
    })
    .await?;
    assert!(world.ours("b").await?.is_empty());
    world.policy("b", "a", "7713/s").await?;

    world.cluster("b").apply(NAMESPACES).await?;
    world.cluster("b").apply(SERVICE).await?;
    let after = namespaces.get("shop").await?.metadata.uid;
    assert_ne!(before.context("no uid")?, after.context("no uid")?);
    let ours = world.until("b", |ours| ours.len() == 4).await?;
    assert!(ours.contains_key(CLIENT));
    world.has_rate("b", 7713).await?;
    world.has_rate("a", 7713).await?;
    engine.settled("b").await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;
    Ok(())
}
