//! A policy is gone only after it was cleaned up.
//!
//! Nothing of a policy is written before it carries our finalizer, and it keeps that until every
//! cluster has been given an intent without it and carried it out. A cluster that is away does not
//! hold this up for ever: after [`super::Options::abandon_after`] the policy goes without it. That
//! loses nothing, since objects are removed because nobody wants them and not because a policy was
//! deleted: the cluster is cleaned when it is back. For the same reason the finalizer can be taken
//! off by hand at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use spillway_api::BurstPolicy;

use crate::clusters::call::{Failure, find};

/// The finalizer.
pub const FINALIZER: &str = "spillway.dev/cleanup";

/// Whether a policy carries it.
#[must_use]
pub fn has(policy: &ObjectMeta) -> bool {
    let names = policy.finalizers.iter().flatten();
    names.into_iter().any(|name| name == FINALIZER)
}

/// Whether a policy is to be planned: it is wanted, and will not go unnoticed.
#[must_use]
pub fn is_live(policy: &BurstPolicy) -> bool {
    policy.metadata.deletion_timestamp.is_none() && has(&policy.metadata)
}

/// Puts it on.
///
/// # Errors
/// When the hub does not do it; a policy that has changed meanwhile comes again by itself.
pub async fn add(hub: &Client, policy: &ObjectMeta, deadline: Duration) -> Result<(), Failure> {
    let mut names = policy.finalizers.clone().unwrap_or_default();
    names.push(FINALIZER.to_owned());
    write(hub, policy, &names, deadline).await
}

/// Takes it off.
///
/// # Errors
/// As [`add`].
pub async fn remove(hub: &Client, policy: &ObjectMeta, deadline: Duration) -> Result<(), Failure> {
    let mut names = policy.finalizers.clone().unwrap_or_default();
    names.retain(|name| name != FINALIZER);
    write(hub, policy, &names, deadline).await
}

async fn write(
    hub: &Client,
    policy: &ObjectMeta,
    names: &[String],
    deadline: Duration,
) -> Result<(), Failure> {
    let namespace = policy.namespace.as_deref().unwrap_or_default();
    let name = policy.name.as_deref().unwrap_or_default();
    let api: Api<BurstPolicy> = Api::namespaced(hub.clone(), namespace);
    let patch = Patch::Merge(json!({"metadata": {
        "resourceVersion": policy.resource_version,
        "finalizers": names,
    }}));
    let params = PatchParams::default();
    // One that is gone needs no finalizer. Of what is there only the metadata are read: it may be
    // nothing that can be.
    let patched = find(deadline, api.patch_metadata(name, &params, &patch)).await;
    patched.map(drop)
}

/// The policies that the last orders were given without, and since when, by UID.
#[derive(Debug, Default)]
pub(super) struct Ending {
    since: BTreeMap<String, Instant>,
}

impl Ending {
    /// Orders were given, without the policies among these that are being deleted.
    pub(super) fn ordered_without(&mut self, policies: &[ObjectMeta], now: Instant) {
        let ending = policies
            .iter()
            .filter(|policy| policy.deletion_timestamp.is_some());
        let ending: BTreeSet<String> = ending.filter_map(|policy| policy.uid.clone()).collect();
        self.since.retain(|uid, _| ending.contains(uid));
        for uid in ending {
            self.since.entry(uid).or_insert(now);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// How long a policy has waited to be cleaned up.
    pub(super) fn waited(&self, policy: &ObjectMeta, now: Instant) -> Option<Duration> {
        let since = self.since.get(policy.uid.as_ref()?)?;
        Some(now.saturating_duration_since(*since))
    }
}
