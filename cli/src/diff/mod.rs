//! What would change, and where: in a folder that was rendered, or in the clusters themselves.

mod dry_run;
mod seen;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use kube::ResourceExt;
use serde_json::Value;
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_controller::target::directory;
use spillway_plan::Input;

use self::text::{Differences, Texts, differences};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::planned::{Planned, Sources};
use crate::progress::Progress;

/// Say what would change in which cluster
///
/// Compares what every cluster is to have with what `spillway render` wrote before, or with what is
/// in the clusters. There policies, fleets and clusters are those of the hub, and the files stand in
/// the place of those of the same names, and the image and all other settings of the mesh are the
/// controller's, unless an image is named; every API server is asked what it would make of a change,
/// and keeps nothing. Tokens of the mesh are not shown. Ends with 1 where something would change.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # In a pipeline: ends with 1 where something would change; SPILLWAY_IMAGE and SPILLWAY_TOKENS
  # stand in the environment
  spillway diff mesh --against deploy

  # What a policy would change in the clusters
  spillway diff policy.yaml --live")]
pub(crate) struct Diff {
    #[command(flatten)]
    sources: Sources,

    /// The folder that was rendered
    #[arg(long, value_name = "DIR", required_unless_present = "live")]
    against: Option<PathBuf>,

    /// Compare with what is in the clusters
    #[arg(long, conflicts_with = "against")]
    live: bool,

    /// The namespace of Spillway's own objects on the hub
    #[arg(long, value_name = "NAME", default_value = "spillway-system")]
    system_namespace: String,

    /// The form of what is said
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(diff: &Diff, connection: &Connection) -> Result<Exit, Failure> {
    let differences = match &diff.against {
        Some(folder) => diff.folder(folder)?,
        None => crate::wait(diff.clusters(connection))?,
    };
    output::tell(diff.output, &differences, text::text)?;
    Ok(if !differences.changes.is_empty() {
        Exit::Findings
    } else if !differences.silent.is_empty() {
        Exit::Unreachable
    } else if !differences.told.is_fine() {
        Exit::Findings
    } else {
        Exit::Fine
    })
}

impl Diff {
    fn folder(&self, folder: &Path) -> Result<Differences, Failure> {
        let planned = self.sources.plan()?;
        let changes = directory::changes(folder, &planned.plan).map_err(|error| {
            Failure::bad_input(
                error,
                "Name a folder that `spillway render` wrote by --against.",
            )
        })?;
        let texts = changes.into_iter().map(|change| {
            let path = change.path.strip_prefix(folder).unwrap_or(&change.path);
            (path.display().to_string(), change.before, change.after)
        });
        let texts: Vec<Texts> = texts.collect();
        Ok(Differences {
            changes: differences(&texts, &planned),
            told: planned.told(),
            silent: Vec::new(),
            refused: Vec::new(),
        })
    }

    async fn clusters(&self, connection: &Connection) -> Result<Differences, Failure> {
        self.sources.check()?;
        let hub = connection.hub().await?;
        let _progress = Progress::new(format!("{} and its clusters tell", hub.name));
        let tokens = match self.sources.tokens()? {
            Some(tokens) => tokens,
            None => {
                let text = seen::tokens(&hub, &self.system_namespace).await?;
                crate::planned::tokens(&text, "the hub's tokens")?
            }
        };
        let mesh = match self.sources.mesh() {
            Some(mesh) => mesh.with(tokens),
            None => {
                let controller = seen::controller(&hub, &self.system_namespace).await?;
                controller.with(tokens)
            }
        };
        let mut input = self.sources.input(mesh)?;
        let clusters = complete(&mut input, seen::of_hub(&hub).await?);
        let root = input.mesh.root_namespace.clone();
        let members = seen::look(connection, &hub, &clusters, &input.policies, &root).await;
        let mut silent = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (name, member) in members {
            match member {
                Ok(member) => known.extend([(name, member)]),
                Err(why) => silent.extend([(name, why)]),
            }
        }
        for cluster in &mut input.clusters {
            if let Some(member) = known.get(&cluster.resource.name_any()) {
                cluster.observed = member.observed.clone();
                cluster.deployed = member.deployed.clone();
            }
        }
        let planned = Planned::from(input);
        let tried = dry_run::changes(connection, &hub, &clusters, &planned.plan, &known).await;
        let (mut texts, mut refused) = (Vec::new(), Vec::new());
        for (name, changes) in tried {
            match changes {
                Ok(changes) => {
                    texts.extend(changes.iter().map(of_cluster));
                    refused.extend(changes.iter().filter_map(|change| {
                        let why = change.refused.as_ref()?;
                        Some(format!("{} in {name}: {why}", change.object))
                    }));
                }
                Err(why) => silent.extend([(name, why)]),
            }
        }
        let unseen = |name: &str| {
            let why = silent.get(name).map(String::as_str);
            format!(
                "was not seen: {}",
                why.unwrap_or("not all of it may be read")
            )
        };
        Ok(Differences {
            changes: differences(&texts, &planned),
            told: planned.told_with(unseen),
            silent: silent.keys().cloned().collect(),
            refused,
        })
    }
}

fn of_cluster(change: &dry_run::Change) -> Texts {
    let yaml = |object: &Option<Value>| {
        let object = object.as_ref()?;
        serde_saphyr::to_string(object).ok()
    };
    let path = format!("{}: {}", change.cluster, change.object);
    (path, yaml(&change.before), yaml(&change.after))
}

/// What the hub has besides, and the clusters that are not described by files.
fn complete(input: &mut Input, seen: seen::Seen) -> Vec<MeshCluster> {
    let key = |policy: &BurstPolicy| {
        let namespace = policy.namespace().unwrap_or_else(|| "default".to_owned());
        (namespace, policy.name_any())
    };
    for policy in seen.policies {
        let is_new = input.policies.iter().all(|it| key(it) != key(&policy));
        // One that is being deleted is wanted nowhere any more.
        if is_new && policy.metadata.deletion_timestamp.is_none() {
            input.policies.push(Arc::new(policy));
        }
    }
    for fleet in seen.fleets {
        if input
            .fleets
            .iter()
            .all(|it| it.name_any() != fleet.name_any())
        {
            input.fleets.push(Arc::new(fleet));
        }
    }
    for cluster in seen.clusters {
        let mut known = input.clusters.iter();
        if known.all(|it| it.resource.name_any() != cluster.name_any()) {
            input.clusters.push(spillway_plan::Cluster {
                resource: Arc::new(cluster),
                observed: None,
                deployed: Vec::new(),
            });
        }
    }
    let clusters = input.clusters.iter().filter(|it| it.observed.is_none());
    clusters
        .map(|it| MeshCluster::clone(&it.resource))
        .collect()
}
