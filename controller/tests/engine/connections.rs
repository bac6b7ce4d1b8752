//! What a member costs in connections, and what happens when one of them hangs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::json;
use spillway_controller::observe::kinds::Kind;

use crate::world::{World, eventually, policy};

/// A ping each ten seconds, which is waited for as long; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(25);
/// What is watched in a namespace; HTTPRoutes are not served here.
const KINDS: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn all_watches_share_a_connection_which_is_missed_when_it_hangs() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    let called_from = async |namespaces: &[String]| -> Result<()> {
        let mut policy = policy("worker", "a", "b", "50/s");
        policy["spec"]["clients"] = json!({"namespaces": namespaces});
        world.hub().apply(&policy.to_string()).await?;
        for cluster in ["a", "b"] {
            engine.settled(cluster).await?;
        }
        Ok(())
    };
    let watches = || {
        let seen = proxy.seen();
        let watches = seen.iter().filter(|seen| seen.path.contains("watch=true"));
        watches.count()
    };
    let watched = async |least: usize, connections: usize| {
        eventually("all is watched", async || Ok(watches() >= least)).await?;
        eventually("by so few connections", async || {
            Ok(proxy.connections() == connections)
        })
        .await
    };
    called_from(&["front".to_owned()]).await?;
    watched(1 + 2 * KINDS, 1).await?;

    // Nobody writes, so that nothing but the pings can tell.
    let began = Instant::now();
    proxy.hang();
    world.cluster("a").api_server().pause().await?;
    for cluster in ["a", "b"] {
        let report = engine.until(cluster, |report| report.unseen.is_some());
        let problem = report.await?.unseen.context("nothing")?;
        assert_eq!(problem.reason, "Unreachable", "{problem:?}");
    }
    assert!(began.elapsed() < NOTICED, "{:?}", began.elapsed());
    proxy.resume();
    world.cluster("a").api_server().resume()?;
    for cluster in ["a", "b"] {
        engine.settled(cluster).await?;
    }
    watched(2 * (1 + 2 * KINDS), 1).await?;

    // An API server takes a hundred requests on one connection: these are more, and there are
    // still writes.
    let many: Vec<String> = (0..14).map(|number| format!("caller-{number}")).collect();
    called_from(&many).await?;
    watched(2 * (1 + 2 * KINDS) + 14 * KINDS, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_http_2_costs_a_connection_for_each_watch() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").http1_proxy().await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.policy("a", "b", "7801/s").await?;
    world.has_rate("b", 7801).await?;
    engine.settled("b").await?;
    let watches = 1 + KINDS;
    eventually(
        "all is watched",
        async || Ok(proxy.connections() >= watches),
    )
    .await?;

    // What happens there is seen, and what changes goes there.
    let routes = Kind::VirtualService.resource();
    let routes: Api<DynamicObject> = Api::namespaced_with(world.client("b"), "shop", &routes);
    let name = "spillway-worker";
    routes.delete(name, &DeleteParams::default()).await?;
    eventually("the routes are back", async || {
        Ok(routes.get_opt(name).await?.is_some())
    })
    .await?;
    world.policy("a", "b", "7802/s").await?;
    world.has_rate("b", 7802).await?;
    engine.settled("b").await?;
    // Writes take turns on connections that no watch is on.
    let open = proxy.connections();
    assert!(open <= 2 * watches, "{open}");
    Ok(())
}
