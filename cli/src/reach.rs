//! The clusters of the mesh, as the caller of the command can reach them.
//!
//! The hub is the context that the command talks to anyway. Another cluster is the context of its
//! MeshCluster's name, where the kubeconfig has one, with the rights of the user; else it is reached
//! as the controller reaches it, by the Secret on the hub, with the rights of the controller.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::Access;
use spillway_controller::clusters::{client, kubeconfig};

use crate::connection::{Cluster, Connection};

/// So many clusters are talked to at once.
const AT_ONCE: usize = 64;
/// The key of the Secret that has a kubeconfig.
const KUBECONFIG: &str = "kubeconfig";

/// A client for a cluster.
///
/// # Errors
/// In words, when there is no way to it.
pub(crate) async fn client(
    connection: &Connection,
    hub: &Cluster,
    cluster: &MeshCluster,
) -> Result<Client, String> {
    let name = cluster.name_any();
    if cluster.spec.access == Access::Hub {
        return Ok(hub.client.clone());
    }
    if connection.has_context(&name) {
        let of_user = connection.cluster(Some(&name)).await;
        return Ok(of_user
            .map_err(|failure| failure.message().to_owned())?
            .client);
    }
    let Some(secret) = &cluster.spec.secret_ref else {
        return Err("the kubeconfig has no context of its name".to_owned());
    };
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), &secret.namespace);
    let found = secrets.get(&secret.name).await;
    let found = found.map_err(|error| {
        format!("the kubeconfig has no context of its name, and its Secret cannot be read: {error}")
    })?;
    let data = found.data.unwrap_or_default();
    let text = data.get(KUBECONFIG).ok_or("its Secret has no kubeconfig")?;
    let config = kubeconfig::config(&text.0, false).await;
    let config = config.map_err(|error| error.to_string())?;
    client::apart(&config).map_err(|error| error.to_string())
}

/// Asks every cluster, each within the deadline. What one does not do holds up no other.
pub(crate) async fn ask<T, F>(
    connection: &Connection,
    hub: &Cluster,
    clusters: &[MeshCluster],
    deadline: Duration,
    ask: impl Fn(String, Client) -> F,
) -> Vec<(String, Result<T, String>)>
where
    F: Future<Output = Result<T, String>>,
{
    let one = |cluster| {
        let ask = &ask;
        async move {
            let name = MeshCluster::name_any(cluster);
            let answer = tokio::time::timeout(deadline, async {
                let client = client(connection, hub, cluster).await?;
                ask(name.clone(), client).await
            });
            let late = || Err(format!("no answer within {} s", deadline.as_secs()));
            let answer = answer.await.unwrap_or_else(|_| late());
            (name, answer)
        }
    };
    let asked = futures_util::stream::iter(clusters).map(one);
    let mut answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    answers
}
