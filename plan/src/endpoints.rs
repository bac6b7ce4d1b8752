//! How many endpoints a service has, and whether bounces could reach a cluster that the policy
//! does not name; from what was seen, and where nobody knows, from what is deployed.

use std::num::NonZeroU32;

use serde_json::Value;

use crate::model::Target;
use crate::names;
use crate::world::{Site, World};

/// The policy as it stands in a plugin that is deployed.
fn deployed<'a>(plane: &Site<'a>, target: &Target) -> Option<&'a Value> {
    plane
        .deployed
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
    let rows = deployed(plane, target)?.get("capacity")?;
    let count = rows.get(site.istio)?.get("endpoints")?.as_u64()?;
    u32::try_from(count).ok()
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
pub(crate) fn strays<'a>(world: &World<'a>, plane: &Site<'_>, target: &Target) -> Strays<'a> {
    let mut found = Vec::new();
    let mut unseen = Vec::new();
    // The filter's home is the cluster that is named, or the caller's own.
    let homes: Vec<&str> = match &target.home {
        Some(home) => vec![home.as_str()],
        None => world.served(plane.name).map(|site| site.istio).collect(),
    };
    for site in world.sites.values() {
        let is_named = target.beyond.contains(site.istio)
            || target.rungs.iter().any(|rung| rung.cluster == site.istio);
        if is_named || homes.iter().all(|home| *home == site.istio) {
            continue;
        }
        match site.ready(&target.namespace, &target.service) {
            None => unseen.push(site.name),
            Some(0) => {}
            Some(_) => found.push(site.name),
        }
    }
    let was_on = deployed(plane, target).is_some_and(|policy| policy.get("bounce").is_none());
    match (found.is_empty(), unseen.is_empty() || was_on) {
        (false, _) => Strays::Some(found),
        (true, true) => Strays::None,
        (true, false) => Strays::Unseen(unseen),
    }
}
