//! The callers: which namespaces get the caller's side, in which control planes.
//!
//! Only namespaces that call, as the policy names them: what every sidecar of a large mesh would
//! otherwise carry is configuration for services that it never asks. Only one plugin of the
//! caller's side may reach a workload, since the second would take the first one's header for a
//! forged one; so policies that share a namespace share its selector too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use spillway_api::BurstPolicy;

use super::{Accepted, key_of};
use crate::conditions::Type;
use crate::input::Observed;
use crate::model::Target;
use crate::user::destination_rule;
use crate::world::World;

/// The namespaces that a policy names; its own without.
pub(super) fn named(policy: &BurstPolicy) -> BTreeSet<String> {
    let named = policy.spec.clients.as_ref();
    let namespaces = named.map(|clients| clients.namespaces.as_slice());
    match namespaces.unwrap_or_default() {
        [] => policy.metadata.namespace.iter().cloned().collect(),
        some => some.iter().cloned().collect(),
    }
}

pub(super) fn place(world: &World<'_>, policies: &[Arc<BurstPolicy>], accepted: &mut Accepted) {
    let named: BTreeMap<String, BTreeSet<String>> = policies
        .iter()
        .map(|policy| (key_of(policy), named(policy)))
        .collect();
    // The selector of every namespace, and the policy that chose it.
    let mut selectors: BTreeMap<String, (BTreeMap<String, String>, String)> = BTreeMap::new();
    for target in &mut accepted.targets {
        let namespaces = named.get(&target.policy).cloned().unwrap_or_default();
        for namespace in namespaces {
            let note =
                |message: String, reason: &'static str| (target.policy.clone(), reason, message);
            let told = if namespace == world.mesh.root_namespace && target.selector.is_empty() {
                Some(note(
                    format!(
                        "{namespace} is the mesh's root namespace, where a plugin without a selector reaches every proxy: write clients.selector"
                    ),
                    "RootNamespace",
                ))
            } else {
                let (selector, owner) = selectors
                    .entry(namespace.clone())
                    .or_insert_with(|| (target.selector.clone(), target.policy.clone()));
                (*selector != target.selector).then(|| {
                    note(
                        format!(
                            "in {namespace} the older policy {owner} has another clients.selector: write the same in both"
                        ),
                        "SelectorsDiffer",
                    )
                })
            };
            let told = told.or_else(|| everywhere(world, target, &namespace));
            if let Some((policy, reason, message)) = told {
                accepted
                    .ledger
                    .note(&policy, Type::ClientsNotCovered, reason, message);
            }
        }
    }
}

type Told = (String, &'static str, String);

/// Places a namespace in every control plane that has it.
fn everywhere(world: &World<'_>, target: &mut Target, namespace: &str) -> Option<Told> {
    let mut told = None;
    let mut exists = false;
    for (plane, observed) in world.control_planes() {
        let Some(labels) = observed.namespaces.get(namespace) else {
            continue;
        };
        exists = true;
        let why = if labels.get("istio.io/dataplane-mode").map(String::as_str) == Some("ambient") {
            Some((
                "Ambient",
                format!(
                    "{namespace} in {} is an ambient namespace: only sidecars and gateways are served yet",
                    plane.name
                ),
            ))
        } else if !target.acts() {
            None
        } else {
            hidden(world, target, observed, namespace).map(|rule| {
                (
                    "DestinationRuleHides",
                    format!("in {} the DestinationRule {rule} hides the subsets of {} from {namespace}: move it to {}", plane.name, target.host, target.namespace),
                )
            })
        };
        match why {
            None => {
                target
                    .clients
                    .entry(plane.name.to_owned())
                    .or_default()
                    .insert(namespace.to_owned());
            }
            Some((reason, message)) => told = Some((target.policy.clone(), reason, message)),
        }
    }
    let unseen = world.sites.values().any(|site| site.observed.is_none());
    if !exists && !unseen {
        told = Some((
            target.policy.clone(),
            "NamespaceNotFound",
            format!(
                "no control plane has a namespace {namespace}: create it, or take it out of clients"
            ),
        ));
    }
    told
}

/// The user's DestinationRule that Istio would find for callers of a namespace instead of ours.
fn hidden(
    world: &World<'_>,
    target: &Target,
    observed: &Observed,
    namespace: &str,
) -> Option<String> {
    let domain = &world.mesh.domain;
    let hides = |rule: &&Value| {
        let (at, _) = crate::user::identity(rule);
        if at != namespace || !destination_rule::is_for(rule, &target.host, domain) {
            return false;
        }
        // In the service's own namespace rules of one host are merged, if they are for all.
        namespace != target.namespace || rule.pointer("/spec/workloadSelector").is_some()
    };
    let mut rules = observed.destination_rules.iter().map(Arc::as_ref);
    let found = rules.find(hides);
    let in_own = found.map(crate::user::identity);
    in_own
        .or_else(|| destination_rule::withheld(observed, target, namespace, domain))
        .map(|(namespace, name)| format!("{namespace}/{name}"))
}
