//! Clusters as they are, seen as the controller sees them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ListParams, TypeMeta};
use kube::{Api, Client};
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use spillway_controller::clusters::identity;
use spillway_controller::observe::index::Index;
use spillway_controller::observe::interest;
use spillway_controller::observe::kinds::Kind;
use spillway_controller::settings::MeshSettings;
use spillway_controller::tokens::secret;
use spillway_plan::{Observed, Text};
use tokio::sync::watch;

use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::install::CONTROLLER;
use crate::reach;
use crate::status::list;

/// For all that one cluster is asked.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// The key of the Secret that has the tokens.
const TOKENS: &str = "tokens";
/// What is there.
pub(super) struct Seen {
    pub(super) policies: Vec<BurstPolicy>,
    pub(super) fleets: Vec<Fleet>,
    pub(super) clusters: Vec<MeshCluster>,
}

/// A cluster as it is.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) observed: Option<Arc<Observed>>,
    pub(super) deployed: Vec<Text>,
}

/// All resources of the hub.
///
/// # Errors
/// When the hub does not give them.
pub(super) async fn of_hub(hub: &Cluster) -> Result<Seen, Failure> {
    Ok(Seen {
        policies: list(hub, &Api::all(hub.client.clone())).await?,
        fleets: list(hub, &Api::all(hub.client.clone())).await?,
        clusters: list(hub, &Api::all(hub.client.clone())).await?,
    })
}

/// The mesh's tokens, as the Secret on the hub has them.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn tokens(hub: &Cluster, namespace: &str) -> Result<String, Failure> {
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
    let name = secret::NAME;
    let found = secrets.get(name).await;
    let found = found.map_err(|error| {
        hub.failed(
            &format!("the Secret {namespace}/{name} cannot be read"),
            &error,
        )
    })?;
    let data = found.data.unwrap_or_default();
    let text = data
        .get(TOKENS)
        .map(|it| String::from_utf8_lossy(&it.0).into_owned());
    text.ok_or_else(|| {
        Failure::new(
            Exit::BadInput,
            format!("the Secret {namespace}/{name} has no tokens"),
            "Name a file with the mesh's tokens by --tokens.",
        )
    })
}

/// The mesh's settings, as the controller on the hub was told them.
///
/// # Errors
/// When it cannot be read, or was told otherwise.
pub(super) async fn controller(hub: &Cluster, namespace: &str) -> Result<MeshSettings, Failure> {
    let all: Api<Deployment> = Api::namespaced(hub.client.clone(), namespace);
    let found = all.list(&ListParams::default().labels(CONTROLLER)).await;
    let found = found.map_err(|error| hub.failed("the controller cannot be read", &error))?;
    let read = found.items.first().and_then(settings);
    read.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!(
                "{} has no controller in {namespace} that tells the filter's image",
                hub.name
            ),
            "Name the image by --image, or the controller's namespace by --system-namespace.",
        )
    })
}

/// From the controller's arguments, by its own reading of them; what it is told besides is passed
/// over.
fn settings(controller: &Deployment) -> Option<MeshSettings> {
    let command = MeshSettings::augment_args(clap::Command::new("controller"));
    let pods = controller.spec.as_ref()?.template.spec.as_ref()?;
    let all = pods
        .containers
        .iter()
        .flat_map(|it| it.args.iter().flatten());
    let known = all.filter(|argument| {
        let name = argument.split('=').next().unwrap_or_default();
        let mut known = command.get_arguments();
        known.any(|it| {
            it.get_long()
                .is_some_and(|long| name == format!("--{long}"))
        })
    });
    let known: Vec<&String> = known.collect();
    let matches = command
        .clone()
        .no_binary_name(true)
        .try_get_matches_from(known);
    MeshSettings::from_arg_matches(&matches.ok()?).ok()
}

/// What matters for these policies in every cluster, and why it is not known.
pub(super) async fn look(
    connection: &Connection,
    hub: &Cluster,
    clusters: &[MeshCluster],
    policies: &[Arc<BurstPolicy>],
    root_namespace: &str,
) -> Vec<(String, Result<Member, String>)> {
    let namespaces = interest::namespaces(policies.iter().map(AsRef::as_ref));
    let namespaces = &namespaces;
    reach::ask(
        connection,
        hub,
        clusters,
        DEADLINE,
        |_, client| async move { member(&client, namespaces, root_namespace).await },
    )
    .await
}

async fn member(
    client: &Client,
    namespaces: &BTreeSet<String>,
    root_namespace: &str,
) -> Result<Member, String> {
    let identity = identity::identity(client, DEADLINE).await;
    let identity = identity.map_err(|error| error.to_string())?;
    let index = Index::new(watch::Sender::new(0), watch::Sender::new(0));
    let places = namespaces
        .iter()
        .flat_map(|name| Kind::NAMESPACED.map(|kind| (kind, name.clone())));
    for place in places.chain([(Kind::Namespace, String::new())]) {
        let (kind, namespace) = &place;
        let resource = kind.resource();
        let all: Api<DynamicObject> = if namespace.is_empty() {
            Api::all_with(client.clone(), &resource)
        } else {
            Api::namespaced_with(client.clone(), namespace, &resource)
        };
        index.open(place.clone());
        match all.list(&ListParams::default()).await {
            Ok(found) => {
                let typed = found.items.into_iter().map(|mut object| {
                    object.types = Some(TypeMeta {
                        api_version: resource.api_version.clone(),
                        kind: resource.kind.clone(),
                    });
                    object
                });
                index.replace(&place, typed.collect());
            }
            // What is not served, or forbidden, is for the planner to judge.
            Err(error @ kube::Error::Api(_)) => index.failed(&place, (&error).into()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(Member {
        observed: index.observed(&identity.uid, root_namespace),
        deployed: index.deployed(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_the_controllers() {
        let image = format!("oci://r.example.com/f@sha256:{}", "0".repeat(64));
        let deployment = |arguments: &[&str]| -> Deployment {
            let containers = json!([{"name": "controller", "args": arguments}]);
            let spec = json!({"template": {"spec": {"containers": containers}}, "selector": {}});
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        let named = format!("--image={image}");
        let told = [
            "--push-interval=1s",
            &named,
            "--root-namespace=mesh",
            "--inject-by-default",
        ];
        let read = settings(&deployment(&told)).unwrap();
        assert_eq!(read.image.url(), image);
        assert_eq!(
            (read.root_namespace.as_str(), read.inject_by_default),
            ("mesh", true)
        );
        assert_eq!(read.cluster_domain, "cluster.local");
        assert!(settings(&deployment(&["--root-namespace=mesh"])).is_none());
    }
}
