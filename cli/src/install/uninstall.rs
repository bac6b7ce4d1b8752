//! Spillway out of the hub and out of every cluster.
//!
//! It does not lean on the controller, which may be what is broken. First everybody who writes is
//! taken the rights, then what was written goes, in the reverse order of writes: filters, routes,
//! what the routes name. The definitions go last, and with them the resources, whose finalizers
//! nobody waits for any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::mesh_cluster::Access;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};

use super::helm::Helm;
use super::release::State;
use super::{RELEASE, chart, demo, release};
use crate::attach::{Place, Removal, selector, step};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::objects;
use crate::policies::MANAGER;
use crate::progress::Progress;
use crate::reach;

/// The release of the chart of members, where Helm installed that.
const MEMBER: &str = "spillway-member";
/// What both charts, and `spillway attach`, write on everything.
const PART: &str = "app.kubernetes.io/part-of=spillway";
/// The kinds of all that carries it, in the order in which they go: what writes, its rights, and
/// the account.
const KINDS: [(&str, &str); 12] = [
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "Service"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
    ),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
];
const RESOURCES: [&str; 3] = ["BurstPolicy", "Fleet", "MeshCluster"];

/// Take Spillway out of the hub and of every cluster
///
/// Removes the controller, the accounts, filters and routes in every cluster, the policies, fleets
/// and clusters, and their definitions. Traffic stays at home from then on. Clusters are found
/// among the contexts of the kubeconfig. Namespaces stay, but for the demo's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What would be removed
  spillway uninstall --dry-run

  # Remove it, with the policies
  spillway uninstall --yes")]
pub(crate) struct Uninstall {
    /// Remove policies, fleets and clusters too, which nobody can bring back
    #[arg(long)]
    yes: bool,

    /// A cluster that is gone for good, or that somebody else cleans; may be repeated
    #[arg(long, value_name = "CLUSTER")]
    abandon: Vec<String>,

    #[command(flatten)]
    place: Place,

    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

pub(crate) fn run(uninstall: &Uninstall, connection: &Connection) -> Result<Exit, Failure> {
    crate::wait(async {
        let hub = connection.hub().await?;
        let known = Known::read(&hub).await?;
        let members = uninstall.members(connection, &known).await?;
        uninstall.agreed(&known)?;
        let removal = Removal {
            system_namespace: &uninstall.place.system_namespace,
            dry_run: uninstall.place.dry_run,
        };
        // The one who writes first.
        uninstall.release(connection, &hub, RELEASE).await?;
        for cluster in std::iter::once(&hub).chain(members.values()) {
            uninstall.release(connection, cluster, MEMBER).await?;
            sweep(&removal, cluster).await?;
        }
        removal.settle().await;
        for cluster in std::iter::once(&hub).chain(members.values()) {
            removal.objects(cluster).await?;
            if let Some(namespace) = demo::found(cluster).await? {
                removal.remove(cluster, &namespace).await?;
            }
        }
        uninstall.resources(&removal, &hub).await?;
        uninstall.own(&removal, &hub).await?;
        let names: Vec<&str> = std::iter::once(&hub)
            .chain(members.values())
            .map(|cluster| cluster.name.as_str())
            .collect();
        step(&format!(
            "nothing of Spillway is left in {}{}; the namespace {} stays, since it may hold what is yours",
            names.join(", "),
            removal.tried(),
            uninstall.place.system_namespace
        ));
        Ok(Exit::Fine)
    })
}

/// What people have declared.
struct Known {
    policies: Vec<String>,
    fleets: usize,
    clusters: Vec<MeshCluster>,
}

impl Known {
    async fn read(hub: &Cluster) -> Result<Self, Failure> {
        let policies: Vec<BurstPolicy> = declared(hub).await?;
        let fleets: Vec<Fleet> = declared(hub).await?;
        let name = |policy: &BurstPolicy| {
            format!(
                "{}/{}",
                policy.namespace().unwrap_or_default(),
                policy.name_any()
            )
        };
        Ok(Self {
            policies: policies.iter().map(name).collect(),
            fleets: fleets.len(),
            clusters: declared(hub).await?,
        })
    }
}

/// All of a resource; none where it is not known. One that cannot be read is taken for what it is
/// called.
async fn declared<K>(hub: &Cluster) -> Result<Vec<K>, Failure>
where
    K: kube::Resource<DynamicType = ()> + serde::de::DeserializeOwned,
{
    let like = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&())});
    let found = objects::list(hub, &like, "").await?;
    let read = |object: DynamicObject| {
        let name = object.name_any();
        let value = serde_json::to_value(object).unwrap_or_default();
        serde_json::from_value(value).map_err(|error| {
            Failure::bad_input(
                format!("the {} {name} cannot be read: {error}", K::kind(&())),
                "Use the command of the version that it was written for, or delete it.",
            )
        })
    };
    found.into_iter().map(read).collect()
}

impl Uninstall {
    /// The contexts of the clusters that were attached.
    async fn members(
        &self,
        connection: &Connection,
        known: &Known,
    ) -> Result<BTreeMap<String, Cluster>, Failure> {
        let attached = |it: &&MeshCluster| {
            it.spec.access == Access::Attached && !self.abandon.contains(&it.name_any())
        };
        let attached: Vec<MeshCluster> = known.clusters.iter().filter(attached).cloned().collect();
        let progress = Progress::new("looking for the clusters".to_owned());
        let found = reach::contexts(connection, &attached).await?;
        drop(progress);
        let names = attached.iter().map(ResourceExt::name_any);
        let missing: Vec<String> = names.filter(|name| !found.contains_key(name)).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        Err(Failure::new(
            Exit::Findings,
            format!(
                "no context of the kubeconfig leads to {}, or they do not answer",
                missing.join(", ")
            ),
            format!(
                "Filters and routes would stay there. Name a kubeconfig that leads there by --kubeconfig; clusters that are gone: --abandon {}",
                missing.join(" --abandon ")
            ),
        ))
    }

