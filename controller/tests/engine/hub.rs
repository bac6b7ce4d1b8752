//! What is wrong on the hub: resources that cannot be read, and Secrets elsewhere.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_clusters::User;

use crate::world::{Running, World, eventually, spec, versions};

/// Lets the hub take anything of a kind, as after a newer version's definition.
async fn permit(world: &World, plural: &str) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client("hub"));
    let schema = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let name = format!("{plural}.spillway.dev");
    let mut definition = definitions.get(&name).await?;
    for version in &mut definition.spec.versions {
        let schema = json!({"openAPIV3Schema": schema});
        version.schema = serde_json::from_value(schema)?;
    }
    let params = PostParams::default();
    definitions.replace(&name, &params, &definition).await?;
    Ok(())
}

/// Resources of a kind as they are, whether they can be read or not.
fn raw<K: Resource<DynamicType = ()>>(
    world: &World,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(world.client("hub"), namespace, &resource),
        None => Api::all_with(world.client("hub"), &resource),
    }
}

/// Changes a resource into what the controller cannot read, as soon as the hub takes it.
async fn spoil(api: &Api<DynamicObject>, name: &str, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "spec": spec }));
    eventually("the hub takes it", async || {
        Ok(api
            .patch(name, &PatchParams::default(), &patch)
            .await
            .is_ok())
    })
    .await
}

/// Waits until a condition says that a resource cannot be read.
async fn is_told(api: &Api<DynamicObject>, name: &str, kind: &str, path: &str) -> Result<()> {
    eventually("it is said that it cannot be read", async || {
        let object = api.get(name).await?;
        let conditions = object.data.pointer("/status/conditions").cloned();
        let conditions = conditions.unwrap_or_default();
        let mut all = conditions.as_array().into_iter().flatten();
        Ok(all.any(|it| {
            let message = it["message"].as_str().unwrap_or_default();
            it["type"] == kind
                && it["status"] == "False"
                && it["reason"] == "Unreadable"
                && message.contains(path)
        }))
    })
    .await
}

/// A policy of another namespace, which has nothing to do with what cannot be read.
fn other(rate: u32) -> String {
    json!({
        "apiVersion": "spillway.dev/v1alpha1",
        "kind": "BurstPolicy",
        "metadata": {"name": "cart", "namespace": "front"},
        "spec": {
            "targetRefs": [{"name": "cart"}],
            "home": "a",
            "overflow": [{"cluster": "b", "maxRate": format!("{rate}/s")}],
            "capacity": {"perEndpoint": {"rate": "50/s"}},
        },
    })
    .to_string()
}

const CART: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: front}
spec:
  selector: {app: cart}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// Gives the other policy a rate, and waits until a cluster has it.
