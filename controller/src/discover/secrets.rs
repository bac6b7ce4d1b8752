//! The names that Istio's remote secrets tell of.
//!
//! The kubeconfigs come with them, since an API server gives a Secret whole or without its keys.
//! They are dropped where they arrive; what is kept are names.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::clusters::call::Failure;
use crate::engine::backoff::Backoff;

/// Which Secrets Istio takes for remote secrets.
const SELECTOR: &str = "istio/multiCluster=true";

/// A remote secret, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was made.
    pub created: Option<Time>,
    /// The clusters that it tells of, by their names in Istio.
    pub clusters: BTreeSet<String>,
}

/// The remote secrets of every namespace, by name; none of one that could not be listed yet.
pub type Secrets = BTreeMap<String, Option<BTreeMap<String, RemoteSecret>>>;

/// Watches one namespace for ever. What was seen stays when the watch breaks.
pub(super) async fn watch(
    hub: Client,
    namespace: String,
    mut backoff: Backoff,
    secrets: watch::Sender<Secrets>,
) {
    let api: Api<Secret> = Api::namespaced(hub, &namespace);
    let mut events = watcher(api, Config::default().labels(SELECTOR)).boxed();
    let mut listed = BTreeMap::new();
    let mut was_broken = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let failure = Failure::from(&error);
                if !was_broken {
                    tracing::warn!(namespace, error = %failure, "the remote secrets of a namespace cannot be watched: what they tell of is not known");
                }
                was_broken = true;
                tokio::time::sleep(backoff.after_failure()).await;
                continue;
            }
        };
        if !matches!(event, Event::Init) {
            backoff.succeed();
            was_broken = false;
        }
        let change = |change: &dyn Fn(&mut BTreeMap<String, RemoteSecret>)| {
            secrets.send_if_modified(|all| {
                let known = all.entry(namespace.clone()).or_default();
                let before = known.clone();
                change(known.get_or_insert_default());
                *known != before
            });
        };
        match event {
            Event::Init => listed = BTreeMap::new(),
            Event::InitApply(secret) => listed.extend(names(&namespace, &secret)),
            Event::InitDone => change(&|known| known.clone_from(&listed)),
            Event::Apply(secret) => change(&|known| known.extend(names(&namespace, &secret))),
            Event::Delete(secret) => change(&|known| {
                known.remove(secret.metadata.name.as_deref().unwrap_or_default());
            }),
        }
    }
}

fn names(namespace: &str, secret: &Secret) -> Option<(String, RemoteSecret)> {
    let meta = &secret.metadata;
    let name = meta.name.clone()?;
    let clusters = secret.data.iter().flatten();
    let remote = RemoteSecret {
        namespace: namespace.to_owned(),
        name: name.clone(),
        uid: meta.uid.clone()?,
        created: meta.creation_timestamp.clone(),
        clusters: clusters.map(|(cluster, _)| cluster.clone()).collect(),
    };
    Some((name, remote))
}
