//! How everything is, from the resources of the hub and what was counted.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::Serialize;
use spillway_api::burst_policy::{ApplyState, Enforcement, Mode};
use spillway_api::{BurstPolicy, Fleet, MeshCluster};

use crate::rates::{Rates, Sidecar, Traffic};

/// All that is shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    pub(super) policies: Vec<Policy>,
    pub(super) clusters: Vec<Member>,
    pub(super) fleets: Vec<Site>,
    /// Who counted the traffic, the sidecars or Prometheus.
    pub(super) sources: Vec<&'static str>,
    /// Sidecars that are not as they should be.
    pub(super) sidecars: Vec<Sidecar>,
    /// Clusters that were asked for their traffic, and those that did not tell.
    pub(super) asked: usize,
    pub(super) silent: Vec<Silent>,
    /// Clusters of whose sidecars only some were asked.
    pub(super) cut: Vec<Cut>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) is_fine: bool,
    pub(super) mode: &'static str,
    pub(super) enforcement: &'static str,
    pub(super) services: Vec<String>,
    pub(super) home: Option<String>,
    pub(super) overflow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forced: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
    pub(super) created: Option<String>,
    pub(super) clusters: Option<String>,
    /// Those that say that something is not as it should be.
    pub(super) conditions: Vec<Said>,
    /// All of them.
    #[serde(skip)]
    pub(super) all: Vec<Said>,
    pub(super) states: Vec<State>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) cluster: String,
    pub(super) is_fine: bool,
    pub(super) state: &'static str,
    pub(super) generation: Option<i64>,
    pub(super) since: Option<String>,
    pub(super) error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) is_fine: bool,
    pub(super) access: String,
    pub(super) kubernetes: Option<String>,
    pub(super) conditions: Vec<Said>,
    /// All of them.
    #[serde(skip)]
    pub(super) all: Vec<Said>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) is_fine: bool,
    pub(super) clusters: u32,
    pub(super) deployed: u32,
    pub(super) in_progress: u32,
    pub(super) failed: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    pub(super) r#type: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A cluster that did not tell how much traffic there is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Silent {
    pub(super) cluster: String,
    pub(super) why: String,
}

/// A cluster with more sidecars than are asked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cut {
    pub(super) cluster: String,
    pub(super) sidecars: usize,
}

impl Shown {
    pub(super) fn new(
        policies: &[BurstPolicy],
        clusters: &[MeshCluster],
        fleets: &[Fleet],
        rates: Rates,
    ) -> Self {
        let silent = rates.silent.iter().cloned();
        let cut = rates.cut.iter().cloned();
        Self {
            policies: policies.iter().map(|it| policy(it, &rates)).collect(),
            clusters: clusters.iter().map(member).collect(),
            fleets: fleets.iter().map(site).collect(),
            sources: rates.sources.iter().copied().collect(),
            asked: rates.asked,
            silent: silent
                .map(|(cluster, why)| Silent { cluster, why })
                .collect(),
            cut: cut
                .map(|(cluster, sidecars)| Cut { cluster, sidecars })
                .collect(),
            sidecars: rates.sidecars,
        }
    }

    /// Whether all is as it should be, as far as it is known.
    pub(super) fn is_fine(&self) -> bool {
        self.policies.iter().all(|it| it.is_fine)
            && self.clusters.iter().all(|it| it.is_fine)
            && self.fleets.iter().all(|it| it.is_fine)
            && !self.sidecars.iter().any(Sidecar::lacks)
    }

    /// The conditions of everything that has some, as it is declared now.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &Said> {
        let policies = self.policies.iter().flat_map(|it| &it.all);
        policies.chain(self.clusters.iter().flat_map(|it| &it.all))
    }
}

