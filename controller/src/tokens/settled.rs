//! The clusters that have not got the tokens yet.
//!
//! What counts is every cluster in which a filter of ours may run, also one that nobody can say
//! anything of now: it is taken for one that has the oldest tokens. Only a cluster whose MeshCluster
//! is gone is not waited for, and one in which no filter can run ([`spillway_plan::Plan::idle`]).

use std::collections::BTreeMap;

use kube::ResourceExt;
use spillway_plan::settings::Tokens;

use crate::engine::{ClusterReport, Reports, Snapshot};

/// Whether every cluster has what was planned with these tokens; else, what is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// They all have.
    Yes,
    /// Nothing was planned with them yet.
    Unplanned,
    /// These have not, by MeshCluster, with the reason in words.
    Waiting(BTreeMap<String, String>),
}

/// Whether every cluster has what was planned with these tokens.
#[must_use]
pub fn settled(tokens: &Tokens, snapshot: &Snapshot, reports: &Reports) -> Settled {
    if snapshot.tokens.as_ref() != Some(tokens) {
        return Settled::Unplanned;
    }
    let reports = reports.all();
    let report = |name: &str| reports.get(name).cloned().unwrap_or_default();
    let mut waiting = BTreeMap::new();
    for cluster in &snapshot.clusters {
        let name = cluster.name_any();
        let own = report(&name);
        let is_twin = |problem: &crate::engine::report::Problem| problem.reason == "AttachedTwice";
        if snapshot.plan.idle.contains(&name) || own.problem.as_ref().is_some_and(is_twin) {
            continue;
        }
        let plane = cluster.spec.control_plane.as_deref().unwrap_or(&name);
        let why = away(&own)
            .or_else(|| away(&report(plane)))
            .or_else(|| {
                snapshot
                    .plan
                    .clusters
                    .get(&name)
                    .map(|why| format!("it {why}"))
            })
            .or_else(|| behind(plane, &report(plane), snapshot));
        waiting.extend(why.map(|why| (name, why)));
    }
    let unread = snapshot.unread.clusters.iter().map(|cluster| cluster.key());
    waiting.extend(unread.map(|name| (name, "its MeshCluster cannot be read".to_owned())));
    if waiting.is_empty() {
        Settled::Yes
    } else {
        Settled::Waiting(waiting)
    }
}

fn away(report: &ClusterReport) -> Option<String> {
    let problem = report.problem.as_ref().or(report.unseen.as_ref());
    match (problem, &report.identity) {
        (Some(problem), _) => Some(problem.message.clone()),
        (None, None) => Some("it has not answered yet".to_owned()),
        (None, Some(_)) => None,
    }
}

fn behind(plane: &str, report: &ClusterReport, snapshot: &Snapshot) -> Option<String> {
    let Some(wanted) = snapshot.plan.control_planes.get(plane) else {
        return Some("not all of it was seen yet".to_owned());
    };
    if let Some((policy, error)) = report.failed.first_key_value() {
        return Some(format!("{policy}: {error}"));
    }
    if report.ordered == 0 || !report.is_settled() {
        return Some("it is being written".to_owned());
    }
    // What is held keeps the tokens that it was written with.
    let held = wanted.held.first();
    held.map(|key| {
        format!(
            "{}/{} stays as it is for now, with the tokens that it has",
            key.namespace, key.name
        )
    })
}
