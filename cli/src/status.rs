//! How policies, clusters and fleets are, as the controller reports it.

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;
use spillway_api::burst_policy::{ApplyState, Enforcement, Mode};
use spillway_api::{BurstPolicy, Fleet, MeshCluster};

use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::output::{self, FINE, Output, WRONG};
use crate::policies::{missing, named};

/// Show how policies, clusters and fleets are
///
/// Shows what the controller reports on the hub: which policies are in force in which clusters, and
/// why they are not. Ends with 1 where something is not as it should be.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # All of it
  spillway status

  # One policy, for a program
  spillway status default/worker -o json")]
pub(crate) struct Status {
    /// One policy: NAME, or NAMESPACE/NAME. Without it all of the hub, or of --namespace
    policy: Option<String>,

    /// The form of what is shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    policies: Vec<Policy>,
    clusters: Vec<Member>,
    fleets: Vec<Site>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    name: String,
    is_fine: bool,
    mode: &'static str,
    enforcement: &'static str,
    services: Vec<String>,
    home: Option<String>,
    overflow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forced: Option<String>,
    clusters: Option<String>,
    /// Those that say that something is not as it should be.
    conditions: Vec<Said>,
    states: Vec<State>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    cluster: String,
    is_fine: bool,
    state: &'static str,
    generation: Option<i64>,
    since: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    name: String,
    is_fine: bool,
    access: String,
    kubernetes: Option<String>,
    conditions: Vec<Said>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Site {
    name: String,
    is_fine: bool,
    clusters: u32,
    deployed: u32,
    in_progress: u32,
    failed: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

pub(crate) fn run(status: &Status, connection: &Connection) -> Result<Exit, Failure> {
    let shown = crate::wait(look(status, connection))?;
    output::tell(status.output, &shown, text)?;
    let fine = shown.policies.iter().all(|it| it.is_fine)
        && shown.clusters.iter().all(|it| it.is_fine)
        && shown.fleets.iter().all(|it| it.is_fine);
    Ok(if fine { Exit::Fine } else { Exit::Findings })
}

async fn look(status: &Status, connection: &Connection) -> Result<Shown, Failure> {
    let hub = connection.hub().await?;
    let client = || hub.client.clone();
    if let Some(policy) = &status.policy {
        let (namespace, name) = named(policy, connection, &hub);
        let policies: Api<BurstPolicy> = Api::namespaced(client(), &namespace);
        let doing = format!("the policy {namespace}/{name} cannot be read");
        let found = policies.get(&name).await;
        let found = found.map_err(|error| missing(&hub, &doing, &error))?;
        return Ok(Shown {
            policies: vec![self::policy(&found)],
            clusters: Vec::new(),
            fleets: Vec::new(),
        });
    }
    let policies = match &connection.namespace {
        Some(namespace) => Api::namespaced(client(), namespace),
        None => Api::all(client()),
    };
    let policies: Vec<BurstPolicy> = list(&hub, &policies).await?;
    let clusters: Vec<MeshCluster> = list(&hub, &Api::all(client())).await?;
    let fleets: Vec<Fleet> = list(&hub, &Api::all(client())).await?;
    Ok(Shown {
        policies: policies.iter().map(policy).collect(),
        clusters: clusters.iter().map(member).collect(),
        fleets: fleets.iter().map(site).collect(),
    })
}

/// All of a kind.
pub(crate) async fn list<T>(hub: &Cluster, of: &Api<T>) -> Result<Vec<T>, Failure>
where
    T: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let found = of.list(&ListParams::default()).await;
    let found = found.map_err(|error| hub.failed("its resources cannot be read", &error))?;
    Ok(found.items)
}

fn said(condition: &Condition) -> Said {
    Said {
        r#type: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
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

fn policy(policy: &BurstPolicy) -> Policy {
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
    Policy {
        name: format!(
            "{}/{}",
            policy.namespace().unwrap_or_default(),
            policy.name_any()
        ),
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

fn mark(is_fine: bool) -> String {
    if is_fine {
        format!("{FINE}√{FINE:#}")
    } else {
        format!("{WRONG}×{WRONG:#}")
    }
}

/// A tree: policies with their clusters, then clusters and fleets.
fn text(shown: &Shown) -> String {
    let mut text = String::new();
    for it in &shown.policies {
        let has = it.clusters.as_deref().unwrap_or("no");
        text += &format!(
            "{} policy {}: {}, {}, {has} clusters\n",
            mark(it.is_fine),
            it.name,
            it.mode,
            it.enforcement
        );
        let mut branches = vec![format!(
            "{}: home {}, then {}",
            it.services.join(", "),
            it.home.as_deref().unwrap_or("the caller's own"),
            it.overflow.join(", ")
        )];
        branches.extend(it.forced.as_ref().map(|forced| format!("forced: {forced}")));
        branches.extend(lines(&it.conditions));
        branches.extend(it.states.iter().map(|state| {
            let generation = state.generation.map(|it| format!(", generation {it}"));
            let error = state.error.as_ref().map(|error| format!(": {error}"));
            let generation = generation.unwrap_or_default();
            let error = error.unwrap_or_default();
            format!(
                "{} {}: {}{generation}{error}",
                mark(state.is_fine),
                state.cluster,
                state.state
            )
        }));
        text += &tree(&branches);
    }
    for it in &shown.clusters {
        let version = it.kubernetes.as_deref().unwrap_or("of an unknown version");
        text += &format!(
            "{} cluster {}: {}, Kubernetes {version}\n",
            mark(it.is_fine),
            it.name,
            it.access
        );
        text += &tree(&lines(&it.conditions));
    }
    for it in &shown.fleets {
        text += &format!(
            "{} fleet {}: {} clusters, {} deployed, {} in progress, {} failed\n",
            mark(it.is_fine),
            it.name,
            it.clusters,
            it.deployed,
            it.in_progress,
            it.failed
        );
    }
    if text.is_empty() {
        text += "there is no policy, no cluster and no fleet yet\n";
    }
    text
}

fn lines(conditions: &[Said]) -> Vec<String> {
    let line = |it: &Said| {
        format!(
            "{} is {}, {}: {}",
            it.r#type, it.status, it.reason, it.message
        )
    };
    conditions.iter().map(line).collect()
}

fn tree(branches: &[String]) -> String {
    let mut text = String::new();
    for (at, branch) in branches.iter().enumerate() {
        let limb = if at + 1 == branches.len() {
            "└─"
        } else {
            "├─"
        };
        text += &format!("{limb} {branch}\n");
    }
    text
}
