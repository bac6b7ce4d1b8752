//! What became of everything, written into the statuses on the hub.
//!
//! It follows the plans and the reports of the clusters at its own pace: a status that is a second
//! late harms nobody, and a thousand clusters that report at once are one write a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spillway_api::burst_policy::ApplyState;
use spillway_api::mesh_cluster::{Access, Versions};
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use spillway_plan::conditions::{Condition, Status};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::report::{ClusterReport, Problem, Reports, Snapshot};
use crate::clusters::call::{Failure, find};
use crate::status::{
    self, Conditions, Found, Holds, Member, Progress, Published, Publisher, Stated,
};

/// Statuses are written at most once in this time.
const PACE: Duration = Duration::from_secs(1);

/// Writes statuses.
pub struct Statuses {
    hub: Client,
    publisher: Publisher,
    reports: Arc<Reports>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    deadline: Duration,
    policies: BTreeMap<String, BurstPolicy>,
    fleets: BTreeMap<String, Fleet>,
    clusters: BTreeMap<String, MeshCluster>,
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
    ) -> Self {
        Self {
            publisher: Publisher::new(hub.clone(), instance, deadline),
            hub,
            reports,
            snapshot,
            deadline,
            policies: BTreeMap::new(),
            fleets: BTreeMap::new(),
            clusters: BTreeMap::new(),
        }
    }

    /// Writes until `end`, while this process leads.
    pub async fn run(mut self, end: CancellationToken) {
        let mut reported = self.reports.changed();
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                changed = self.snapshot.changed() => if changed.is_err() { return },
                _ = reported.changed() => {}
            }
            reported.borrow_and_update();
            let snapshot = self.snapshot.borrow_and_update().clone();
            let outcome = self.all(&snapshot).await;
            tokio::time::sleep(PACE).await;
            if let Err(failure) = outcome {
                tracing::warn!(error = %failure, "a status could not be written");
                reported.mark_changed();
            }
        }
    }

    async fn all(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let reports = self.reports.all();
        let leads = || {
            snapshot
                .office
                .as_ref()
                .is_some_and(super::Authority::holds)
        };
        let now = Time(Timestamp::now());
        for resource in snapshot.policies.iter().filter(|_| leads()) {
            let Some(namespace) = resource.namespace() else {
                continue;
            };
            let name = format!("{namespace}/{}", resource.name_any());
            let Some(report) = snapshot.plan.policies.get(&name) else {
                continue;
            };
            let stated: Vec<Stated> = report.conditions.iter().map(stated).collect();
            let generation = resource.metadata.generation;
            let progress = report.control_planes.iter().map(|cluster| {
                let report = reports.get(cluster).cloned().unwrap_or_default();
                (cluster.clone(), progress(&report, &name, generation))
            });
            let progress: BTreeMap<String, Progress> = progress.collect();
            let api = Api::namespaced(self.hub.clone(), &namespace);
            let status = |old: &BurstPolicy| {
                let before = old.status.as_ref();
                status::policy(before, generation, stated.clone(), &progress, &now)
            };
            self.write(&api, resource, status, |this| &mut this.policies)
                .await?;
        }
        for resource in snapshot.clusters.iter().filter(|_| leads()) {
            let report = reports
                .get(&resource.name_any())
                .cloned()
                .unwrap_or_default();
            let found = found(resource, &report, snapshot);
            let api = Api::all(self.hub.clone());
            let generation = resource.metadata.generation;
            let status = |old: &MeshCluster| {
                status::cluster(old.status.as_ref(), generation, found.clone(), &now)
            };
            self.write(&api, resource, status, |this| &mut this.clusters)
                .await?;
        }
        // What is only read is written to by no fleet.
        let only_read: BTreeSet<String> = snapshot
            .clusters
            .iter()
            .filter(|cluster| cluster.spec.access == Access::Discovered)
            .map(|cluster| cluster.name_any())
            .collect();
        for resource in snapshot.fleets.iter().filter(|_| leads()) {
            let members = snapshot.plan.fleets.get(&resource.name_any());
            let members: Vec<Member<'_>> = members
                .into_iter()
                .flatten()
                .filter(|name| !only_read.contains(*name))
                .map(|name| {
                    let report = reports.get(name).cloned().unwrap_or_default();
                    Member {
                        name,
                        state: state(&report),
                        score: Some(score(&report)),
                    }
                })
                .collect();
            let api = Api::all(self.hub.clone());
            let generation = resource.metadata.generation;
            let status =
                |old: &Fleet| status::fleet(old.status.as_ref(), generation, &members, &now);
            self.write(&api, resource, status, |this| &mut this.fleets)
                .await?;
        }
        Ok(())
    }

    /// Writes one status, on top of the newest object that is known. What was written comes back
    /// by a watch only later, so it is kept until then.
    async fn write<K>(
        &mut self,
        api: &Api<K>,
        seen: &Arc<K>,
        status: impl Fn(&K) -> K::Status,
        kept: impl Fn(&mut Self) -> &mut BTreeMap<String, K>,
    ) -> Result<(), Failure>
    where
        K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Serialize,
        K::Status: Conditions + PartialEq,
    {
        let uid = seen.uid().unwrap_or_default();
        let written = kept(self).get(&uid).cloned();
        let mut object = written
            .filter(|written| written.meta().generation >= seen.meta().generation)
            .unwrap_or_else(|| K::clone(seen));
        for _ in 0..2 {
            let wanted = status(&object);
            match self.publisher.publish(api, &object, wanted).await? {
                Published::Unchanged => return Ok(()),
                Published::Written(written) => {
                    kept(self).insert(uid, *written);
                    return Ok(());
                }
                Published::Outdated => {
                    match find(self.deadline, api.get(&seen.name_any())).await? {
                        Some(newest) if newest.uid().unwrap_or_default() == uid => object = newest,
                        _ => {
                            kept(self).remove(&uid);
                            return Ok(());
                        }
                    }
                }
            }
        }
        kept(self).insert(uid, object);
        Ok(())
    }
}