    /// What people have declared goes only when they say so.
    fn agreed(&self, known: &Known) -> Result<(), Failure> {
        let is_nothing =
            known.policies.is_empty() && known.clusters.is_empty() && known.fleets == 0;
        if self.yes || self.place.dry_run || is_nothing {
            return Ok(());
        }
        let policies = match known.policies.as_slice() {
            [] => "no policy".to_owned(),
            names => names.join(", "),
        };
        Err(Failure::new(
            Exit::Findings,
            format!(
                "there are still {policies}, {} and {}",
                crate::output::counted(known.fleets, "fleet"),
                crate::output::counted(known.clusters.len(), "cluster")
            ),
            "--dry-run shows all that would be removed; --yes removes it.",
        ))
    }

    async fn release(
        &self,
        connection: &Connection,
        cluster: &Cluster,
        name: &str,
    ) -> Result<(), Failure> {
        let namespace = &self.place.system_namespace;
        if release::state(cluster, namespace, name).await? == State::Missing {
            return Ok(());
        }
        if !self.place.dry_run {
            let helm = Helm::required(&format!(
                "Install Helm: {name} was installed by it in {}.",
                cluster.name
            ))?;
            let _progress = Progress::new(format!("helm is at work on {}", cluster.name));
            let arguments = ["uninstall", name, "--namespace", namespace];
            helm.run(connection, Some(&cluster.name), &arguments)?;
        }
        let tried = if self.place.dry_run { " (dry run)" } else { "" };
        step(&format!(
            "Helm release {name} in {}: removed{tried}",
            cluster.name
        ));
        Ok(())
    }

    /// Policies, fleets and clusters, and then their definitions.
    async fn resources(&self, removal: &Removal<'_>, hub: &Cluster) -> Result<(), Failure> {
        for kind in RESOURCES {
            let like = json!({"apiVersion": "spillway.dev/v1alpha1", "kind": kind});
            for object in objects::list(hub, &like, "").await? {
                if !self.place.dry_run && !object.finalizers().is_empty() {
                    release_finalizers(hub, kind, &object).await?;
                }
                removal.remove(hub, &typed(&object, &like)).await?;
            }
        }
        for definition in chart::definitions() {
            let definition: Value =
                serde_saphyr::from_str(definition).map_err(|error| super::broken(&error))?;
            removal.remove(hub, &definition).await?;
            if !self.place.dry_run {
                self.gone(hub, &definition).await?;
            }
        }
        Ok(())
    }

    /// Waits until an object is gone.
    async fn gone(&self, hub: &Cluster, object: &Value) -> Result<(), Failure> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let _progress = Progress::new(format!("waiting until {} is gone", objects::shown(object)));
        let began = Instant::now();
        loop {
            let found = objects::list(hub, object, "").await?;
            if !found.iter().any(|it| it.metadata.name.as_deref() == name) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(self.timeout) {
                return Err(Failure::new(
                    Exit::TimedOut,
                    format!(
                        "{} is not gone after {} s",
                        objects::shown(object),
                        self.timeout
                    ),
                    "Run it again. Something may hold an object of it: kubectl get burstpolicies,fleets,meshclusters --all-namespaces",
                ));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the controller and `attach` made for themselves on the hub.
    async fn own(&self, removal: &Removal<'_>, hub: &Cluster) -> Result<(), Failure> {
        let namespace = &self.place.system_namespace;
        let secrets =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace}});
        for secret in objects::list(hub, &secrets, &selector()).await? {
            removal.remove(hub, &typed(&secret, &secrets)).await?;
        }
        for (version, kind, name) in [
            ("v1", "Secret", "spillway-tokens"),
            ("coordination.k8s.io/v1", "Lease", "spillway-controller"),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
            removal.remove(hub, &object).await?;
        }
        Ok(())
    }
}

/// All that carries the label, whoever installed it.
async fn sweep(removal: &Removal<'_>, cluster: &Cluster) -> Result<(), Failure> {
    for (version, kind) in KINDS {
        let like = json!({"apiVersion": version, "kind": kind});
        for object in objects::list(cluster, &like, PART).await? {
            removal.remove(cluster, &typed(&object, &like)).await?;
        }
    }
    Ok(())
}

/// Nobody is left who would do what the finalizer waits for; it is done here.
async fn release_finalizers(
    hub: &Cluster,
    kind: &str,
    object: &DynamicObject,
) -> Result<(), Failure> {
    let kind = GroupVersionKind::gvk("spillway.dev", "v1alpha1", kind);
    let resource = kube::api::ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(hub.client.clone(), &namespace, &resource),
        None => Api::all_with(hub.client.clone(), &resource),
    };
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api.patch(&object.name_any(), &parameters, &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(hub.failed("a finalizer cannot be taken off", &error)),
    }
}

/// Lists leave the kind out.
fn typed(object: &DynamicObject, like: &Value) -> Value {
    let mut value = json!({"apiVersion": like.get("apiVersion"), "kind": like.get("kind")});
    if let (Some(fields), Ok(metadata)) = (
        value.as_object_mut(),
        serde_json::to_value(&object.metadata),
    ) {
        fields.insert("metadata".to_owned(), metadata);
    }
    value
}
