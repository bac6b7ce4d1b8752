//! How every policy and cluster is, from what was planned and what the workers report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use spillway_api::MeshCluster;
use spillway_api::burst_policy::ApplyState;
use spillway_api::mesh_cluster::{Access, Versions};
use spillway_plan::conditions::{Condition, Status};

use super::report::{ClusterReport, Problem, Snapshot};
use crate::metrics::{ClusterState, PolicyState};
use crate::observe::index::NETWORK;
use crate::status::{self, Found, Holds, Progress, Stated};

/// After this time it is said of a cluster that it does not have a change.
const LATE: Duration = Duration::from_secs(10);

/// A planner's condition.
pub(super) fn stated(condition: &Condition) -> Stated {
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

/// Whether it was found out how a cluster is.
pub(super) fn is_known(resource: &MeshCluster, report: &ClusterReport) -> bool {
    let is_read = resource.spec.access == Access::Discovered && report.identity.is_some();
    let is_compared = report.ordered > 0 && report.reached == report.ordered;
    is_read || is_compared || trouble(report).is_some()
}

/// How far a cluster is with a policy.
pub(super) fn progress(report: &ClusterReport, policy: &str, generation: Option<i64>) -> Progress {
    let failed = report.failed.get(policy).cloned();
    let failed = failed.or_else(|| trouble(report).map(|problem| problem.message.clone()));
    let waits = report.waiting.get(policy);
    let state = match &failed {
        Some(_) => ApplyState::Failed,
        None if report.is_settled_for(policy) => ApplyState::Applied,
        None => ApplyState::Pending,
    };
    Progress {
        state,
        generation: generation.filter(|_| state == ApplyState::Applied),
        waits_for: waits.filter(|_| failed.is_none()).map(|it| it.reason),
        error: failed.or_else(|| waits.map(|problem| problem.message.clone())),
    }
}

/// How far a cluster is with everything.
pub(super) fn state(report: &ClusterReport) -> ApplyState {
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

/// How healthy a cluster is that is to have so many policies.
pub(super) fn score(report: &ClusterReport, wanted: u32) -> u32 {
    let lacking: BTreeSet<&String> = report.failed.keys().chain(report.waiting.keys()).collect();
    let lacking = u32::try_from(lacking.len()).unwrap_or(u32::MAX);
    status::score(
        is_reachable(report),
        report.problem.is_none(),
        wanted,
        lacking,
    )
}

/// How many policies every cluster is to have.
pub(super) fn wanted(snapshot: &Snapshot) -> BTreeMap<&str, u32> {
    let mut wanted = BTreeMap::new();
    let policies = snapshot.plan.policies.values();
    for cluster in policies.flat_map(|policy| &policy.control_planes) {
        *wanted.entry(cluster.as_str()).or_default() += 1;
    }
    wanted
}

/// How a cluster is, in one word.
pub(super) fn cluster_state(resource: &MeshCluster, found: &Found) -> ClusterState {
    let condition = |kind| found.stated.iter().find(|stated| stated.kind == kind);
    let holds = |kind| condition(kind).map(|stated| stated.holds);
    let reason = condition("Ready").map_or("", |stated| stated.reason);
    match (holds("Reachable"), reason) {
        (Some(Holds::False), _) => ClusterState::Unreachable,
        _ if resource.spec.access == Access::Discovered => ClusterState::Discovered,
        (_, "Applied") => ClusterState::Ready,
        (_, "InProgress") => ClusterState::Pending,
        _ => ClusterState::Failed,
    }
}

/// Whether a cluster had all and has just been given something new, which is not worth a word: a
/// change for a whole fleet would be two statuses and two events for each of its clusters.
pub(super) fn is_on_its_way(resource: &MeshCluster, found: &Found, report: &ClusterReport) -> bool {
    let Some(status) = &resource.status else {
        return false;
    };
    let had_all = status.observed_generation == resource.metadata.generation
        && status
            .conditions
            .iter()
            .any(|it| it.type_ == "Ready" && it.status == "True");
    let is_given = found.stated.iter().any(|it| it.reason == "InProgress");
    had_all && is_given && is_early(report)
}

/// Whether a cluster was given something a moment ago.
pub(super) fn is_early(report: &ClusterReport) -> bool {
    report.behind.is_some_and(|since| since.elapsed() < LATE)
}

/// How a policy is, in one word.
pub(super) fn policy_state(programmed: &Stated) -> PolicyState {
    match programmed.reason {
        "Programmed" => PolicyState::Programmed,
        "Pending" | "NoClusters" => PolicyState::Pending,
        "NotAccepted" => PolicyState::Refused,
        _ => PolicyState::Failed,
    }
}

/// What is known of a cluster.
pub(super) fn found(
    resource: &MeshCluster,
    report: &ClusterReport,
    snapshot: &Snapshot,
    wanted: u32,
) -> Found {
    let name = resource.name_any();
    let reachable = match trouble(report) {
        Some(problem) if !is_reachable(report) => Stated::new(
            "Reachable",
            Holds::False,
            problem.reason,
            problem.message.clone(),
        ),
        _ if is_reachable(report) => {
            let mut words = "its API server answers".to_owned();
            if let Some(why) = &report.unwatched_secret {
                words.push_str(&format!(
                    "; changes of its Secret are noticed only when the connection fails, since the Secrets of that namespace cannot be watched: {why}"
                ));
            }
            Stated::new("Reachable", Holds::True, "Answers", words)
        }
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
        Stated::new("Ready", Holds::False, "NotUsed", problem.clone())
    } else if resource.spec.access == Access::Discovered {
        let message = "Istio knows it and nobody attached it: it is read and not written to";
        Stated::new("Ready", Holds::False, "Discovered", message)
    } else if let Some((policy, error)) = report.failed.first_key_value() {
        let message = format!("{policy}: {error}");
        Stated::new("Ready", Holds::False, "WriteFailed", message)
    } else if let Some((_, problem)) = report.waiting.first_key_value() {
        let message = problem.message.clone();
        Stated::new("Ready", Holds::False, problem.reason, message)
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
    let network = report.network.iter();
    let network = network.map(|network| (NETWORK.to_owned(), network.clone()));
    Found {
        stated: vec![reachable, ready],
        uid: identity.map(|identity| identity.uid.clone()),
        versions: identity.map(|identity| Versions {
            kubernetes: Some(identity.version.clone()),
        }),
        system_labels: network.collect(),
        score: Some(score(report, wanted)),
        last_seen,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_no_news_of_a_cluster_for_ten_seconds() {
        let resource = |ready: &str| -> MeshCluster {
            let resource = json!({
                "apiVersion": "spillway.dev/v1alpha1",
                "kind": "MeshCluster",
                "metadata": {"name": "a", "generation": 2},
                "spec": {"secretRef": {"namespace": "spillway-system", "name": "a"}},
                "status": {"observedGeneration": 2, "conditions": [{
                    "type": "Ready",
                    "status": ready,
                    "reason": "Applied",
                    "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }]},
            });
            serde_json::from_value(resource).unwrap()
        };
        let now = Instant::now();
        let report = |behind| ClusterReport {
            ordered: 2,
            behind,
            ..ClusterReport::default()
        };
        let early = |resource: &MeshCluster, report: &ClusterReport| {
            let found = found(resource, report, &Snapshot::default(), 1);
            is_on_its_way(resource, &found, report)
        };
        assert!(early(&resource("True"), &report(Some(now))));
        assert!(!early(&resource("True"), &report(now.checked_sub(LATE))));
        assert!(!early(&resource("False"), &report(Some(now))));
        let mut changed = resource("True");
        changed.metadata.generation = Some(3);
        assert!(!early(&changed, &report(Some(now))));
        // What went wrong is said at once.
        let mut failed = report(Some(now));
        failed.failed = BTreeMap::from([("shop/worker".to_owned(), "no".to_owned())]);
        assert!(!early(&resource("True"), &failed));
    }
}
