//! One writes, the others stand by: whatever becomes of them, members have what the policy says,
//! and nothing is written that was there already.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject};
use serde_json::json;
use spillway_controller::observe::kinds::Kind;

use crate::fixtures::{PATIENCE, eventually};
use crate::world::{MEMBERS, World};

/// The Lease's 15 s and the policy's way; see docs/operations/controller.md.
const KILLED: Duration = Duration::from_secs(20);
const ENDED: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_a_replica_another_goes_on() -> Result<()> {
    let world = World::start().await?;
    let first = world.replica("first").await?;
    world.led_by(&first).await?;
    world.policy(7801, &["shop"]).await?;
    world
        .have(7801, PATIENCE)
        .await
        .with_context(|| first.log())?;
    let second = world.replica("second").await?;
    second.ready().await?;

    // Killed.
    let mut logs = vec![first.log()];
    drop(first);
    world.policy(7802, &["shop"]).await?;
    let took = world
        .have(7802, KILLED)
        .await
        .with_context(|| second.log())?;
    println!("after the leader was killed, all had a new policy in {took:?}");
    world.led_by(&second).await?;

    // Asked to end.
    let third = world.replica("third").await?;
    third.ready().await?;
    logs.push(second.log());
    second.stop().await?;
    world.policy(7803, &["shop"]).await?;
    let took = world.have(7803, ENDED).await.with_context(|| third.log())?;
    println!("after the leader was asked to end, all had a new policy in {took:?}");

    // All of them, while nothing changes but what shows that the next ones have looked.
    third.says("an object was written", 1).await?;
    let settled = settled(&world).await?;
    let fourth = world.replica("fourth").await?;
    fourth.ready().await?;
    logs.push(third.log());
    third.stop().await?;
    logs.push(fourth.log());
    fourth.stop().await?;
    assert_eq!(world.versions().await?, settled);
    for cluster in MEMBERS {
        world.cluster(cluster).apply(&stray()).await?;
    }
    let replicas = [world.replica("fifth").await?, world.replica("sixth").await?];
    for cluster in MEMBERS {
        let resource = Kind::VirtualService.resource();
        let strays: Api<DynamicObject> =
            Api::namespaced_with(world.client(cluster), "shop", &resource);
        eventually("what nobody wants is removed", async || {
            Ok(strays.get_opt("stray").await?.is_none())
        })
        .await?;
    }
    for replica in &replicas {
        replica.ready().await?;
    }
    assert_eq!(world.versions().await?, settled);

    // All of them, for good.
    logs.extend(replicas.iter().map(crate::replica::Replica::log));
    drop(replicas);
    assert_eq!(world.versions().await?, settled);
    world.keeps_secrets(&logs).await
}

/// What is there once everything has been written, statuses too.
async fn settled(world: &World) -> Result<BTreeMap<String, String>> {
    let policies = world.policies();
    eventually("the policy is programmed", async || {
        let policy = policies.get("worker").await?;
        let status = policy.status.unwrap_or_default();
        let mut conditions = status.conditions.iter();
        Ok(conditions.any(|it| {
            it.type_ == "Programmed"
                && it.status == "True"
                && it.observed_generation == policy.metadata.generation
        }))
    })
    .await?;
    // Of the clusters' statuses nothing else tells: they are written in the same turn.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.versions().await
}

fn stray() -> String {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": "stray",
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "spillway"},
        },
        "spec": {"hosts": ["stray"]},
    })
    .to_string()
}
