//! A cluster out of the mesh. Nothing of Spillway's stays in it but the namespace, which may hold
//! what is somebody else's.

use clap::Args;
use kube::{Api, ResourceExt};
use serde_json::json;
use spillway_api::BurstPolicy;

use super::removal::Removal;
use super::{Place, step};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::status::list;

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
        let (name, system) = (detach.name(), &detach.place.system_namespace);
        let removal = Removal {
            system_namespace: system,
            dry_run: detach.place.dry_run,
        };
        let resource = json!({"apiVersion": "spillway.dev/v1alpha1", "kind": "MeshCluster", "metadata": {"name": name}});
        removal.remove(&hub, &resource).await?;
        removal.account(&member).await?;
        removal.objects(&member).await?;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": system}});
        removal.remove_ours(&hub, &secret).await?;
        step(&format!("nothing of {name} is left{}", removal.tried()));
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
}
