//! Others who write what we write: nobody wins by being stubborn, and proxies are left in peace.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use spillway_clusters::{FaultProxy, Method};
use spillway_controller::engine::Options;
use spillway_controller::observe::kinds::Kind;
use tokio_util::task::AbortOnDropHandle;

use crate::world::{PATIENCE, Running, World, eventually, impatient, spec};

/// Somebody who puts an object's spec back whenever it is another one.
struct Rival {
    /// What it is to be.
    source: Arc<Mutex<Value>>,
    /// The last spec that was not that.
    other: Arc<Mutex<Value>>,
    /// How often it was put back.
    reverts: Arc<AtomicUsize>,
    _life: AbortOnDropHandle<()>,
}

impl Rival {
    fn start(api: Api<DynamicObject>, kind: Kind, name: &str, manager: &str, spec: Value) -> Self {
        let source = Arc::new(Mutex::new(spec));
        let (other, reverts) = (Arc::default(), Arc::default());
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let object = json!({
            "apiVersion": kind.resource().api_version,
            "kind": kind.as_str(),
            "metadata": {"name": name},
        });
        let life = revert(
            api,
            config,
            object,
            PatchParams::apply(manager).force(),
            (source.clone(), Arc::clone(&other), Arc::clone(&reverts)),
        );
        Self {
            source,
            other,
            reverts,
            _life: AbortOnDropHandle::new(tokio::spawn(life)),
        }
    }

    fn reverts(&self) -> usize {
        self.reverts.load(Ordering::SeqCst)
    }
}

type State = (Arc<Mutex<Value>>, Arc<Mutex<Value>>, Arc<AtomicUsize>);

async fn revert(
    api: Api<DynamicObject>,
    config: watcher::Config,
    mut object: Value,
    params: PatchParams,
    (source, other, reverts): State,
) {
    let mut events = std::pin::pin!(watcher(api.clone(), config));
    while let Some(event) = events.next().await {
        let (Ok(watcher::Event::Apply(found)) | Ok(watcher::Event::InitApply(found))) = event
        else {
            continue;
        };
        let wanted = locked(&source);
        if *spec(&found) == wanted {
            continue;
        }
        *other.lock().unwrap_or_else(PoisonError::into_inner) = spec(&found).clone();
        object["spec"] = wanted;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if api
            .patch(name, &params, &Patch::Apply(&object))
            .await
            .is_ok()
        {
            reverts.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn locked(value: &Mutex<Value>) -> Value {
    value.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Two clusters, of which `a` is reached through a proxy that counts.
async fn two(policy: &Value, options: Options) -> Result<(World, FaultProxy, Running)> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("a").fault_proxy().await?;
    let engine = world.engine_with(options).await?;
    world.attach_behind("a", &proxy).await?;
    world.attach("b").await?;
    world.hub().apply(&policy.to_string()).await?;
    Ok((world, proxy, engine))
}

fn writes(proxy: &FaultProxy, object: &str) -> usize {
    let seen = proxy.seen();
    let writes = seen
        .iter()
        .filter(|seen| seen.method == Method::PATCH && seen.path.contains(object));
    writes.count()
}

fn objects(world: &World, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(world.client("a"), "shop", &kind.resource())
}

/// A policy whose routes are merged into the users' own VirtualService.
fn merged(rate: &str) -> Value {
    let mut policy = crate::world::policy("worker", "a", "b", rate);
    policy["spec"]["routing"] = "Merge".into();
    policy
}

/// What the users' VirtualService is in its source.
fn theirs() -> Value {
    json!({
        "hosts": ["worker"],
        "http": [{"name": "users", "timeout": "3s", "route": [{"destination": {"host": "worker"}}]}],
    })
}

/// Waits until the routes stand in the users' VirtualService.
async fn is_merged(services: &Api<DynamicObject>) -> Result<()> {
    eventually("the routes are merged", async || {
        let there = services.get("worker").await?;
        Ok(spec(&there).to_string().contains("\"spillway-"))
    })
    .await
}

/// Merges the routes into the users' VirtualService.
async fn merge(world: &World, engine: &Running) -> Result<Api<DynamicObject>> {
    let services = objects(world, Kind::VirtualService);
    let users = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "worker", "namespace": "shop"},
        "spec": theirs(),
    });
    world.cluster("a").apply(&users.to_string()).await?;
    is_merged(&services).await?;
    engine.settled("a").await?;
    Ok(services)
}

