//! A service, load and a policy to look at.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::Access;

use super::{Install, broken};
use crate::attach::{self, step};
use crate::connection::{Cluster, Connection};
use crate::exit::Failure;
use crate::objects;
use crate::status::list;

const OBJECTS: &str = include_str!("demo.yaml");
const IMAGE: &str = "DEMO-IMAGE";
/// Its namespace, the same everywhere.
pub(super) const NAMESPACE: &str = "spillway-demo";
/// What Istio calls a cluster that was given no name.
const UNNAMED: &str = "Kubernetes";

impl Install {
    /// The whole on the hub, and the service in other clusters.
    pub(super) async fn demo(
        &self,
        connection: &Connection,
        hub: &Cluster,
        others: &[String],
    ) -> Result<(), Failure> {
        let text = OBJECTS.replace(IMAGE, &self.demo_image);
        let all: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| broken(&error))?;
        for object in &all {
            self.demo_object(hub, object).await?;
        }
        self.demo_member(hub).await?;
        for context in others {
            let other = connection.cluster(Some(context)).await?;
            for object in all.iter().filter(|object| is_service(object)) {
                self.demo_object(&other, object).await?;
            }
        }
        step(
            "the demo's requests overflow into clusters with the label spillway-demo=overflow: \
             spillway attach CONTEXT --namespaces spillway-demo --label spillway-demo=overflow",
        );
        Ok(())
    }

    async fn demo_object(&self, cluster: &Cluster, object: &Value) -> Result<(), Failure> {
        let dry_run = self.place.dry_run;
        // The resources may not be served yet where nothing is written.
        let done = match objects::apply(cluster, object, dry_run).await {
            Err(_) if dry_run => objects::Done::Created,
            done => done?,
        };
        let tried = if dry_run { " (dry run)" } else { "" };
        step(&format!(
            "{} in {}: {}{tried}",
            objects::shown(object),
            cluster.name,
            done.word()
        ));
        Ok(())
    }

    /// The hub is in the mesh too: its proxies are those that call.
    async fn demo_member(&self, hub: &Cluster) -> Result<(), Failure> {
        let namespaces = [NAMESPACE.to_owned()];
        let dry_run = self.place.dry_run;
        attach::grant(Access::Hub, hub, &self.place, &namespaces).await?;
        let known: Vec<MeshCluster> = match list(hub, &Api::all(hub.client.clone())).await {
            Err(_) if dry_run => Vec::new(),
            known => known?,
        };
        if known.iter().any(|it| it.spec.access == Access::Hub) {
            return Ok(());
        }
        let istio = istio_name(hub).await;
        let name: String = istio.to_lowercase().replace(['_', '.'], "-");
        let cluster = json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "MeshCluster",
            "metadata": {"name": name},
            "spec": {"access": Access::Hub, "clusterName": istio},
        });
        self.demo_object(hub, &cluster).await
    }
}

/// What the cluster is called in its mesh.
async fn istio_name(hub: &Cluster) -> String {
    let all: Api<Deployment> = Api::namespaced(hub.client.clone(), "istio-system");
    let all = all.list(&ListParams::default().labels("app=istiod")).await;
    let istiod = all.ok().and_then(|all| all.items.into_iter().next());
    istiod
        .and_then(|istiod| environment(&istiod, "CLUSTER_ID"))
        .unwrap_or_else(|| UNNAMED.to_owned())
}

/// A variable of the environment of a Deployment's containers.
pub(crate) fn environment(deployment: &Deployment, name: &str) -> Option<String> {
    let pods = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let variables = pods
        .containers
        .iter()
        .flat_map(|it| it.env.iter().flatten());
    let mut variables = variables.filter(|variable| variable.name == name);
    variables.next()?.value.clone()
}

fn is_service(object: &Value) -> bool {
    let text = |path| object.pointer(path).and_then(Value::as_str);
    let is_load = text("/metadata/name") == Some("load");
    let is_ours = text("/apiVersion").is_some_and(|version| version.starts_with("spillway.dev"));
    !is_load && !is_ours
}

/// What of the demo is in a cluster besides policies: its namespace, if this command made it.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn found(cluster: &Cluster) -> Result<Option<Value>, Failure> {
    let like = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let found = objects::list(cluster, &like, &attach::selector()).await?;
    // One that ends needs nobody.
    let mut found = found
        .iter()
        .filter(|it| it.metadata.deletion_timestamp.is_none());
    let is_it = found.any(|it| it.name_any() == NAMESPACE);
    Ok(is_it.then_some(like))
}
