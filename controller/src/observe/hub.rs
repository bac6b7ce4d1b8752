//! The resources of the hub.
//!
//! A new leader must not plan from what it saw before it was elected: a process that was paused
//! holds what was true then, and its watches may take a while to notice. So all watches begin anew
//! with each term of office, with a list that the API server answers from its newest state, and
//! nothing is planned before every list is there.
//!
//! Of Secrets only the metadata are watched: a changed version tells that a kubeconfig is to be
//! read again. What is in them is read when a connection is made, and kept nowhere. Those of the
//! system namespace are watched always; others as MeshClusters name them, and one that may not be
//! watched holds up nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use spillway_api::mesh_cluster::SecretRef;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use tokio::sync::watch;

use super::read::{Read, Unread, Unreadable};
use super::watched::{Watched, follow};
use crate::clusters::call::Failure;
use crate::engine::backoff::Backoff;

/// What is on the hub; its watches end when it is dropped.
pub struct Hub {
    client: Client,
    backoff: Backoff,
    changed: watch::Sender<u64>,
    policies: Watched<Read<BurstPolicy>>,
    fleets: Watched<Read<Fleet>>,
    clusters: Watched<Read<MeshCluster>>,
    system_namespace: String,
    secrets: Mutex<BTreeMap<String, Watched<PartialObjectMeta<Secret>>>>,
}

/// How far one knows of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// Its namespace was not listed yet.
    NotYet,
    /// It has this resource version, or is not there.
    Known(Option<String>),
    /// Its namespace cannot be watched.
    Unwatched(Failure),
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
        let this = Self {
            policies: all(client, backoff, changed),
            fleets: all(client, backoff, changed),
            clusters: all(client, backoff, changed),
            client: client.clone(),
            backoff: backoff.clone(),
            changed: changed.clone(),
            system_namespace: system_namespace.to_owned(),
            secrets: Mutex::default(),
        };
        this.follow_secrets(BTreeSet::new());
        this
    }

    /// Watches the Secrets of these namespaces besides the system's, and of no others.
    pub fn follow_secrets(&self, mut namespaces: BTreeSet<String>) {
        namespaces.insert(self.system_namespace.clone());
        let mut secrets = self.secrets();
        secrets.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            secrets.entry(namespace).or_insert_with_key(|namespace| {
                let api = Api::namespaced(self.client.clone(), namespace);
                let events = watcher(api, Config::default()).boxed();
                follow(events, &self.backoff, &self.changed)
            });
        }
    }

    /// Whether every list is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let secrets = self.secrets();
        self.policies.is_ready()
            && self.fleets.is_ready()
            && self.clusters.is_ready()
            && secrets
                .get(&self.system_namespace)
                .is_some_and(Watched::is_ready)
    }

    /// The policies, in the order of their names.
    #[must_use]
    pub fn policies(&self) -> Vec<Arc<BurstPolicy>> {
        whole(&self.policies)
    }

    /// The fleets, in the order of their names.
    #[must_use]
    pub fn fleets(&self) -> Vec<Arc<Fleet>> {
        whole(&self.fleets)
    }

    /// The clusters, in the order of their names.
    #[must_use]
    pub fn clusters(&self) -> Vec<Arc<MeshCluster>> {
        whole(&self.clusters)
    }

    /// What cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Unread {
        Unread {
            policies: unread(&self.policies),
            fleets: unread(&self.fleets),
            clusters: unread(&self.clusters),
        }
    }

    /// How far one knows of a Secret.
    #[must_use]
    pub fn version(&self, secret: &SecretRef) -> Version {
        let secrets = self.secrets();
        let Some(watched) = secrets.get(&secret.namespace) else {
            return Version::NotYet;
        };
        // A watch that goes on where it was is silent: what was listed counts, unless it is forbidden.
        match watched.failure() {
            Some(failure) if failure.code() == Some(403) || !watched.is_ready() => {
                return Version::Unwatched(failure);
            }
            None if !watched.is_ready() => return Version::NotYet,
            _ => {}
        }
        let found = watched.get(&secret.namespace, &secret.name);
        Version::Known(found.and_then(|found| found.metadata.resource_version.clone()))
    }

    fn secrets(&self) -> MutexGuard<'_, BTreeMap<String, Watched<PartialObjectMeta<Secret>>>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whole<K>(watched: &Watched<Read<K>>) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let all = watched.all().into_iter();
    let whole = all.filter_map(|read| match read.as_ref() {
        Read::Whole(whole) => Some(whole.clone()),
        Read::Not(_) => None,
    });
    whole.collect()
}

fn unread<K>(watched: &Watched<Read<K>>) -> Vec<Arc<Unreadable>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let all = watched.all().into_iter();
    let unread = all.filter_map(|read| match read.as_ref() {
        Read::Not(unreadable) => Some(unreadable.clone()),
        Read::Whole(_) => None,
    });
    unread.collect()
}

fn all<K>(client: &Client, backoff: &Backoff, changed: &watch::Sender<u64>) -> Watched<Read<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<Read<K>> = Api::all(client.clone());
    let events = watcher(api, Config::default()).inspect_ok(|event| {
        if let Event::Apply(Read::Not(unreadable)) | Event::InitApply(Read::Not(unreadable)) = event
        {
            tracing::error!(
                kind = %K::kind(&()),
                object = unreadable.key(),
                error = unreadable.error,
                "a resource cannot be read: what was made of it stays as it is"
            );
        }
    });
    follow(events.boxed(), backoff, changed)
}