fn gitops(services: &Api<DynamicObject>) -> Rival {
    let kind = Kind::VirtualService;
    Rival::start(services.clone(), kind, "worker", "gitops", theirs())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_takes_routes_out_is_left_in_peace() -> Result<()> {
    let (world, proxy, engine) = two(&merged("7781/s"), impatient()).await?;
    let services = merge(&world, &engine).await?;
    let gitops = gitops(&services);
    let says = ["False", "Failed", "a"];
    world.told("worker", "Programmed", says).await?;
    let report = engine
        .until("a", |report| !report.failed.is_empty())
        .await?;
    let message = &report.failed["shop/worker"];
    assert!(
        message.contains("shop/worker were taken out three times in ten minutes"),
        "{message}"
    );
    // Once, and three times more; and then the one that was taken out last stays out.
    eventually("it was taken out", async || Ok(gitops.reverts() == 4)).await?;
    assert_eq!(writes(&proxy, "/virtualservices/worker?"), 4);

    // Everything else goes on, here and there, and nobody writes to it any more.
    world.hub().apply(&merged("7782/s").to_string()).await?;
    world.has_rate("a", 7782).await?;
    world.has_rate("b", 7782).await?;
    assert_eq!(writes(&proxy, "/virtualservices/worker?"), 4);
    assert_eq!(*spec(&services.get("worker").await?), theirs());

    // The source takes the routes in.
    let routes = locked(&gitops.other);
    *gitops.source.lock().unwrap_or_else(PoisonError::into_inner) = routes.clone();
    let put = json!({"spec": routes});
    let params = PatchParams::default();
    services
        .patch("worker", &params, &Patch::Merge(&put))
        .await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;
    engine.settled("a").await?;
    assert_eq!(writes(&proxy, "/virtualservices/worker?"), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_put_in_again_when_their_time_is_over() -> Result<()> {
    let options = Options {
        reverts: Duration::from_secs(6),
        ..impatient()
    };
    let (world, proxy, engine) = two(&merged("7785/s"), options).await?;
    let services = merge(&world, &engine).await?;
    let gitops = gitops(&services);
    engine
        .until("a", |report| !report.failed.is_empty())
        .await?;
    eventually("it was taken out", async || Ok(gitops.reverts() == 4)).await?;
    drop(gitops);
    assert_eq!(*spec(&services.get("worker").await?), theirs());

    // Nothing happens any more, in the cluster or on the hub.
    is_merged(&services).await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;
    assert_eq!(writes(&proxy, "/virtualservices/worker?"), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_somebody_keeps_changing_is_put_right_ever_slower() -> Result<()> {
    let policy = crate::world::policy("worker", "a", "b", "7791/s");
    let (world, proxy, engine) = two(&policy, impatient()).await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    let rules = objects(&world, Kind::DestinationRule);
    let right = spec(&rules.get("spillway-worker").await?).clone();
    let rule = "/destinationrules/spillway-worker?";
    let first = writes(&proxy, rule);

    let began = Instant::now();
    let elsewhere = json!({"host": "elsewhere"});
    let rival = Rival::start(
        rules.clone(),
        Kind::DestinationRule,
        "spillway-worker",
        "rival",
        elsewhere,
    );
    let says = ["False", "Failed", "a"];
    world.told("worker", "Programmed", says).await?;
    let report = engine
        .until("a", |report| !report.failed.is_empty())
        .await?;
    let message = &report.failed["shop/worker"];
    assert!(
        message.contains("DestinationRule shop/spillway-worker is changed again and again by the field manager rival"),
        "{message}"
    );

    // What others need goes on meanwhile: another object's drift, and a new intent.
    let routes = objects(&world, Kind::VirtualService);
    let name = "spillway-worker";
    routes.delete(name, &DeleteParams::default()).await?;
    let deleted = Instant::now();
    eventually("it is back", async || {
        Ok(routes.get_opt(name).await?.is_some())
    })
    .await?;
    let took = deleted.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    world.policy("a", "b", "7792/s").await?;
    world.has_rate("a", 7792).await?;
    world.has_rate("b", 7792).await?;

    // At once three times, then after 1, 2, 4 … seconds.
    while writes(&proxy, rule) - first < 5 {
        ensure!(began.elapsed() < PATIENCE, "no repairs any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");

    // The rival goes: all is well, without anybody's help.
    drop(rival);
    let is_right = async || Ok(*spec(&rules.get("spillway-worker").await?) == right);
    eventually("the rule is right", is_right).await?;
    let says = ["True", "Programmed", "all of 2 clusters"];
    world.told("worker", "Programmed", says).await?;
    assert!(writes(&proxy, rule) - first <= 6);
    Ok(())
}
