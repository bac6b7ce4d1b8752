//! The clusters of the mesh, as the caller of the command can reach them.
//!
//! The hub is the context that the command talks to anyway. Another cluster is reached by a context
//! of the kubeconfig, with the rights of the user, or as the controller reaches it, by the Secret on
//! the hub, with the rights of the controller.
//!
//! The names of contexts are the user's own affair. A cluster is known by the UID of its namespace
//! `kube-system`, which the controller found too: so no context is taken for a cluster that it does
//! not lead to. The context of the cluster's name is asked first, and others only where that is not
//! it, and a Secret would not do: a context that does not answer must hold up nobody who does not
//! need it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, ResourceExt};
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::Access;
use spillway_controller::clusters::{client, kubeconfig};
use tokio::task::JoinSet;

use crate::connection::{Cluster, Connection};
use crate::exit::Failure;

/// So many clusters are talked to at once.
const AT_ONCE: usize = 64;
/// A context that does not say within this time where it leads is passed over.
const WHERE: Duration = Duration::from_secs(10);
/// The context of a cluster's name must say so sooner: after it there is the Secret.
const NAMED: Duration = Duration::from_secs(3);
/// The key of the Secret that has a kubeconfig.
const KUBECONFIG: &str = "kubeconfig";

/// The context that leads to each of these clusters, by the name of its MeshCluster. Clusters that
/// no context leads to are not in it, and neither are those that do not answer.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub(crate) async fn contexts(
    connection: &Connection,
    clusters: &[MeshCluster],
) -> Result<BTreeMap<String, Cluster>, Failure> {
    let wanted = clusters.iter();
    let wanted: BTreeMap<&String, String> = wanted
        .filter_map(|cluster| Some((known(cluster)?, cluster.name_any())))
        .collect();
    let all = connection.contexts()?.into_iter();
    let (named, others): (Vec<String>, Vec<String>) =
        all.partition(|context| wanted.values().any(|name| name == context));
    let mut found = BTreeMap::new();
    for contexts in [named, others] {
        if found.len() == wanted.len() {
            break;
        }
        let mut asked = JoinSet::new();
        for context in contexts {
            // One that cannot be used leads nowhere.
            let Ok(cluster) = connection.cluster(Some(&context)).await else {
                continue;
            };
            asked.spawn(async move {
                let uid = tokio::time::timeout(WHERE, uid(&cluster)).await;
                Some((uid.ok()?.ok()?, cluster))
            });
        }
        // Who is not needed any more is not waited for.
        while found.len() < wanted.len()
            && let Some(answer) = asked.join_next().await
        {
            let answer = answer.ok().flatten();
            let named = answer.and_then(|(uid, it)| Some((wanted.get(&uid)?.clone(), it)));
            found.extend(named);
        }
    }
    Ok(found)
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

/// The same of a cluster that the controller has seen.
fn known(cluster: &MeshCluster) -> Option<&String> {
    cluster.status.as_ref()?.uid.as_ref()
}

/// The context of its name, if that leads to it; of one that the controller has not seen the name
/// is all that is known.
async fn named(connection: &Connection, cluster: &MeshCluster) -> Result<Option<Cluster>, Failure> {
    let name = cluster.name_any();
    if !connection.has_context(&name) {
        return Ok(None);
    }
    let found = connection.cluster(Some(&name)).await?;
    let Some(known) = known(cluster) else {
        return Ok(Some(found));
    };
    let is_it = match tokio::time::timeout(NAMED, uid(&found)).await {
        Ok(Ok(uid)) => uid == *known,
        // It does not answer, or the user may not ask it: without a Secret, its name has to do.
        _ => cluster.spec.secret_ref.is_none(),
    };
    Ok(is_it.then_some(found))
}

/// A client for a cluster.
///
/// # Errors
/// In words, when there is no way to it.
async fn client(
    connection: &Connection,
    hub: &Cluster,
    cluster: &MeshCluster,
) -> Result<Client, String> {
    if cluster.spec.access == Access::Hub {
        return Ok(hub.client.clone());
    }
    let of_user = named(connection, cluster).await;
    if let Some(found) = of_user.map_err(|failure| failure.message().to_owned())? {
        return Ok(found.client);
    }
    let Some(secret) = &cluster.spec.secret_ref else {
        return Err("no context of its name leads there".to_owned());
    };
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), &secret.namespace);
    let found = secrets.get(&secret.name).await;
    let found = found.map_err(|error| {
        format!("no context of its name leads there, and its Secret cannot be read: {error}")
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
