//! Clusters as they are, seen as the controller sees them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ListParams, TypeMeta};
use kube::{Api, Client};
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use spillway_controller::clusters::identity;
use spillway_controller::observe::index::Index;
use spillway_controller::observe::interest;
use spillway_controller::observe::kinds::Kind;
use spillway_controller::tokens::secret;
use spillway_plan::{Observed, Text};
use tokio::sync::watch;

use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
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
