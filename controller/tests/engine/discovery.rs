//! Clusters that Istio's remote secrets tell of, by an account with exactly the chart's rights.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use spillway_api::mesh_cluster::Access;
use spillway_api::{Fleet, MeshCluster};
use spillway_clusters::User;
use spillway_controller::discover::Discovery;
use tokio_util::task::AbortOnDropHandle;

use crate::world::{Running, World, eventually, impatient};

/// What Istio gives the account whose kubeconfig it puts into remote secrets.
const READER: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: istio-reader-service-account, namespace: istio-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: istio-reader}
rules:
- apiGroups: [networking.istio.io, security.istio.io]
  resources: ['*']
  verbs: [get, list, watch]
- apiGroups: ['']
  resources: [endpoints, pods, services, nodes, namespaces, secrets]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: istio-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: istio-reader}
subjects: [{kind: ServiceAccount, name: istio-reader-service-account, namespace: istio-system}]
";

/// An engine with all that discovers and tells, by the account of the chart.
async fn start(world: &World) -> Result<Running> {
    let hub = world.controller(&["--set=discover={istio-system}"]).await?;
    let mut running = world.telling(hub.clone()).await?;
    let snapshot = running.snapshot.clone().context("no engine")?;
    let namespaces = ["istio-system".to_owned()];
    let discovery = Discovery::new(&hub, "test", &impatient(), &namespaces, snapshot);
    let task = AbortOnDropHandle::new(tokio::spawn(discovery.run()));
    running.tasks.push(task);
    Ok(running)
}

fn condition<'a>(cluster: &'a MeshCluster, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = &cluster.status.as_ref()?.conditions;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((&found.status, &found.reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_secret_shows_its_clusters_until_they_are_attached() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = start(&world).await?;
    world.attach("a").await?;
    world.policy("a", "b", "50/s").await?;

    world.cluster("b").apply(READER).await?;
    let reader = world.cluster("b");
    let reader = reader
        .service_account("istio-system", "istio-reader-service-account")
        .await?;
    let kubeconfig = world.cluster("b").kubeconfig(reader)?;
    let remote = |name: &str, clusters: serde_json::Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": "istio-system",
                "labels": {"istio/multiCluster": "true"},
            },
            "stringData": clusters,
        })
    };
    let first = remote(
        "istio-remote-secret",
        json!({"b": kubeconfig, "Cloud_1": "{}"}),
    );
    world.hub().apply(&first.to_string()).await?;
    let clusters: Api<MeshCluster> = Api::all(world.client("hub"));
    eventually("it is shown, and answers", async || {
        let shown = clusters.get_opt("b").await?;
        Ok(shown.is_some_and(|shown| {
            condition(&shown, "Reachable") == Some(("True", "Answers"))
                && condition(&shown, "Ready") == Some(("False", "NotUsed"))
        }))
    })
    .await?;
    let shown = clusters.get("b").await?;
    assert_eq!(shown.spec.access, Access::Discovered);
    assert_eq!(
        shown.annotations()["spillway.dev/remote-secret"],
        "istio-system/istio-remote-secret"
    );
    let all = clusters.list(&ListParams::default()).await?;
    let cloud = all
        .iter()
        .find(|it| it.spec.cluster_name.as_deref() == Some("Cloud_1"));
    let cloud = cloud
        .context("a name that Kubernetes does not take")?
        .name_any();
    assert!(cloud.starts_with("cloud-1-"), "{cloud}");

    // It is in no fleet's counts, and nothing was written to it.
    let labels = Patch::Merge(json!({"metadata": {"labels": {"site": "cloud"}}}));
    clusters
        .patch("b", &PatchParams::default(), &labels)
        .await?;
    let fleet = "{apiVersion: spillway.dev/v1alpha1, kind: Fleet, metadata: {name: cloud}, \
                 spec: {clusterSelector: {matchLabels: {site: cloud}}}}";
    world.hub().apply(fleet).await?;
    let fleets: Api<Fleet> = Api::all(world.client("hub"));
    eventually("the fleet is counted", async || {
        let status = fleets.get("cloud").await?.status;
        Ok(status.is_some_and(|status| status.clusters == 0))
    })
    .await?;
    let maps: Api<ConfigMap> = Api::namespaced(world.client("b"), "spillway-system");
    assert!(maps.get_opt("spillway-claim").await?.is_none());
    assert!(world.ours("b").await?.is_empty());

    // A younger Secret that tells of it too is told so.
    let second = remote("z-remote-secret", json!({"b": kubeconfig}));
    world.hub().apply(&second.to_string()).await?;
    let events: Api<Event> = Api::namespaced(world.client("hub"), "istio-system");
    eventually("the younger Secret is told", async || {
        let events = events.list(&ListParams::default()).await?;
        Ok(events.iter().any(|event| {
            let about = event.regarding.as_ref().and_then(|it| it.name.as_deref());
            event.reason.as_deref() == Some("ClusterToldTwice") && about == Some("z-remote-secret")
        }))
    })
    .await?;

    // Attached: it is claimed, and written to.
    let admin = world.cluster("b").kubeconfig(User::admin())?;
    world.secret("b", &admin).await?;
    let own = json!({"namespace": "spillway-system", "name": "b"});
    let attached = Patch::Merge(json!({"spec": {"access": "Attached", "secretRef": own}}));
    clusters
        .patch("b", &PatchParams::default(), &attached)
        .await?;
    world
        .until("b", |ours| ours.contains_key("WasmPlugin/spillway-client"))
        .await?;
    engine.settled("b").await?;
    maps.get("spillway-claim").await?;

    // Istio forgets: what nobody attached goes, what somebody did stays.
    let secrets: Api<Secret> = Api::namespaced(world.client("hub"), "istio-system");
    for name in ["istio-remote-secret", "z-remote-secret"] {
        secrets.delete(name, &DeleteParams::default()).await?;
    }
    eventually("it is gone", async || {
        Ok(clusters.get_opt(&cloud).await?.is_none())
    })
    .await?;
    assert_eq!(clusters.get("b").await?.spec.access, Access::Attached);
    engine.settled("b").await?;
    Ok(())
}
