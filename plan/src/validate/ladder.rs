//! Home and the rungs: names of clusters and fleets become clusters that can take requests.

use std::collections::BTreeSet;

use spillway_api::BurstPolicy;

use super::services::{self, Standing};
use super::{Ledger, Reason};
use crate::conditions::{Status, Type};
use crate::model::Rung;
use crate::names;
use crate::world::{Site, World};

/// The filter's configuration has room for so many.
const MAX_RUNGS: usize = 8;

/// The home that is named, which has to be a cluster that can be written to.
pub(super) fn home<'w, 'a>(
    world: &'w World<'a>,
    name: Option<&str>,
) -> Result<Option<&'w Site<'a>>, Reason> {
    let Some(name) = name else {
        return Ok(None);
    };
    let refused = |why: &str| Reason::refused("HomeNotUsable", format!("home {name}: {why}"));
    match world.sites.get(name) {
        None => {
            Err(refused(world.problems.get(name).map_or(
                "there is no MeshCluster of this name",
                String::as_str,
            )))
        }
        Some(site) => match world.unprogrammable(site) {
            Some(why) => Err(refused(&why)),
            None => Ok(Some(site)),
        },
    }
}

/// Where the excess goes.
pub(super) struct Ladder {
    pub(super) rungs: Vec<Rung>,
    /// Clusters for which it has no room, by name in Istio.
    pub(super) beyond: BTreeSet<String>,
}

/// The rungs in order: a fleet's clusters by name, each cluster once, without home.
pub(super) fn read(
    world: &World<'_>,
    policy: &BurstPolicy,
    key: &str,
    home: Option<&Site<'_>>,
    service: &str,
    ledger: &mut Ledger,
) -> Result<Ladder, Reason> {
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let mut rungs: Vec<Rung> = Vec::new();
    let mut taken: BTreeSet<&str> = home.iter().map(|site| site.name).collect();
    let mut beyond = BTreeSet::new();
    let mut passed_over: Vec<String> = Vec::new();
    for (i, entry) in policy.spec.overflow.iter().enumerate() {
        let names = match (entry.cluster.as_deref(), entry.fleet.as_deref()) {
            (Some(cluster), _) => vec![cluster],
            (None, Some(fleet)) => match world.fleets.get(fleet) {
                None if world.unreadable.fleets.contains(fleet) => {
                    return Err(Reason {
                        status: Status::Unknown,
                        reason: "FleetUnreadable",
                        message: format!(
                            "spec.overflow[{i}]: the Fleet {fleet} cannot be read, so what is deployed stays as it is: correct it"
                        ),
                    });
                }
                None => {
                    passed_over.push(format!("spec.overflow[{i}]: there is no Fleet {fleet}"));
                    continue;
                }
                Some(members) if members.is_empty() => {
                    passed_over.push(format!(
                        "spec.overflow[{i}]: no cluster carries the labels of the Fleet {fleet}"
                    ));
                    continue;
                }
                Some(members) => members.clone(),
            },
            (None, None) => continue,
        };
        for name in names {
            if !taken.insert(name) {
                continue;
            }
            match usable(world, name, namespace, service) {
                Ok((site, subset)) if rungs.len() < MAX_RUNGS => rungs.push(Rung {
                    cluster: site.istio.to_owned(),
                    subset,
                    max_rate: entry.max_rate.as_ref().and_then(|rate| rate.parse().ok()),
                }),
                Ok((site, _)) => {
                    beyond.insert(site.istio.to_owned());
                    passed_over.push(format!(
                        "spec.overflow[{i}]: cluster {name} comes after the first {MAX_RUNGS}, and a ladder has no more rungs"
                    ));
                }
                Err(why) => {
                    passed_over.push(format!("spec.overflow[{i}]: cluster {name}: {why}"));
                }
            }
        }
    }
    if rungs.is_empty() {
        return Err(Reason::refused(
            "NoUsableRung",
            if passed_over.is_empty() {
                "overflow leads to home only: name another cluster".to_owned()
            } else {
                passed_over.join("; ")
            },
        ));
    }
    for message in passed_over {
        ledger.note(key, Type::RungsPassedOver, "RungsPassedOver", message);
    }
    Ok(Ladder { rungs, beyond })
}

fn usable<'w, 'a>(
    world: &'w World<'a>,
    name: &str,
    namespace: &str,
    service: &str,
) -> Result<(&'w Site<'a>, String), String> {
    let Some(site) = world.sites.get(name) else {
        return Err(world
            .problems
            .get(name)
            .cloned()
            .unwrap_or_else(|| "there is no MeshCluster of this name".to_owned()));
    };
    if let Some(why) = world.unprogrammable(site) {
        return Err(why);
    }
    let subset = names::rung(site.istio).map_err(str::to_owned)?;
    match services::standing(world, site, namespace, service) {
        Standing::Fit(_) | Standing::Unseen => Ok((site, subset)),
        Standing::Absent => Err(format!("it has no Service {namespace}/{service}")),
        Standing::Unfit(why) => Err(why),
    }
}