async fn goes_on(world: &World, cluster: &str, rate: u32) -> Result<()> {
    world.hub().apply(&other(rate)).await?;
    let rate = rate.to_string();
    eventually("the other policy goes on", async || {
        let plugins: Api<DynamicObject> = Api::namespaced_with(
            world.client(cluster),
            "front",
            &spillway_controller::observe::kinds::Kind::WasmPlugin.resource(),
        );
        let plugin = plugins.get_opt("spillway-client").await?;
        Ok(plugin.is_some_and(|plugin| spec(&plugin).to_string().contains(&rate)))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_stays_as_it_is_and_holds_up_no_other() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    for cluster in ["a", "b"] {
        world.cluster(cluster).apply(CART).await?;
        world.attach(cluster).await?;
    }
    let engine = world.telling(world.client("hub")).await?;
    world.policy("a", "b", "50/s").await?;
    goes_on(&world, "a", 7001).await?;
    goes_on(&world, "b", 7001).await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    let of_worker = async |cluster: &'static str| -> Result<Vec<(String, (String, String))>> {
        let ours = world.ours_in(cluster, "shop").await?;
        let versions = versions(&ours).into_iter();
        Ok(versions
            .map(|(name, version)| (name.to_owned(), version))
            .collect())
    };
    let (in_a, in_b) = (of_worker("a").await?, of_worker("b").await?);
    assert_eq!(in_a.len(), 4, "{in_a:?}");

    // The policy is one of a newer version: others go on, and what it has stays.
    permit(&world, "burstpolicies").await?;
    let policies = raw::<BurstPolicy>(&world, Some("shop"));
    spoil(&policies, "worker", json!({"mode": "Surge"})).await?;
    is_told(&policies, "worker", "Accepted", "spec.mode").await?;
    is_counted(&engine, "policies").await?;
    goes_on(&world, "a", 7002).await?;
    assert_eq!(
        (of_worker("a").await?, of_worker("b").await?),
        (in_a.clone(), in_b.clone())
    );

    // After a restart nobody remembers what it was: it stays all the same.
    engine.stop().await?;
    let engine = world.telling(world.client("hub")).await?;
    goes_on(&world, "a", 7003).await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    assert_eq!((of_worker("a").await?, of_worker("b").await?), (in_a, in_b));

    // Deleted, it goes.
    policies.delete("worker", &DeleteParams::default()).await?;
    for cluster in ["a", "b"] {
        eventually("its objects are gone", async || {
            Ok(of_worker(cluster).await?.is_empty())
        })
        .await?;
    }
    eventually("it is gone", async || {
        Ok(policies.get_opt("worker").await?.is_none())
    })
    .await?;

    // A cluster: others go on, with it among their rungs, also after a restart.
    permit(&world, "meshclusters").await?;
    let clusters = raw::<MeshCluster>(&world, None);
    spoil(&clusters, "b", json!({"access": "Tunnel"})).await?;
    is_told(&clusters, "b", "Ready", "spec.access").await?;
    engine.stop().await?;
    let engine = world.telling(world.client("hub")).await?;
    goes_on(&world, "a", 7004).await?;
    is_counted(&engine, "clusters").await?;
    let ours = world.ours_in("a", "front").await?;
    let routes = ours
        .get("VirtualService/spillway-cart")
        .context("no routes")?;
    assert!(spec(routes).to_string().contains("b;mesh-token-1;"));
    Ok(())
}

/// Waits until one of them is counted as one that cannot be read.
async fn is_counted(engine: &Running, what: &str) -> Result<()> {
    let line = format!("spillway_controller_{what}{{state=\"Unreadable\"}} 1\n");
    eventually("it is counted", async || {
        Ok(engine.metrics.encode(true)?.contains(&line))
    })
    .await
}

/// What the account may do in a namespace of Secrets.
fn secrets(namespace: &str, verbs: &str) -> String {
    format!(
        "
{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: kubeconfigs, namespace: {namespace}}}
rules: [{{apiGroups: [''], resources: [secrets], verbs: [{verbs}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: kubeconfigs, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: kubeconfigs}}
subjects: [{{kind: ServiceAccount, name: spillway-controller, namespace: spillway-system}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_elsewhere_is_followed_and_one_that_may_not_be_is_told() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    world
        .hub()
        .apply("{apiVersion: v1, kind: Namespace, metadata: {name: followed}}")
        .await?;
    world.hub().apply(&secrets("blind", "get")).await?;
    world
        .hub()
        .apply("{apiVersion: v1, kind: Namespace, metadata: {name: closed}}")
        .await?;
    let hub = world
        .controller(&["--set=kubeconfigNamespaces={followed}"])
        .await?;
    let engine = world.telling(hub).await?;
    let place = async |cluster: &str, namespace: &str, kubeconfig: &str| -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "it", "namespace": namespace},
            "stringData": {"kubeconfig": kubeconfig},
        });
        world.hub().apply(&secret.to_string()).await?;
        let resource = json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "MeshCluster",
            "metadata": {"name": cluster},
            "spec": {"secretRef": {"namespace": namespace, "name": "it"}},
        });
        world.hub().apply(&resource.to_string()).await.map(drop)
    };
    let of_a = world.cluster("a").kubeconfig(User::admin())?;
    place("a", "blind", &of_a).await?;
    place("c", "closed", &of_a).await?;
    let of_b = world.cluster("b").kubeconfig(User::admin())?;
    place("b", "followed", &of_b).await?;

    // One may not be read, one not be watched; the third goes on.
    let closed = engine.until("c", |report| report.problem.is_some()).await?;
    let closed = closed.problem.context("none")?;
    assert!(
        closed.message.contains("closed/it") && closed.message.contains("403"),
        "{closed:?}"
    );
    engine
        .until("b", |report| {
            report.identity.is_some() && report.problem.is_none()
        })
        .await?;
    let clusters: Api<MeshCluster> = Api::all(world.client("hub"));
    eventually("it is said that it is not followed", async || {
        let status = clusters.get("a").await?.status.unwrap_or_default();
        Ok(status.conditions.iter().any(|it| {
            it.type_ == "Reachable"
                && it.status == "True"
                && it.message.contains("cannot be watched")
        }))
    })
    .await?;

    // The connection holds, and yet the new content is taken at once.
    place("b", "followed", "{}").await?;
    let report = engine.until("b", |report| report.problem.is_some()).await?;
    assert_eq!(report.problem.context("none")?.reason, "KubeconfigUnusable");
    place("b", "followed", &of_b).await?;
    engine.until("b", |report| report.problem.is_none()).await?;
    Ok(())
}
