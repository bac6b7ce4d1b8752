//! What became of a policy.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use spillway_api::BurstPolicyStatus;
use spillway_api::burst_policy::{ApplyState, ClusterState};

use super::conditions::{Holds, Stated, conditions};
use super::text::{bounded, some};
use super::whole_seconds;

/// Clusters that are named; the schema allows no more.
const MAX_NAMED: usize = 64;
/// An error that is longer is cut: there are up to 64 of them. The schema takes 1,024 characters.
const MAX_ERROR: usize = 256;

/// How far one cluster is with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How far.
    pub state: ApplyState,
    /// The generation of the policy that it has.
    pub generation: Option<i64>,
    /// The reason for which it waits although the cluster is well.
    pub waits_for: Option<&'static str>,
    /// Why it does not have the newest.
    pub error: Option<String>,
}

/// The status of a policy: what the planner stated about it, what became of it in every cluster
/// that should have it, and `Programmed`, which follows from both.
#[must_use]
pub fn policy(
    before: Option<&BurstPolicyStatus>,
    generation: Option<i64>,
    stated: Vec<Stated>,
    clusters: &BTreeMap<String, Progress>,
    now: &Time,
) -> BurstPolicyStatus {
    let now = &whole_seconds(now);
    let programmed = programmed(&stated, clusters);
    // Both are what people look for first.
    let (accepted, others): (Vec<_>, Vec<_>) = stated
        .into_iter()
        .partition(|stated| stated.kind == "Accepted");
    let stated = accepted.into_iter().chain([programmed]).chain(others);
    let old = before.map(|before| before.conditions.as_slice());
    let count = |state| {
        let found = clusters.values().filter(|cluster| cluster.state == state);
        u32::try_from(found.count()).unwrap_or(u32::MAX)
    };
    let applied = count(ApplyState::Applied);
    let desired = u32::try_from(clusters.len()).unwrap_or(u32::MAX);
    BurstPolicyStatus {
        observed_generation: generation,
        conditions: conditions(old.unwrap_or_default(), stated, generation, now),
        summary: Some(format!("{applied}/{desired}")),
        desired,
        applied,
        failed: count(ApplyState::Failed),
        clusters: named(before, clusters, now),
    }
}