fn said(condition: &Condition) -> Said {
    Said {
        r#type: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// What is said of this generation: what was said of an older one tells nothing of it.
fn now(conditions: &[Condition], generation: Option<i64>) -> Vec<Said> {
    let of = |condition: &Condition| {
        let is_older = condition.observed_generation < generation;
        let mut said = said(condition);
        if condition.observed_generation.is_some() && is_older {
            "Unknown".clone_into(&mut said.status);
        }
        said
    };
    conditions.iter().map(of).collect()
}

/// Whether each of these conditions is there and holds, and what else is worth telling: those that
/// do not hold, and notes, which hold only where there is something to know.
fn judged(conditions: &[Condition], needed: &[&str]) -> (bool, Vec<Said>) {
    let is_needed = |condition: &&Condition| needed.contains(&condition.type_.as_str());
    let holds = conditions
        .iter()
        .filter(is_needed)
        .filter(|it| it.status == "True");
    let fine = holds.count() == needed.len();
    let notable = conditions
        .iter()
        .filter(|it| (it.status == "True") != is_needed(it));
    (fine, notable.map(said).collect())
}

fn policy(policy: &BurstPolicy, rates: &Rates) -> Policy {
    let (spec, status) = (&policy.spec, policy.status.clone().unwrap_or_default());
    let (is_fine, conditions) = judged(&status.conditions, &["Accepted", "Programmed"]);
    let rung = |rung: &spillway_api::burst_policy::Rung| {
        rung.cluster
            .clone()
            .or_else(|| rung.fleet.clone())
            .unwrap_or_default()
    };
    let state = |it: &spillway_api::burst_policy::ClusterState| State {
        cluster: it.name.clone(),
        is_fine: it.state == ApplyState::Applied,
        state: match it.state {
            ApplyState::Applied => "Applied",
            ApplyState::Pending => "Pending",
            ApplyState::Failed => "Failed",
        },
        generation: it.generation,
        since: it.since.as_ref().map(|since| since.0.to_string()),
        error: it.error.clone(),
    };
    let forced = spec.override_.as_ref();
    let namespace = policy.namespace().unwrap_or_default();
    let name = format!("{namespace}/{}", policy.name_any());
    let services = spec.target_refs.iter();
    let counted: Vec<_> = services
        .map(|it| format!("{namespace}/{}", it.name))
        .collect();
    let created = policy.creation_timestamp();
    Policy {
        traffic: rates.of(&counted, spec.home.as_deref()),
        created: created.map(|Time(created)| created.to_string()),
        all: now(&status.conditions, policy.metadata.generation),
        name,
        is_fine,
        mode: match spec.mode {
            Mode::Spill => "Spill",
            Mode::Switch => "Switch",
        },
        enforcement: match spec.enforcement {
            Enforcement::Active => "Active",
            Enforcement::Shadow => "Shadow",
        },
        services: spec
            .target_refs
            .iter()
            .map(|target| target.name.clone())
            .collect(),
        home: spec.home.clone(),
        overflow: spec.overflow.iter().map(rung).collect(),
        forced: forced.map(|it| format!("{:?} until {}", it.force, it.until.0)),
        clusters: status.summary,
        conditions,
        states: status.clusters.iter().map(state).collect(),
    }
}

fn member(cluster: &MeshCluster) -> Member {
    let status = cluster.status.clone().unwrap_or_default();
    let (is_fine, conditions) = judged(&status.conditions, &["Reachable", "Ready"]);
    Member {
        name: cluster.name_any(),
        is_fine,
        access: format!("{:?}", cluster.spec.access),
        kubernetes: status.versions.and_then(|versions| versions.kubernetes),
        conditions,
        all: now(&status.conditions, cluster.metadata.generation),
    }
}

fn site(fleet: &Fleet) -> Site {
    let status = fleet.status.clone().unwrap_or_default();
    Site {
        name: fleet.name_any(),
        is_fine: status.failed == 0 && fleet.status.is_some(),
        clusters: status.clusters,
        deployed: status.deployed,
        in_progress: status.in_progress,
        failed: status.failed,
    }
}

/// How long ago it was, as kubectl writes it.
pub(super) fn age(since: Option<&str>) -> Option<String> {
    let since: Timestamp = since?.parse().ok()?;
    let seconds = Timestamp::now().as_second() - since.as_second();
    let age = match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    };
    Some(age)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Who waits for a change must not be told of what was before it.
    #[test]
    fn a_condition_of_what_was_before_is_unknown() {
        let condition = |observed: Option<i64>| -> Condition {
            let condition = json!({
                "type": "Programmed", "status": "True", "reason": "Programmed", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": observed,
            });
            serde_json::from_value(condition).unwrap()
        };
        for (observed, status) in [(Some(1), "Unknown"), (Some(2), "True"), (None, "True")] {
            let now = now(&[condition(observed)], Some(2));
            assert_eq!(now[0].status, status, "{observed:?}");
        }
    }
}
