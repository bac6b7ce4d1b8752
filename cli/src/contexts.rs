//! Which of the user's contexts lead to which clusters of the mesh.
//!
//! The names of contexts are the user's own affair. A cluster is known by the UID of its namespace
//! `kube-system`, which the controller found too: so no context has to be named, and none is taken
//! for a cluster that it does not lead to.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use spillway_api::MeshCluster;
use tokio::task::JoinSet;

use crate::connection::{Cluster, Connection};
use crate::exit::Failure;

/// A cluster that does not say within this time who it is is passed over.
const DEADLINE: Duration = Duration::from_secs(10);

/// The context of each of these clusters, by the name of its MeshCluster. Clusters that no context
/// leads to are not in it, and neither are those that do not answer.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub(crate) async fn of(
    connection: &Connection,
    clusters: &[MeshCluster],
) -> Result<BTreeMap<String, Cluster>, Failure> {
    let mut asked = JoinSet::new();
    for context in connection.contexts()? {
        // One that cannot be used leads nowhere.
        let Ok(cluster) = connection.cluster(Some(&context)).await else {
            continue;
        };
        asked.spawn(async move {
            let uid = tokio::time::timeout(DEADLINE, uid(&cluster)).await;
            Some((uid.ok()?.ok()?, cluster))
        });
    }
    let mut by_uid = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        by_uid.extend(answer.ok().flatten());
    }
    let found = clusters.iter().filter_map(|cluster| {
        let uid = cluster.status.as_ref()?.uid.as_ref()?;
        Some((cluster.name_any(), by_uid.remove(uid)?))
    });
    Ok(found.collect())
}

/// By which clusters are told apart.
///
/// # Errors
/// When it does not answer, or the user may not read it.
pub(crate) async fn uid(cluster: &Cluster) -> Result<String, Failure> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let found = namespaces.get("kube-system").await;
    let found = found.map_err(|error| cluster.failed("it does not say who it is", &error))?;
    Ok(found.uid().unwrap_or_default())
}
