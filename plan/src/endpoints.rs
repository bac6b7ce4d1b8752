//! How many endpoints a service has, and whether bounces could reach a cluster that the policy
//! does not name; from what was seen, and where nobody knows, from what is deployed.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde_json::Value;

use crate::model::Target;
use crate::names;
use crate::world::{Site, World};

/// The policy as it stands in a plugin that is deployed.
fn deployed<'s>(plane: &'s Site<'_>, target: &Target) -> Option<&'s Value> {
    plane
        .deployed()
        .iter()
        .filter(|object| {
            let name = crate::user::identity(object).1;
            name == names::CLIENT || name == names::SERVER
        })
        .filter_map(|plugin| plugin.pointer("/spec/pluginConfig/policies")?.as_array())
        .flatten()
        .find(|policy| policy.get("id").is_some_and(|id| *id == target.id))
}

/// How many endpoints share the limit in a cluster: those that are ready, and at least one.
pub(crate) fn count(plane: &Site<'_>, site: &Site<'_>, target: &Target) -> NonZeroU32 {
    let known = site
        .ready(&target.namespace, &target.service)
        .or_else(|| deployed_count(plane, site, target));
    known.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

fn deployed_count(plane: &Site<'_>, site: &Site<'_>, target: &Target) -> Option<u32> {
    let policy = deployed(plane, target)?;
    let of_capacity = || policy.get("capacity")?.get(site.istio)?.get("endpoints");
    let of_switch = || policy.get("switch")?.get("endpoints")?.get(site.istio);
    let count = of_capacity().or_else(of_switch)?.as_u64()?;
    u32::try_from(count).ok()
}

/// The clusters in which a bounced request could end up.
pub(crate) struct Presence<'a> {
    /// They have ready endpoints, and the policy does not name them as rungs.
    unnamed: Vec<&'a str>,
    /// They were not reached yet, and are not rungs.
    unseen: Vec<&'a str>,
}

impl<'a> Presence<'a> {
    pub(crate) fn of(world: &World<'a>, target: &Target) -> Self {
        let mut presence = Self {
            unnamed: Vec::new(),
            unseen: Vec::new(),
        };
        for site in world.sites.values() {
            let is_named = target.beyond.contains(site.istio)
                || target.rungs.iter().any(|rung| rung.cluster == site.istio);
            match site.ready(&target.namespace, &target.service) {
                _ if is_named => {}
                None => presence.unseen.push(site.name),
                Some(0) => {}
                Some(_) => presence.unnamed.push(site.name),
            }
        }
        presence
    }
}

/// Clusters that a bounced request could reach though the policy does not name them.
pub(crate) enum Strays<'a> {
    /// None.
    None,
    /// These.
    Some(Vec<&'a str>),
    /// These were not reached yet, and nothing is deployed that would tell.
    Unseen(Vec<&'a str>),
}

/// Envoy's priorities lead from home to any other cluster with endpoints.
pub(crate) fn strays<'a>(
    world: &World<'a>,
    plane: &Site<'_>,
    target: &Target,
    presence: &Presence<'a>,
) -> Strays<'a> {
    // The filter's home is the cluster that is named, or the caller's own; a cluster is no stray
    // where it is the only home there is.
    let mut homes: BTreeSet<&str> = BTreeSet::new();
    match &target.home {
        Some(home) => homes.extend(world.by_istio(home).map(|site| site.name)),
        None => homes.extend(world.served(plane.name).map(|site| site.name)),
    }
    let strays = |names: &[&'a str]| -> Vec<&'a str> {
        let is_stray = |name: &&&str| homes.len() != 1 || !homes.contains(**name);
        names.iter().filter(is_stray).copied().collect()
    };
    let (found, unseen) = (strays(&presence.unnamed), strays(&presence.unseen));
    let was_on = || deployed(plane, target).is_some_and(|policy| policy.get("bounce").is_none());
    match (found.is_empty(), unseen.is_empty() || was_on()) {
        (false, _) => Strays::Some(found),
        (true, true) => Strays::None,
        (true, false) => Strays::Unseen(unseen),
    }
}
