//! Policies that cannot be carried out, or not as they are: said in words, and nothing else is
//! disturbed.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use spillway_api::MeshCluster;
use spillway_controller::engine::Options;

use crate::world::{PATIENCE, World, impatient, policies, policy};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_out_is_said_and_disturbs_nothing() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "7731/s").await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;
    engine.settled("a").await?;
    let api = policies(world.client("hub"));

    a_missing_cluster(&world).await?;
    world.policy("a", "b", "7732/s").await?;
    world.has_rate("a", 7732).await?;
    world.has_rate("b", 7732).await?;

    // Of two for one service the older one stays, until it goes.
    let mut second = policy("second", "a", "b", "7733/s");
    second["spec"]["targetRefs"] = json!([{"name": "worker"}]);
    world.hub().apply(&second.to_string()).await?;
    let older = "which the older policy shop/worker has: change or delete one of the two";
    let says = ["False", "PoliciesMeet", older];
    world.told("second", "Accepted", says).await?;
    world
        .told("second", "Conflicted", ["True", "PoliciesMeet", older])
        .await?;
    world.policy("a", "b", "7734/s").await?;
    world.has_rate("a", 7734).await?;
    let says = ["True", "Accepted", "it is carried out"];
    world.told("worker", "Accepted", says).await?;
    api.delete("worker", &DeleteParams::default()).await?;
    world.has_rate("a", 7733).await?;
    world.has_rate("b", 7733).await?;
    world.told("second", "Accepted", says).await?;

    a_mebibyte(&world).await?;
    for cluster in ["a", "b"] {
        engine.settled(cluster).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_no_news_of_clusters_that_take_it() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let options = Options {
        deadline: PATIENCE,
        ..impatient()
    };
    let engine = world.engine_with(options).await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.policy("a", "b", "7735/s").await?;
    let all = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", all).await?;
    let applied = ["True", "Applied", ""];
    world.told_of_cluster("b", "Ready", applied).await?;
    engine.settled("b").await?;
    let clusters: Api<MeshCluster> = Api::all(world.client("hub"));
    let before = clusters.get("b").await?.resource_version();

    // One takes its time, which only the policy tells.
    proxy.hang();
    world.policy("a", "b", "7736/s").await?;
    let some = ["False", "Pending", "1 of 2"];
    world.told("worker", "Programmed", some).await?;
    proxy.resume();
    world.told("worker", "Programmed", all).await?;
    assert_eq!(clusters.get("b").await?.resource_version(), before);
    Ok(())
}

async fn a_missing_cluster(world: &World) -> Result<()> {
    let service = crate::world::SERVICE.replace("worker", "desk");
    for cluster in ["a", "b"] {
        world.cluster(cluster).apply(&service).await?;
    }
    let homeless = policy("desk", "nowhere", "b", "5/s").to_string();
    world.hub().apply(&homeless).await?;
    let why = "home nowhere: there is no MeshCluster of this name";
    let says = ["False", "HomeNotUsable", why];
    world.told("desk", "Accepted", says).await?;
    let says = ["False", "NotAccepted", "nothing is written"];
    world.told("desk", "Programmed", says).await?;
    let lost = policy("desk", "a", "nowhere", "5/s").to_string();
    world.hub().apply(&lost).await?;
    let why = "cluster nowhere: there is no MeshCluster of this name";
    let says = ["False", "NoUsableRung", why];
    world.told("desk", "Accepted", says).await?;

    // Named rightly, it is carried out.
    let found = policy("desk", "a", "b", "5/s").to_string();
    world.hub().apply(&found).await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("desk", "Programmed", says).await?;
    Ok(())
}

/// One object of 1 MiB is refused by the API server, and a plugin's configuration of as much by
/// the planner: what fits is carried out.
async fn a_mebibyte(world: &World) -> Result<()> {
    let route = |n: usize, length: usize| {
        let prefix = format!("/{n}/{}", "x".repeat(length));
        json!({"match": {"pathPrefix": prefix}, "class": "Never"})
    };
    let with = |name: &str, services: &[String], routes: Vec<Value>| {
        let mut large = policy(name, "a", "b", "7739/s");
        let targets = services.iter().map(|service| json!({"name": service}));
        large["spec"]["targetRefs"] = targets.collect();
        large["spec"]["routes"] = routes.into();
        large
    };
    let routes = (0..32).map(|n| route(n, 32 * 1024)).collect();
    let whole = with("whole", &["worker".to_owned()], routes);
    let refused = world.hub().apply(&whole.to_string()).await;
    let refused = format!("{:#}", refused.err().context("taken")?);
    assert!(
        refused.contains("pathPrefix") && refused.contains("1024"),
        "{refused}"
    );

    let names: Vec<String> = (0..32).map(|n| format!("large-{n:02}")).collect();
    let mut services = String::new();
    for name in &names {
        let service = crate::world::SERVICE.replace("worker", name);
        write!(services, "{service}---")?;
    }
    let services = services.trim_end_matches('-');
    for cluster in ["a", "b"] {
        world.cluster(cluster).apply(services).await?;
    }
    for (name, services) in ["first", "rest"].iter().zip(names.chunks(16)) {
        let routes = (0..32).map(|n| route(n, 1000)).collect();
        let large = with(name, services, routes);
        assert!(large.to_string().len() < 64 * 1024);
        world.hub().apply(&large.to_string()).await?;
    }
    let why = "would be larger than 512 KiB";
    let says = ["True", "ConfigurationTooLarge", why];
    world.told("rest", "ClientsNotCovered", says).await?;
    let mut second = policy("second", "a", "b", "7735/s");
    second["spec"]["targetRefs"] = json!([{"name": "worker"}]);
    world.hub().apply(&second.to_string()).await?;
    world.has_rate("a", 7735).await?;
    world.has_rate("b", 7735).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_another_clock_change_nothing() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "7741/s").await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;
    engine.stop().await?;

    // Who led before had a clock that is five hours ahead.
    let api = policies(world.client("hub"));
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let ahead = Timestamp::from_second(i64::try_from(seconds)?)? + SignedDuration::from_hours(5);
    let ahead = Time(ahead);
    let mut found = api.get("worker").await?;
    let status = found.status.as_mut().context("no status")?;
    for condition in &mut status.conditions {
        condition.last_transition_time = ahead.clone();
    }
    let status = json!({"status": status});
    let params = PatchParams::default();
    let patch = Patch::Merge(&status);
    api.patch_status("worker", &params, &patch).await?;

    let _engine = world.engine().await?;
    world.policy("nowhere", "b", "7742/s").await?;
    let says = ["False", "HomeNotUsable", "nowhere"];
    let refused = world.told("worker", "Accepted", says).await?;
    assert_eq!(refused.last_transition_time, ahead);
    world.policy("a", "b", "7743/s").await?;
    world.has_rate("a", 7743).await?;
    world.has_rate("b", 7743).await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    let programmed = world.told("worker", "Programmed", says).await?;
    assert_eq!(programmed.last_transition_time, ahead);
    Ok(())
}
