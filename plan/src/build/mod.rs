//! Objects from the validated form. Nothing here can fail.

mod bounce;
mod document;
mod plugins;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::conditions::{Type, conditions};
use crate::endpoints::Presence;
use crate::input::Observed;
use crate::model::{Target, Unseen};
use crate::output::{ControlPlane, Key, Plan, PolicyReport};
use crate::validate::{Accepted, Ledger, obstacles};
use crate::world::{Site, World};

/// A control plane in the making.
struct Place<'w, 'a> {
    world: &'w World<'a>,
    site: &'w Site<'a>,
    observed: &'a Observed,
}

impl Place<'_, '_> {
    /// The namespaces of callers of a target here.
    fn clients<'t>(&self, target: &'t Target) -> impl Iterator<Item = &'t str> {
        let clients = target.clients.get(self.site.name);
        clients.into_iter().flatten().map(String::as_str)
    }

    fn has_clients(&self, target: &Target) -> bool {
        target.clients.contains_key(self.site.name)
    }
}

pub(crate) fn all(world: &World<'_>, accepted: Accepted) -> Plan {
    let Accepted {
        targets,
        unseen,
        held,
        mut ledger,
    } = accepted;
    let mut plan = Plan {
        clusters: world.problems.clone(),
        idle: world.idle(),
        fleets: world
            .fleets
            .iter()
            .map(|(name, members)| {
                let members = members.iter().map(|member| (*member).to_owned()).collect();
                ((*name).to_owned(), members)
            })
            .collect(),
        ..Plan::default()
    };
    let presences: Vec<Presence<'_>> = targets
        .iter()
        .map(|target| Presence::of(world, target))
        .collect();
    for (site, observed) in world.control_planes() {
        let place = Place {
            world,
            site,
            observed,
        };
        let bounces: BTreeMap<&str, bool> = targets
            .iter()
            .zip(&presences)
            .map(|(target, presence)| {
                let bounces = bounce::decide(&place, target, presence, &mut ledger);
                (target.id.as_str(), bounces)
            })
            .collect();
        let mut control_plane = one(&place, &targets, &unseen, &bounces, &mut ledger);
        let held = held.get(site.name).cloned().unwrap_or_default();
        keep(held, &mut control_plane);
        plan.control_planes
            .insert(site.name.to_owned(), Arc::new(control_plane));
    }
    plan.policies = reports(&ledger, &targets, &plan.control_planes);
    plan
}

fn one(
    place: &Place<'_, '_>,
    targets: &[Target],
    unseen: &[Unseen],
    bounces: &BTreeMap<&str, bool>,
    ledger: &mut Ledger,
) -> ControlPlane {
    for target in targets.iter().filter(|target| target.acts()) {
        what_is_not_covered(place, target, ledger);
    }
    let mut control_plane = ControlPlane::default();
    routes::write(place, targets, unseen, bounces, &mut control_plane);
    plugins::write(place, targets, bounces, ledger, &mut control_plane);
    control_plane.objects.sort_by_key(|object| object.key());
    control_plane
}

fn what_is_not_covered(place: &Place<'_, '_>, target: &Target, ledger: &mut Ledger) {
    let plane = place.site.name;
    for message in obstacles::past_gateways(place.world, plane, place.observed, target) {
        ledger.note(
            &target.policy,
            Type::GatewayNotCovered,
            "GatewayRoute",
            message,
        );
    }
    if !place.has_clients(target) {
        return;
    }
    let domain = &place.world.mesh.domain;
    for message in obstacles::partial_routes(place.observed, plane, target, domain) {
        ledger.note(
            &target.policy,
            Type::RoutesNotCovered,
            "PartialRoute",
            message,
        );
    }
}

/// What nothing is known about now stays: neither changed nor removed, nor made.
fn keep(held: BTreeSet<Key>, control_plane: &mut ControlPlane) {
    control_plane
        .objects
        .retain(|object| !held.contains(&object.key()));
    control_plane.held.extend(held);
}

fn reports(
    ledger: &Ledger,
    targets: &[Target],
    control_planes: &BTreeMap<String, Arc<ControlPlane>>,
) -> BTreeMap<String, PolicyReport> {
    ledger
        .policies
        .iter()
        .map(|policy| {
            let refusal = ledger.refusals.get(policy);
            let carried_out = targets.iter().any(|target| target.policy == *policy);
            let notes = ledger.notes.get(policy).cloned().unwrap_or_default();
            let has = |plane: &ControlPlane| {
                let objects = plane.objects.iter().map(|object| &object.policies);
                let edits = plane.edits.iter().map(|edit| &edit.policies);
                objects
                    .chain(edits)
                    .any(|policies| policies.contains(policy))
            };
            let report = PolicyReport {
                conditions: conditions(refusal, carried_out, &notes),
                control_planes: control_planes
                    .iter()
                    .filter(|(_, plane)| has(plane))
                    .map(|(name, _)| name.clone())
                    .collect(),
            };
            (policy.clone(), report)
        })
        .collect()
}
