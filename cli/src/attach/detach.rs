//! A cluster out of the mesh. Nothing of Spillway's stays in it but the namespace, which may hold
//! what is somebody else's.

use std::time::Duration;

use clap::Args;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::BurstPolicy;
use spillway_controller::observe::kinds::Kind;

use super::{MANAGED_BY, Place, account, step};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::objects::{self, Done};
use crate::status::list;

/// What may still be under way when the account loses its rights is over after this time.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// Take a cluster out of the mesh
///
/// Removes its MeshCluster and token from the hub, and from the cluster the account, the routes and
/// the filters. It is refused as long as a policy names the cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What would be removed
  spillway detach burst --dry-run

  # Remove it
  spillway detach burst")]
pub(crate) struct Detach {
    /// The context of the cluster in the kubeconfig
    cluster: String,

    /// The name of its MeshCluster, where it is not the context's
    #[arg(long)]
    name: Option<String>,

    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(detach: &Detach, connection: &Connection) -> Result<Exit, Failure> {
    crate::wait(async {
        let hub = connection.hub().await?;
        let member = connection.cluster(Some(&detach.cluster)).await?;
        detach.unnamed(&hub).await?;
        let (name, dry_run) = (detach.name(), detach.place.dry_run);
        let system = &detach.place.system_namespace;
        let resource = json!({"apiVersion": "spillway.dev/v1alpha1", "kind": "MeshCluster", "metadata": {"name": name}});
        detach.remove(&hub, &resource).await?;
        // Without rights nothing is written any more that would be removed here.
        for object in detach.account(&member).await? {
            detach.remove_ours(&member, &object).await?;
        }
        if !dry_run {
            tokio::time::sleep(UNDER_WAY).await;
        }
        // In the reverse order of writes: what uses a route goes before it.
        for kind in [
            Kind::WasmPlugin,
            Kind::VirtualService,
            Kind::DestinationRule,
        ] {
            detach.clean(&member, kind).await?;
        }
        let claim = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "spillway-claim", "namespace": system}});
        detach.remove(&member, &claim).await?;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": system}});
        detach.remove_ours(&hub, &secret).await?;
        step(&format!("nothing of {name} is left{}", detach.tried()));
        Ok(Exit::Fine)
    })
}

impl Detach {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.cluster)
    }

    /// No policy names it.
    async fn unnamed(&self, hub: &Cluster) -> Result<(), Failure> {
        let policies: Vec<BurstPolicy> = list(hub, &Api::all(hub.client.clone())).await?;
        let names = |policy: &&BurstPolicy| {
            let spec = &policy.spec;
            let mut rungs = spec.overflow.iter();
            spec.home.as_deref() == Some(self.name())
                || rungs.any(|rung| rung.cluster.as_deref() == Some(self.name()))
        };
        let named = policies.iter().filter(names);
        let named =
            named.map(|it| format!("{}/{}", it.namespace().unwrap_or_default(), it.name_any()));
        let named: Vec<String> = named.collect();
        if named.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Findings,
            format!("{} is named by {}", self.name(), named.join(", ")),
            "Take it out of these policies first: requests would go on to where nobody expects them.",
        ))
    }

    /// The account's objects, the rights first. Those that Helm installed are Helm's to remove.
    async fn account(&self, member: &Cluster) -> Result<Vec<Value>, Failure> {
        let bindings = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"});
        let bindings = objects::list(member, &bindings, &selector()).await?;
        let namespaces: Vec<String> = bindings.iter().filter_map(ResourceExt::namespace).collect();
        let all = account::objects(&self.place.system_namespace, &namespaces).map_err(|error| {
            Failure::bad_input(error, "This is a mistake of Spillway's: report it.")
        })?;
        let rest = all.into_iter().rev();
        let rest = rest.filter(|object| object.get("kind").is_some_and(|kind| kind != "Namespace"));
        Ok(rest.collect())
    }

    /// Removes what is ours of a kind, and our routes from what is not.
    async fn clean(&self, member: &Cluster, kind: Kind) -> Result<(), Failure> {
        let resource = kind.resource();
        let all: Api<DynamicObject> = Api::all_with(member.client.clone(), &resource);
        let found = match all.list(&ListParams::default()).await {
            // Istio is not there.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            found => {
                found.map_err(|error| member.failed("Istio's objects cannot be read", &error))?
            }
        };
        for object in found.items {
            let mut value = serde_json::to_value(&object).unwrap_or_default();
            if let Some(value) = value.as_object_mut() {
                value.insert("apiVersion".to_owned(), json!(resource.api_version));
                value.insert("kind".to_owned(), json!(resource.kind));
            }
            let label = object.labels().get(spillway_plan::output::MANAGED_BY);
            if label.is_some_and(|by| by == spillway_plan::output::SPILLWAY) {
                self.remove(member, &value).await?;
            } else if kind == Kind::VirtualService {
                self.take_out(member, &value).await?;
            }
        }
        Ok(())
    }

    async fn take_out(&self, member: &Cluster, value: &Value) -> Result<(), Failure> {
        let without = spillway_plan::unmerge(value);
        let Ok(object) = serde_json::from_value::<DynamicObject>(without.clone()) else {
            return Ok(());
        };
        if without == *value {
            return Ok(());
        }
        let shown = objects::shown(value);
        let parameters = PostParams {
            dry_run: self.place.dry_run,
            field_manager: None,
        };
        let namespace = object.namespace().unwrap_or_default();
        let resource = Kind::VirtualService.resource();
        let all: Api<DynamicObject> =
            Api::namespaced_with(member.client.clone(), &namespace, &resource);
        let done = all.replace(&object.name_any(), &parameters, &object).await;
        done.map_err(|error| {
            member.failed(
                &format!("the routes of {shown} cannot be taken out"),
                &error,
            )
        })?;
        step(&format!(
            "{shown} in {}: Spillway's routes taken out{}",
            member.name,
            self.tried()
        ));
        Ok(())
    }

    /// Removes an object, if it was written by this command.
    async fn remove_ours(&self, cluster: &Cluster, object: &Value) -> Result<(), Failure> {
        let ours = objects::list(cluster, object, &selector()).await?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        if ours.iter().any(|it| it.metadata.name.as_deref() == name) {
            self.remove(cluster, object).await?;
        }
        Ok(())
    }

    async fn remove(&self, cluster: &Cluster, object: &Value) -> Result<(), Failure> {
        let done = objects::remove(cluster, object, self.place.dry_run).await?;
        if done == Done::Removed {
            step(&format!(
                "{} in {}: removed{}",
                objects::shown(object),
                cluster.name,
                self.tried()
            ));
        }
        Ok(())
    }

    const fn tried(&self) -> &'static str {
        if self.place.dry_run { " (dry run)" } else { "" }
    }
}

/// What this command writes.
fn selector() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}
