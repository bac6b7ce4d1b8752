//! A rotation of the mesh's tokens: at no time does a cluster send what another does not accept.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_controller::engine::Options;
use spillway_controller::observe::kinds::Kind;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::world::{World, eventually, impatient, spec};

/// A version of an object in a cluster. The clusters share one etcd, so that its revisions order
/// the versions of all of them.
struct Version {
    revision: u64,
    cluster: &'static str,
    kind: Kind,
    object: DynamicObject,
}

/// Tells every version of the plugins and routes of a cluster.
fn record(
    world: &World,
    cluster: &'static str,
    kind: Kind,
    versions: &mpsc::UnboundedSender<Version>,
) -> AbortOnDropHandle<()> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(world.client(cluster), "shop", &kind.resource());
    let versions = versions.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut seen = std::pin::pin!(watcher(api, Config::default()).applied_objects());
        while let Ok(Some(object)) = seen.try_next().await {
            let revision = object.resource_version().unwrap_or_default();
            let version = Version {
                revision: revision.parse().unwrap_or_default(),
                cluster,
                kind,
                object,
            };
            if versions.send(version).is_err() {
                return;
            }
        }
    }))
}

/// The tokens of a plugin, the one that is sent first.
fn tokens(plugin: &DynamicObject) -> Vec<String> {
    let tokens = spec(plugin).pointer("/pluginConfig/tokens");
    let tokens = tokens.and_then(Value::as_array).into_iter().flatten();
    tokens
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

async fn secret(client: Client) -> Result<(String, Option<String>)> {
    let secrets: Api<Secret> = Api::namespaced(client, "spillway-system");
    let data = secrets.get("spillway-tokens").await?.data;
    let data = data.unwrap_or_default();
    let text = |key: &str| {
        let bytes = data.get(key)?;
        Some(String::from_utf8_lossy(&bytes.0).into_owned())
    };
    Ok((text("tokens").context("no tokens")?, text("next")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_a_cluster_that_is_away_and_nobody_is_refused() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let engine = world
        .rotating(Options {
            rotation_pause: Duration::from_millis(300),
            ..impatient()
        })
        .await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.policy("a", "b", "50/s").await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    // A cluster in which no filter can run by this name is not waited for.
    let kubeconfig = world.cluster("a").kubeconfig(User::admin())?;
    world.attach_as("twin", &kubeconfig).await?;
    engine
        .until("twin", |report| report.problem.is_some())
        .await?;
    let (sender, mut versions) = mpsc::unbounded_channel();
    let mut recorders = Vec::new();
    for cluster in ["a", "b"] {
        for kind in [Kind::WasmPlugin, Kind::VirtualService] {
            recorders.push(record(&world, cluster, kind, &sender));
        }
    }
    // The first versions were seen: two plugins and a VirtualService in each.
    let mut recorded = Vec::new();
    for _ in 0..6 {
        recorded.push(versions.recv().await.context("a watch has ended")?);
    }

    // One is away: the new token is accepted everywhere else, and sent nowhere.
    proxy.refuse().await;
    let hub = world.client("hub");
    let old = secret(hub.clone()).await?.0;
    let secrets: Api<Secret> = Api::namespaced(hub.clone(), "spillway-system");
    let asked = Patch::Merge(json!({"stringData": {"next": ""}}));
    secrets
        .patch("spillway-tokens", &PatchParams::default(), &asked)
        .await?;
    let both = |plugin: &DynamicObject| tokens(plugin).len() == 2;
    world
        .until("a", |ours| {
            ours.get("WasmPlugin/spillway-client").is_some_and(both)
        })
        .await?;
    let events: Api<Event> = Api::namespaced(hub.clone(), "spillway-system");
    eventually("it says whom it waits for", async || {
        let events = events.list(&ListParams::default()).await?;
        Ok(events.iter().any(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("WaitingForClusters")
                && note.contains("1 clusters do not have the tokens yet: b;")
        }))
    })
    .await?;
    let (kept, next) = secret(hub.clone()).await?;
    let next = next.context("no token was made")?;
    assert_eq!(kept, format!("{old},{next}"));
    assert_eq!(next.len(), 32);

    // It is back: the rotation ends.
    proxy.accept().await?;
    eventually("the rotation ends", async || {
        Ok(secret(hub.clone()).await? == (next.clone(), None))
    })
    .await?;
    let one = |plugin: &DynamicObject| tokens(plugin) == [next.clone()];
    for cluster in ["a", "b"] {
        world
            .until(cluster, |ours| {
                let plugins = ours.iter().filter(|(name, _)| name.contains("WasmPlugin"));
                plugins.map(|(_, plugin)| plugin).all(one)
            })
            .await?;
    }
    // Three writes of four plugins and two VirtualServices, of which the last are seen last.
    while recorded.len() < 6 + 3 * 4 + 2 * 2 {
        recorded.push(versions.recv().await.context("a watch has ended")?);
    }
    assert_understood(recorded)
}

/// Plays the versions in their order: whatever is sent is accepted and routed everywhere, always.
fn assert_understood(mut versions: Vec<Version>) -> Result<()> {
    versions.sort_by_key(|version| version.revision);
    let mut now: BTreeMap<(&str, String), Version> = BTreeMap::new();
    let mut sent = std::collections::BTreeSet::new();
    for version in versions {
        let name = format!("{}/{}", version.kind.as_str(), version.object.name_any());
        now.insert((version.cluster, name), version);
        if now.len() < 6 {
            continue;
        }
        let of = |cluster: &'static str, name: &str| {
            now.get(&(cluster, name.to_owned()))
                .map(|version| &version.object)
                .context("an object is missing")
        };
        for caller in ["a", "b"] {
            let token = tokens(of(caller, "WasmPlugin/spillway-client")?);
            let token = token.first().context("no token is sent")?;
            sent.insert(token.clone());
            let routes = spec(of(caller, "VirtualService/spillway-worker")?).to_string();
            assert!(
                routes.contains(&format!("b;{token};")),
                "{caller}: {routes}"
            );
            for server in ["a", "b"] {
                let accepted = tokens(of(server, "WasmPlugin/spillway-server")?);
                assert!(accepted.contains(token), "{caller} to {server}");
            }
        }
    }
    assert_eq!(sent.len(), 2, "both were sent");
    Ok(())
}
