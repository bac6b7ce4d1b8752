//! What became of everything, written into the statuses on the hub.
//!
//! It follows the plans and the reports of the clusters at its own pace: a status that is a second
//! late harms nobody, and a thousand clusters that report at once are one write a policy.
//!
//! A new leader does not know yet what the clusters have. As long as it finds that out, and for
//! [`FIRST`] at most, the statuses stay as the leader before left them: a restart without a change
//! takes nothing back that was true before and is true afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, Resource, ResourceExt};
use spillway_api::mesh_cluster::Access;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::judge;
use super::ledger::{Due, Ledger};
use super::report::{ClusterReport, Reports, Snapshot};
use crate::clusters::call::Failure;
use crate::metrics::{ClusterState, Metrics, PolicyState, Resource as Kind};
use crate::observe::read::Unreadable;
use crate::serve::Pulse;
use crate::status::{self, Member, Progress, Publisher, Stated};

/// Statuses are written at most once in this time.
const PACE: Duration = Duration::from_secs(1);

/// Long enough to compare a thousand clusters that answer; the others are told of all the same.
const FIRST: Duration = Duration::from_secs(5);

/// Writes statuses.
pub struct Statuses {
    hub: Client,
    publisher: Publisher,
    reports: Arc<Reports>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    metrics: Arc<Metrics>,
    policies: Ledger<BurstPolicy>,
    fleets: Ledger<Fleet>,
    clusters: Ledger<MeshCluster>,
    /// What was said to be unreadable, by UID and generation.
    told_unread: BTreeSet<(Option<String>, Option<i64>)>,
    /// Since when this process leads.
    since: Option<Instant>,
}

