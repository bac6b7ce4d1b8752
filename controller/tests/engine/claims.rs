//! Whose cluster it is.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;

use crate::world::{World, impatient};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_attached_once() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    engine
        .until("a", |report| {
            report.identity.is_some() && report.problem.is_none()
        })
        .await?;
    world
        .attach_as(
            "twin",
            &world
                .cluster("a")
                .kubeconfig(spillway_clusters::User::admin())?,
        )
        .await?;
    let report = engine
        .until("twin", |report| report.problem.is_some())
        .await?;
    let problem = report.problem.context("none")?;
    assert_eq!(problem.reason, "AttachedTwice");
    assert!(
        problem.message.contains("MeshCluster a"),
        "{}",
        problem.message
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hub_writes_nothing() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let first = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "50/s").await?;
    first.settled("a").await?;
    let before = world.ours("a").await?;

    // Another hub with the same name for the same cluster, and other policies.
    let other = World::start(&["c"]).await?;
    other
        .attach_as(
            "a",
            &world
                .cluster("a")
                .kubeconfig(spillway_clusters::User::admin())?,
        )
        .await?;
    other.attach("c").await?;
    other.policy("a", "c", "1/s").await?;
    let second = other.engine_with(impatient()).await?;
    let report = second.until("a", |report| report.problem.is_some()).await?;
    let problem = report.problem.context("none")?;
    assert_eq!(problem.reason, "ClaimedByAnotherHub");
    assert!(
        problem.message.contains(&world.uid("hub").await?),
        "{}",
        problem.message
    );
    assert_eq!(
        crate::world::versions(&world.ours("a").await?),
        crate::world::versions(&before)
    );

    // The way out that the message names.
    first.stop().await?;
    let claims: Api<ConfigMap> = Api::namespaced(world.client("a"), "spillway-system");
    claims
        .delete("spillway-claim", &DeleteParams::default())
        .await?;
    second.until("a", |report| report.problem.is_none()).await?;
    Ok(())
}