/// Whether all clusters have a policy.
#[must_use]
pub fn programmed(stated: &[Stated], clusters: &BTreeMap<String, Progress>) -> Stated {
    let say = |holds, reason, message| Stated::new("Programmed", holds, reason, message);
    let mut accepted = stated.iter().filter(|stated| stated.kind == "Accepted");
    if accepted.any(|accepted| accepted.holds == Holds::False) {
        let message = "it is not accepted, so nothing is written".to_owned();
        return say(Holds::False, "NotAccepted", message);
    }
    let of = |state| {
        let found = clusters
            .iter()
            .filter(move |(_, cluster)| cluster.state == state);
        found.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    let (failed, pending) = (of(ApplyState::Failed), of(ApplyState::Pending));
    let total = clusters.len();
    if !failed.is_empty() {
        let message = format!(
            "{} of {total} clusters could not be written to: {}",
            failed.len(),
            some(failed)
        );
        say(Holds::False, "Failed", message)
    } else if let Some((reason, message)) = waits(clusters) {
        say(Holds::False, reason, message)
    } else if !pending.is_empty() {
        let message = format!(
            "{} of {total} clusters are to be written: {}",
            pending.len(),
            some(pending)
        );
        say(Holds::False, "Pending", message)
    } else if total == 0 {
        say(
            Holds::False,
            "NoClusters",
            "no cluster is to have it".to_owned(),
        )
    } else {
        say(
            Holds::True,
            "Programmed",
            format!("all of {total} clusters have it"),
        )
    }
}

/// What clusters wait for, though they are well.
fn waits(clusters: &BTreeMap<String, Progress>) -> Option<(&'static str, String)> {
    let waiting = || clusters.iter().filter(|(_, it)| it.waits_for.is_some());
    let (_, first) = waiting().next()?;
    let names = some(waiting().map(|(name, _)| name.as_str()));
    let message = format!(
        "{} of {} clusters wait: {}: {names}",
        waiting().count(),
        clusters.len(),
        first.error.as_deref().unwrap_or_default()
    );
    Some((first.waits_for?, message))
}

/// All clusters where they are few; else those that do not have it.
fn named(
    before: Option<&BurstPolicyStatus>,
    clusters: &BTreeMap<String, Progress>,
    now: &Time,
) -> Vec<ClusterState> {
    let old = before.map(|before| before.clusters.as_slice());
    let old = old.unwrap_or_default();
    let few = clusters.len() <= MAX_NAMED;
    let mut named: Vec<(u8, &String, &Progress)> = clusters
        .iter()
        .filter(|(_, cluster)| few || cluster.state != ApplyState::Applied)
        .map(|(name, cluster)| (rank(cluster.state), name, cluster))
        .collect();
    named.sort_by_key(|(rank, name, _)| (*rank, *name));
    named.truncate(MAX_NAMED);
    let state = |(_, name, cluster): (u8, &String, &Progress)| {
        let known = old.iter().find(|known| known.name == *name);
        let before = known.and_then(|known| known.since.clone());
        let since = if known.is_some_and(|known| known.state == cluster.state) {
            before
        } else {
            before.max(Some(now.clone()))
        };
        let error = cluster.error.as_deref();
        ClusterState {
            name: name.clone(),
            // What it had before it has still.
            generation: cluster.generation.or_else(|| known?.generation),
            state: cluster.state,
            error: error.map(|error| bounded(error, MAX_ERROR)),
            since: since.or_else(|| Some(now.clone())),
        }
    };
    named.into_iter().map(state).collect()
}

/// What is worst comes first.
fn rank(state: ApplyState) -> u8 {
    match state {
        ApplyState::Failed => 0,
        ApplyState::Pending => 1,
        ApplyState::Applied => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    fn progress(state: ApplyState) -> Progress {
        let error = (state == ApplyState::Failed).then(|| "no answer within 10 s".to_owned());
        Progress {
            state,
            generation: (state == ApplyState::Applied).then_some(1),
            waits_for: None,
            error,
        }
    }

    fn clusters(states: &[(&str, ApplyState)]) -> BTreeMap<String, Progress> {
        let entry = |(name, state): &(&str, ApplyState)| ((*name).to_owned(), progress(*state));
        states.iter().map(entry).collect()
    }

    fn accepted(holds: Holds) -> Vec<Stated> {
        vec![Stated::new(
            "Accepted",
            holds,
            "Accepted",
            "it is carried out",
        )]
    }

    #[test]
    fn programmed_follows_from_the_clusters() {
        use ApplyState::{Applied, Failed, Pending};
        for (holds, states, reason, message, summary) in [
            (
                Holds::True,
                &[][..],
                "NoClusters",
                "no cluster is to have it",
                "0/0",
            ),
            (
                Holds::True,
                &[("a", Applied), ("b", Applied)],
                "Programmed",
                "all of 2 clusters have it",
                "2/2",
            ),
            (
                Holds::True,
                &[("a", Applied), ("b", Pending)],
                "Pending",
                "1 of 2 clusters are to be written: b",
                "1/2",
            ),
            (
                Holds::True,
                &[("a", Failed), ("b", Pending), ("c", Failed)],
                "Failed",
                "2 of 3 clusters could not be written to: a, c",
                "0/3",
            ),
            (
                Holds::False,
                &[("a", Applied)],
                "NotAccepted",
                "it is not accepted, so nothing is written",
                "1/1",
            ),
            (
                Holds::Unknown,
                &[("a", Applied)],
                "Programmed",
                "all of 1 clusters have it",
                "1/1",
            ),
        ] {
            let status = policy(None, Some(1), accepted(holds), &clusters(states), &at(0));
            let condition = &status.conditions[1];
            assert_eq!(condition.type_, "Programmed");
            assert_eq!(condition.reason, reason);
            assert_eq!(condition.message, message);
            assert_eq!(condition.status == "True", reason == "Programmed");
            assert_eq!(status.summary.as_deref(), Some(summary));
        }
    }

    #[test]
    fn a_state_keeps_its_time_and_the_worst_comes_first() {
        use ApplyState::{Applied, Failed, Pending};
        let first = clusters(&[("a", Applied), ("b", Pending), ("c", Failed)]);
        let first = policy(None, Some(1), accepted(Holds::True), &first, &at(10));
        let names: Vec<&str> = first.clusters.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        let second = clusters(&[("a", Applied), ("b", Applied), ("c", Failed)]);
        let second = policy(
            Some(&first),
            Some(1),
            accepted(Holds::True),
            &second,
            &at(20),
        );
        let since: Vec<_> = second
            .clusters
            .iter()
            .map(|c| (c.name.as_str(), c.since.clone()))
            .collect();
        assert_eq!(
            since,
            [
                ("c", Some(at(10))),
                ("a", Some(at(10))),
                ("b", Some(at(20)))
            ]
        );
        // The clock of another replica is behind: time goes forward all the same.
        let third = clusters(&[("a", Failed)]);
        let third = policy(
            Some(&second),
            Some(1),
            accepted(Holds::True),
            &third,
            &at(5),
        );
        assert_eq!(third.clusters[0].since, Some(at(10)));
    }

    #[test]
    fn without_a_change_the_status_is_the_same() {
        let states = clusters(&[("a", ApplyState::Applied), ("b", ApplyState::Failed)]);
        let first = policy(None, Some(1), accepted(Holds::True), &states, &at(10));
        let second = policy(
            Some(&first),
            Some(1),
            accepted(Holds::True),
            &states,
            &at(20),
        );
        assert_eq!(first, second);
    }

    #[test]
    fn of_many_clusters_only_the_unhealthy_are_named() {
        let name = |n: usize| format!("cluster-{n:04}");
        let mut states: BTreeMap<String, Progress> = (0..3000)
            .map(|n| (name(n), progress(ApplyState::Applied)))
            .collect();
        states.insert(name(1234), progress(ApplyState::Failed));
        states.insert(name(77), progress(ApplyState::Pending));
        let status = policy(None, Some(1), accepted(Holds::True), &states, &at(0));
        let names: Vec<&str> = status.clusters.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["cluster-1234", "cluster-0077"]);
        assert_eq!(
            (status.desired, status.applied, status.failed),
            (3000, 2998, 1)
        );
    }

    /// etcd takes objects of up to 1.5 MiB, and every watcher is sent each change of them.
    #[test]
    fn with_3000_clusters_that_fail_at_length_a_status_stays_small() {
        let failed = |n: usize| {
            let progress = Progress {
                state: ApplyState::Failed,
                generation: Some(i64::MAX),
                waits_for: None,
                error: Some("\u{7f}".repeat(100_000)),
            };
            (format!("{n:0>253}"), progress)
        };
        let states: BTreeMap<String, Progress> = (0..3000).map(failed).collect();
        let stated: Vec<Stated> = [
            "Accepted",
            "Conflicted",
            "BounceDisabled",
            "GatewayNotCovered",
            "RoutesNotCovered",
            "ClientsNotCovered",
            "RungsPassedOver",
        ]
        .map(|kind| Stated::new(kind, Holds::True, "Reason", "x".repeat(1_000_000)))
        .to_vec();
        let status = policy(None, Some(i64::MAX), stated, &states, &at(0));
        assert_eq!(status.clusters.len(), 64);
        assert_eq!(status.failed, 3000);
        let size = serde_json::to_vec(&status).unwrap().len();
        assert!(size < 64 * 1024, "{size} bytes");
    }
}
