//! The resources of the hub.
//!
//! A new leader must not plan from what it saw before it was elected: a process that was paused
//! holds what was true then, and its watches may take a while to notice. So all watches begin anew
//! with each term of office, with a list that the API server answers from its newest state, and
//! nothing is planned before every list is there.
//!
//! Of Secrets only the metadata are watched: a changed version tells that a kubeconfig is to be
//! read again. What is in them is read when a connection is made, and kept nowhere.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, Lookup, Store, store::Writer};
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::clusters::call::Failure;
use crate::engine::backoff::Backoff;

/// What is on the hub; its watches end when it is dropped.
pub struct Hub {
    policies: Store<BurstPolicy>,
    fleets: Store<Fleet>,
    clusters: Store<MeshCluster>,
    secrets: Store<PartialObjectMeta<Secret>>,
    _watches: [AbortOnDropHandle<()>; 4],
}

impl Hub {
    /// Begins to watch. `changed` counts the changes that matter to a plan.
    #[must_use]
    pub fn watch(
        client: &Client,
        system_namespace: &str,
        backoff: &Backoff,
        changed: &watch::Sender<u64>,
    ) -> Self {
        let (policies, first) = all::<BurstPolicy>(client, backoff, changed);
        let (fleets, second) = all::<Fleet>(client, backoff, changed);
        let (clusters, third) = all::<MeshCluster>(client, backoff, changed);
        let secrets: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(client.clone(), system_namespace);
        let events = watcher(secrets, Config::default()).boxed();
        let (secrets, fourth) = follow(events, backoff, changed);
        Self {
            policies,
            fleets,
            clusters,
            secrets,
            _watches: [first, second, third, fourth],
        }
    }

    /// Whether every list is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        is_ready(&self.policies)
            && is_ready(&self.fleets)
            && is_ready(&self.clusters)
            && is_ready(&self.secrets)
    }

    /// The policies, in the order of their names.
    #[must_use]
    pub fn policies(&self) -> Vec<Arc<BurstPolicy>> {
        sorted(&self.policies)
    }

    /// The fleets, in the order of their names.
    #[must_use]
    pub fn fleets(&self) -> Vec<Arc<Fleet>> {
        sorted(&self.fleets)
    }

    /// The clusters, in the order of their names.
    #[must_use]
    pub fn clusters(&self) -> Vec<Arc<MeshCluster>> {
        sorted(&self.clusters)
    }

    /// The resource versions of the Secrets in the system namespace, by name.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<String, String> {
        let secrets = self.secrets.state();
        let versions = secrets.iter().filter_map(|secret| {
            let version = secret.metadata.resource_version.clone()?;
            Some((secret.metadata.name.clone()?, version))
        });
        versions.collect()
    }
}

fn is_ready<K>(store: &Store<K>) -> bool
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    matches!(store.wait_until_ready().now_or_never(), Some(Ok(())))
}

fn sorted<K>(store: &Store<K>) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut all = store.state();
    all.sort_by_key(|object| (ResourceExt::namespace(object.as_ref()), object.name_any()));
    all
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

fn all<K>(
    client: &Client,
    backoff: &Backoff,
    changed: &watch::Sender<u64>,
) -> (Store<K>, AbortOnDropHandle<()>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    follow(watcher(api, Config::default()).boxed(), backoff, changed)
}

fn follow<K>(
    events: Events<K>,
    backoff: &Backoff,
    changed: &watch::Sender<u64>,
) -> (Store<K>, AbortOnDropHandle<()>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let task = fill(
        events,
        store.clone(),
        writer,
        backoff.clone(),
        changed.clone(),
    );
    (store, AbortOnDropHandle::new(tokio::spawn(task)))
}

async fn fill<K>(
    mut events: Events<K>,
    store: Store<K>,
    mut writer: Writer<K>,
    mut backoff: Backoff,
    changed: watch::Sender<u64>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let matters = matters(&store, &event);
                writer.apply_watcher_event(&event);
                if !matches!(event, Event::Init) {
                    backoff.succeed();
                }
                if matters {
                    changed.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
            Err(error) => {
                let failure = Failure::from(&error);
                let pause = backoff.after_failure();
                tracing::warn!(kind = %K::kind(&()), error = %failure, "the hub cannot be watched");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Whether a change is more than one of a status, which are our own.
fn matters<K>(store: &Store<K>, event: &Event<K>) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Init | Event::InitApply(_) => false,
        Event::InitDone | Event::Delete(_) => true,
        Event::Apply(new) => {
            let old = store.get(&reflector::ObjectRef::from_obj(new));
            old.is_none_or(|old| trait_of(old.as_ref()) != trait_of(new))
        }
    }
}

/// What differs whenever something other than a status differs. Objects without a generation, such
/// as Secrets, have their version instead.
fn trait_of<K: Resource>(object: &K) -> impl PartialEq + use<K> {
    let meta = object.meta().clone();
    let version = match meta.generation {
        Some(_) => None,
        None => meta.resource_version,
    };
    (
        meta.generation,
        version,
        meta.uid,
        meta.labels,
        meta.deletion_timestamp,
        meta.finalizers,
    )
}
