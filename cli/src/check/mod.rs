//! What is right, what is not, and what to do about it.
//!
//! Everything that Spillway leans on is looked at: the hub, what was installed there, every cluster
//! and its mesh, the filter's image, the filters that run, and the policies. Each finding has a
//! reason and a mend. Clusters are looked at side by side, each within a deadline, so that one that
//! hangs holds up nobody.
//!
//! A cluster is seen by two accounts. What the controller may do there is asked as the controller's
//! account; Istio's settings and pods, which that may not see, are looked at as the user, by the
//! context that leads to the cluster, and where none does it is said.
//!
//! - [`report`]: findings, and how they are told
//! - [`hub`], [`member`], [`istio`], [`rules`], [`image`], [`filters`], [`policies`]: what is
//!   looked at
//! - [`rights`]: what an account may do, against what the charts say that it must
//! - [`support`]: all of it and what it was found in, as a file to hand on

mod clock;
mod filters;
mod hub;
mod image;
mod istio;
mod member;
mod policies;
mod report;
mod rights;
mod rules;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::{Api, ResourceExt};
use spillway_api::mesh_cluster::Access;
use spillway_api::{BurstPolicy, MeshCluster};
use tokio::task::JoinSet;

use self::hub::Installed;
use self::report::{Category, Report};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::reach;
use crate::status::list;

/// All that is asked of one cluster is answered within this time.
const DEADLINE: Duration = Duration::from_secs(30);

/// Check that all is as it should be, before and after installing
///
/// Looks at the hub, the installation, the controller's rights, Istio's settings, the image, the
/// filters in the proxies, and the policies. Each finding comes with its reason and a mend. Ends
/// with 1 where something is wrong; warnings alone end with 0.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Before installing
  spillway check --pre

  # Afterwards, for a program
  spillway check -o json

  # A file to hand on, without secrets
  spillway check --support spillway-support.tar.gz")]
pub(crate) struct Check {
    /// Only what has to be so before Spillway is installed
    #[arg(long)]
    pre: bool,

    /// Write what was found, and what it was found in, into a tar.gz without secrets
    #[arg(long, value_name = "FILE", conflicts_with = "pre")]
    support: Option<PathBuf>,

    /// The namespace of Spillway's own objects
    #[arg(long, value_name = "NAME", default_value = "spillway-system")]
    system_namespace: String,

    /// The form of what is found
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(check: &Check, connection: &Connection) -> Result<Exit, Failure> {
    let (report, written) = crate::wait(look(check, connection))?;
    output::tell(check.output, &report, Report::text)?;
    if let (Some(path), Output::Text) = (written, check.output) {
        output::print(&format!("\nall of it is in {}\n", path.display()));
    }
    Ok(if report.success {
        Exit::Fine
    } else {
        Exit::Findings
    })
}

async fn look(
    check: &Check,
    connection: &Connection,
) -> Result<(Report, Option<PathBuf>), Failure> {
    let progress = Progress::new("looking at the hub".to_owned());
    let hub = connection.hub().await?;
    let (mut categories, clock) = hub::look(&hub).await?;
    if check.pre {
        categories.push(hub::may_install(&hub).await?);
        categories.push(istio::look(&hub, None, "istio-system").await.category);
        return Ok((Report::new(categories), None));
    }
    let (category, installed) = hub::installed(&hub, &check.system_namespace).await?;
    categories.push(category);
    if !installed.is_served {
        return Ok((Report::new(categories), None));
    }
    let clusters: Vec<MeshCluster> = list(&hub, &Api::all(hub.client.clone())).await?;
    let policies: Vec<BurstPolicy> = list(&hub, &Api::all(hub.client.clone())).await?;
    progress.say(format!(
        "looking at {}",
        output::counted(clusters.len(), "cluster")
    ));
    let mut seen = reach::contexts(connection, &clusters).await?;
    for cluster in clusters.iter().filter(|it| it.spec.access == Access::Hub) {
        seen.insert(cluster.name_any(), hub.clone());
    }
    categories.extend(image::look(&installed).await);
    let world = World {
        hub: hub.clone(),
        clock,
        installed,
        namespaces: namespaces(&policies),
    };
    categories.extend(world.members(&clusters, &seen).await);
    categories.push(policies::look(&policies, &clusters));
    let report = Report::new(categories);
    let mut written = None;
    if let Some(path) = &check.support {
        progress.say("gathering".to_owned());
        support::write(path, &report, &hub, &check.system_namespace, &seen).await?;
        written = Some(path.clone());
    }
    Ok((report, written))
}

/// The namespaces of services and callers.
fn namespaces(policies: &[BurstPolicy]) -> BTreeSet<String> {
    let of = |policy: &BurstPolicy| {
        let clients = policy.spec.clients.clone().unwrap_or_default();
        let own = policy.namespace().into_iter();
        own.chain(clients.namespaces).collect::<Vec<_>>()
    };
    policies.iter().flat_map(of).collect()
}

/// What every cluster is looked at with.
struct World {
    hub: Cluster,
    /// By how much the hub's clock is ahead of this machine's.
    clock: Option<f64>,
    installed: Installed,
    namespaces: BTreeSet<String>,
}

impl World {
    async fn members(
        self,
        clusters: &[MeshCluster],
        seen: &BTreeMap<String, Cluster>,
    ) -> Vec<Category> {
        let world = std::sync::Arc::new(self);
        let mut looks = JoinSet::new();
        for cluster in clusters {
            let (world, cluster) = (world.clone(), cluster.clone());
            let seen = seen.get(&cluster.name_any()).cloned();
            looks.spawn(async move {
                let name = cluster.name_any();
                let look = world.member(&cluster, seen);
                match tokio::time::timeout(DEADLINE, look).await {
                    Ok((categories, network)) => (name, categories, network),
                    Err(_) => (name.clone(), vec![member::late(&name, DEADLINE)], None),
                }
            });
        }
        let mut found = BTreeMap::new();
        while let Some(look) = looks.join_next().await {
            if let Ok((name, categories, network)) = look {
                found.insert(name, (categories, network));
            }
        }
        let networks = found
            .iter()
            .filter_map(|(name, (_, network))| Some((name.clone(), network.clone()?)));
        let networks = istio::networks(&networks.collect());
        let categories = found.into_values().flat_map(|(categories, _)| categories);
        categories.chain(networks).collect()
    }

    /// All of one cluster, and its network where that could be seen.
    async fn member(
        &self,
        cluster: &MeshCluster,
        seen: Option<Cluster>,
    ) -> (Vec<Category>, Option<String>) {
        let mut categories = vec![member::look(self, cluster).await];
        let Some(seen) = seen else {
            categories.push(member::unseen(cluster));
            return (categories, None);
        };
        let mesh = istio::look(&seen, Some(cluster), &self.installed.root_namespace).await;
        categories.push(mesh.category);
        let routes = rules::look(&seen, cluster, &self.namespaces).await;
        categories.extend(routes);
        categories.extend(filters::look(&seen, cluster).await);
        (categories, Some(mesh.network))
    }
}