impl Statuses {
    /// Statuses of what an engine plans and reports, in the name of one replica.
    #[must_use]
    pub fn new(
        hub: Client,
        instance: &str,
        deadline: Duration,
        reports: Arc<Reports>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            publisher: Publisher::new(hub.clone(), instance, deadline),
            hub,
            reports,
            snapshot,
            metrics,
            policies: Ledger::new(Kind::BurstPolicy),
            fleets: Ledger::new(Kind::Fleet),
            clusters: Ledger::new(Kind::MeshCluster),
            told_unread: BTreeSet::new(),
            since: None,
        }
    }

    /// Writes until `end`, while this process leads.
    pub async fn run(mut self, pulse: Pulse, end: CancellationToken) {
        let mut reported = self.reports.changed();
        loop {
            pulse.beat(Instant::now());
            tokio::select! {
                () = end.cancelled() => return,
                changed = self.snapshot.changed() => if changed.is_err() { return },
                _ = reported.changed() => {}
                () = pulse.rest() => {}
            }
            reported.borrow_and_update();
            let snapshot = self.snapshot.borrow_and_update().clone();
            let outcome = self.all(&snapshot, &pulse, &end).await;
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(PACE) => {}
            }
            match outcome {
                Ok(true) => {}
                Ok(false) => reported.mark_changed(),
                Err(failure) => {
                    tracing::warn!(error = %failure, "a status could not be written");
                    reported.mark_changed();
                }
            }
        }
    }

    /// Says of what cannot be read that it cannot, once in each of its generations.
    async fn tell_unread<K>(&mut self, all: &[Arc<Unreadable>], condition: &'static str, now: &Time)
    where
        K: Resource<DynamicType = ()>,
    {
        for unreadable in all {
            let meta = &unreadable.object.metadata;
            let version = (meta.uid.clone(), meta.generation);
            if self.told_unread.contains(&version) {
                continue;
            }
            let told = self
                .publisher
                .publish_unreadable::<K>(&self.hub, unreadable, condition, now)
                .await;
            if let Err(failure) = &told {
                tracing::warn!(object = unreadable.key(), error = %failure, "the status of what cannot be read could not be written");
            }
            // What the hub refuses it will refuse again.
            if told.as_ref().map_or_else(Failure::is_local, |()| true) {
                self.told_unread.insert(version);
            }
        }
    }

    /// Tells whether everything was said that is to be said.
    async fn all(
        &mut self,
        snapshot: &Snapshot,
        pulse: &Pulse,
        end: &CancellationToken,
    ) -> Result<bool, Failure> {
        let office = snapshot.office.as_ref();
        let leads = || {
            pulse.beat(Instant::now());
            !end.is_cancelled() && office.is_some_and(super::Authority::holds)
        };
        if !leads() {
            self.metrics.states(&BTreeMap::new(), &BTreeMap::new());
            self.since = None;
            return Ok(true);
        }
        let reports = self.reports.all();
        let nothing = ClusterReport::default();
        let report = |cluster: &str| reports.get(cluster).unwrap_or(&nothing);
        let wanted = judge::wanted(snapshot);
        let wanted = |cluster: &str| wanted.get(cluster).copied().unwrap_or_default();
        let policies = policies(snapshot, report);
        let clusters = snapshot.clusters.iter().map(|resource| {
            let name = resource.name_any();
            let found = judge::found(resource, report(&name), snapshot, wanted(&name));
            (resource, found)
        });
        let clusters: Vec<_> = clusters.collect();
        let unread = &snapshot.unread;
        let of_clusters = clusters
            .iter()
            .map(|(resource, found)| judge::cluster_state(resource, found))
            .chain(unread.clusters.iter().map(|_| ClusterState::Unreadable));
        let of_policies = policies
            .iter()
            .map(|policy| {
                let programmed = status::programmed(&policy.stated, &policy.progress);
                judge::policy_state(&programmed)
            })
            .chain(unread.policies.iter().map(|_| PolicyState::Unreadable));
        self.metrics
            .states(&counted(of_clusters), &counted(of_policies));

        let since = *self.since.get_or_insert_with(Instant::now);
        let is_known =
            |cluster: &Arc<MeshCluster>| judge::is_known(cluster, report(&cluster.name_any()));
        if since.elapsed() < FIRST && !snapshot.clusters.iter().all(is_known) {
            return Ok(false);
        }
        let now = &Time(Timestamp::now());
        self.tell_unread::<BurstPolicy>(&unread.policies, "Accepted", now)
            .await;
        self.tell_unread::<Fleet>(&unread.fleets, "Ready", now)
            .await;
        self.tell_unread::<MeshCluster>(&unread.clusters, "Ready", now)
            .await;
        let due = policies.iter().map(|policy| Due {
            api: Api::namespaced(self.hub.clone(), &policy.namespace),
            seen: policy.resource,
            status: |old: &BurstPolicy| {
                let (before, stated) = (old.status.as_ref(), policy.stated.clone());
                let generation = policy.resource.metadata.generation;
                status::policy(before, generation, stated, &policy.progress, now)
            },
        });
        let due: Vec<_> = due.collect();
        let (publisher, metrics) = (&self.publisher, &self.metrics);
        self.policies.write(publisher, metrics, &due, leads).await?;
        let is_on_its_way = |resource: &MeshCluster, found| {
            judge::is_on_its_way(resource, found, report(&resource.name_any()))
        };
        let due = clusters.iter().map(|(resource, found)| Due {
            api: Api::all(self.hub.clone()),
            seen: *resource,
            status: |old: &MeshCluster| {
                let generation = resource.metadata.generation;
                let status = status::cluster(old.status.as_ref(), generation, found.clone(), now);
                match &old.status {
                    Some(told) if is_on_its_way(old, found) => told.clone(),
                    _ => status,
                }
            },
        });
        let due: Vec<_> = due.collect();
        self.clusters.write(publisher, metrics, &due, leads).await?;
        // What is only read is written to by no fleet.
        let only_read: BTreeSet<String> = snapshot
            .clusters
            .iter()
            .filter(|cluster| cluster.spec.access == Access::Discovered)
            .map(|cluster| cluster.name_any())
            .collect();
        let due = snapshot.fleets.iter().map(|resource| {
            let members = snapshot.plan.fleets.get(&resource.name_any());
            let members = members.into_iter().flatten();
            let members = members.filter(|name| !only_read.contains(*name));
            let members = members.map(|name| Member {
                name,
                state: judge::state(report(name)),
                score: Some(judge::score(report(name), wanted(name))),
            });
            let members: Vec<Member<'_>> = members.collect();
            let generation = resource.metadata.generation;
            Due {
                api: Api::all(self.hub.clone()),
                seen: resource,
                status: move |old: &Fleet| {
                    status::fleet(old.status.as_ref(), generation, &members, now)
                },
            }
        });
        let due: Vec<_> = due.collect();
        self.fleets.write(publisher, metrics, &due, leads).await?;
        Ok(!reports.values().any(judge::is_early))
    }
}

/// What is to be said of one policy.
struct Judged<'a> {
    resource: &'a Arc<BurstPolicy>,
    namespace: String,
    stated: Vec<Stated>,
    progress: BTreeMap<String, Progress>,
}

/// The policies that were planned.
fn policies<'a>(
    snapshot: &'a Snapshot,
    report: impl Fn(&str) -> &'a ClusterReport,
) -> Vec<Judged<'a>> {
    let policies = snapshot.policies.iter().filter_map(|resource| {
        let namespace = resource.namespace()?;
        let name = format!("{namespace}/{}", resource.name_any());
        let planned = snapshot.plan.policies.get(&name)?;
        let progress = planned.control_planes.iter().map(|cluster| {
            let generation = resource.metadata.generation;
            let progress = judge::progress(report(cluster), &name, generation);
            (cluster.clone(), progress)
        });
        Some(Judged {
            resource,
            namespace,
            stated: planned.conditions.iter().map(judge::stated).collect(),
            progress: progress.collect(),
        })
    });
    policies.collect()
}

fn counted<S: Ord>(states: impl Iterator<Item = S>) -> BTreeMap<S, i64> {
    let mut counts = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    counts
}
