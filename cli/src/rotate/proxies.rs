//! Whether every proxy acts by the mesh's tokens as they are.
//!
//! The controller sees what is in API servers, and has no right to look at pods. Who runs the
//! command mostly has it: a filter tells the generation that it acts by, and the plugin that it was
//! made from has the tokens. What cannot be seen is not taken for granted, and has a reason in words.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::{Api, Client, ResourceExt};
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_plan::settings::Tokens;

use crate::connection::{Cluster, Connection};
use crate::reach;
use crate::sidecars::{self, Teller};
use crate::status::list;

/// For all that one cluster is asked.
const DEADLINE: Duration = Duration::from_secs(10);

/// How many proxies act by the tokens, which are all that there are.
///
/// # Errors
/// In words, what does not, or cannot be seen.
pub(super) async fn acting_by(
    connection: &Connection,
    hub: &Cluster,
    tokens: &Tokens,
) -> Result<usize, String> {
    let clusters: Vec<MeshCluster> = list(hub, &Api::all(hub.client.clone()))
        .await
        .map_err(|failure| failure.message().to_owned())?;
    let is_served = |cluster: &&MeshCluster| {
        let plane = cluster.spec.control_plane.as_ref();
        plane.is_some_and(|plane| *plane != cluster.name_any())
    };
    if let Some(cluster) = clusters.iter().find(is_served) {
        let name = cluster.name_any();
        return Err(format!("{name} has no control plane of its own"));
    }
    let tokens: &Vec<&str> = &tokens.iter().collect();
    let answers = reach::ask(
        connection,
        hub,
        &clusters,
        DEADLINE,
        |_, client| async move { in_cluster(&client, tokens).await },
    );
    let mut all = 0;
    for (name, answer) in answers.await {
        all += answer.map_err(|why| format!("{name}: {why}"))?;
    }
    let policies: Vec<BurstPolicy> = list(hub, &Api::all(hub.client.clone()))
        .await
        .map_err(|failure| failure.message().to_owned())?;
    match policies.iter().find(|policy| is_behind(policy)) {
        Some(policy) => Err(format!(
            "BurstPolicy {}/{} is not in every cluster",
            policy.namespace().unwrap_or_default(),
            policy.name_any()
        )),
        None => Ok(all),
    }
}

/// Routes carry the token too, and no proxy tells by which it acts: where something of a policy
/// could not be written, that may be its routes.
fn is_behind(policy: &BurstPolicy) -> bool {
    let conditions = policy.status.iter().flat_map(|status| &status.conditions);
    let holds = |kind| {
        let mut all = conditions.clone();
        all.any(|it| it.type_ == kind && it.status == "True")
    };
    holds("Accepted") && !holds("Programmed")
}

async fn in_cluster(client: &Client, tokens: &[&str]) -> Result<usize, String> {
    let plugins = sidecars::plugins(client, None).await?;
    let older = plugins.iter().find(|plugin| plugin.tokens != tokens);
    if let Some(plugin) = older {
        return Err(format!(
            "WasmPlugin {}/{} does not have the tokens",
            plugin.namespace, plugin.name
        ));
    }
    let namespaces: BTreeSet<&String> = plugins.iter().map(|plugin| &plugin.namespace).collect();
    let mut pods = Vec::new();
    for namespace in namespaces {
        let found = sidecars::proxies(client, namespace).await?;
        pods.extend(
            found
                .into_iter()
                .filter(|pod| plugins.iter().any(|plugin| plugin.is_for(pod))),
        );
    }
    let answers = sidecars::ask(client, &pods, Teller::Envoy).await;
    for (pod, answer) in pods.iter().zip(answers) {
        let named = |why: &str| {
            let namespace = pod.namespace().unwrap_or_default();
            format!("{namespace}/{} {why}", pod.name_any())
        };
        let samples = answer.map_err(|why| named(&format!("does not tell: {why}")))?;
        let mut meant = plugins.iter().filter(|plugin| plugin.is_for(pod));
        if meant.any(|plugin| plugin.lack(&samples).is_some()) {
            return Err(named("acts by an older configuration, or has no filter"));
        }
    }
    Ok(pods.len())
}