fn stated(condition: &Condition) -> Stated {
    let holds = match condition.status {
        Status::True => Holds::True,
        Status::False => Holds::False,
        Status::Unknown => Holds::Unknown,
    };
    Stated::new(
        condition.kind.as_str(),
        holds,
        condition.reason,
        condition.message.clone(),
    )
}

fn trouble(report: &ClusterReport) -> Option<&Problem> {
    report.problem.as_ref().or(report.unseen.as_ref())
}

fn progress(report: &ClusterReport, policy: &str, generation: Option<i64>) -> Progress {
    let failed = report.failed.get(policy).cloned();
    let error = failed.or_else(|| trouble(report).map(|problem| problem.message.clone()));
    let is_applied = report.ordered > 0 && report.applied == report.ordered;
    let state = match &error {
        Some(_) => ApplyState::Failed,
        None if is_applied || report.ordered > 0 && !report.failed.is_empty() => {
            ApplyState::Applied
        }
        None => ApplyState::Pending,
    };
    Progress {
        state,
        generation: generation.filter(|_| state == ApplyState::Applied),
        error,
    }
}

fn state(report: &ClusterReport) -> ApplyState {
    if trouble(report).is_some() || !report.failed.is_empty() {
        ApplyState::Failed
    } else if report.ordered > 0 && report.is_settled() {
        ApplyState::Applied
    } else {
        ApplyState::Pending
    }
}

fn is_reachable(report: &ClusterReport) -> bool {
    let away = |problem: &Problem| {
        matches!(
            problem.reason,
            "NoAnswer" | "Unreachable" | "Unauthorized" | "NoKubeconfig" | "KubeconfigUnusable"
        )
    };
    report.identity.is_some() && !trouble(report).is_some_and(away)
}

fn score(report: &ClusterReport) -> u32 {
    let writable = report.problem.is_none() && report.failed.is_empty();
    status::score(is_reachable(report), writable, 0, 0)
}

fn found(resource: &MeshCluster, report: &ClusterReport, snapshot: &Snapshot) -> Found {
    let name = resource.name_any();
    let reachable = match trouble(report) {
        Some(problem) if !is_reachable(report) => Stated::new(
            "Reachable",
            Holds::False,
            problem.reason,
            problem.message.clone(),
        ),
        _ if is_reachable(report) => Stated::new(
            "Reachable",
            Holds::True,
            "Answers",
            "its API server answers",
        ),
        _ => Stated::new(
            "Reachable",
            Holds::Unknown,
            "Connecting",
            "it was not asked yet",
        ),
    };
    let ready = if let Some(problem) = trouble(report) {
        Stated::new(
            "Ready",
            Holds::False,
            problem.reason,
            problem.message.clone(),
        )
    } else if let Some(problem) = snapshot.plan.clusters.get(&name) {
        Stated::new("Ready", Holds::False, "NotUsed", format!("it {problem}"))
    } else if resource.spec.access == Access::Discovered {
        let message = "Istio knows it and nobody attached it: it is read and not written to";
        Stated::new("Ready", Holds::False, "Discovered", message)
    } else if let Some((policy, error)) = report.failed.first_key_value() {
        let message = format!("{policy}: {error}");
        Stated::new("Ready", Holds::False, "WriteFailed", message)
    } else if report.ordered > 0 && report.is_settled() {
        Stated::new("Ready", Holds::True, "Applied", "it has all that it should")
    } else {
        Stated::new("Ready", Holds::False, "InProgress", "it is to be written")
    };
    let identity = report.identity.as_ref();
    let last_seen = report.last_seen.and_then(|at| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let seconds = i64::try_from(since.as_secs()).ok()?;
        Timestamp::from_second(seconds).ok().map(Time)
    });
    Found {
        stated: vec![reachable, ready],
        uid: identity.map(|identity| identity.uid.clone()),
        versions: identity.map(|identity| Versions {
            kubernetes: Some(identity.version.clone()),
            istio: None,
        }),
        score: Some(score(report)),
        last_seen,
        ..Found::default()
    }
}
