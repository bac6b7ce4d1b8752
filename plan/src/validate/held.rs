//! What stays as it is, since nobody knows what it should be: services of clusters that were not
//! seen, and policies that are there and cannot be read. Of the latter nothing is known but what is
//! deployed, so the objects that name one are neither changed nor removed.
//!
//! Plugins are shared. A policy that has a part in a held object would have some of its objects
//! changed and others not: callers that send requests to a subset which is gone, or to a server that
//! does not know of them. So it stays as a whole, and with it what shares another object with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spillway_api::istio::Kind;

use super::Accepted;
use crate::conditions::Status;
use crate::model::{Target, Unseen};
use crate::names;
use crate::output::{Key, names_any};
use crate::world::World;

type Held = BTreeMap<String, BTreeSet<Key>>;

pub(super) fn hold(world: &World<'_>, accepted: &mut Accepted) {
    let policies = &world.unreadable.policies;
    if policies.is_empty() && accepted.unseen.is_empty() {
        return;
    }
    let named = |deployed: &[Value]| {
        let named = deployed.iter().filter(|it| names_any(it, policies));
        named.filter_map(Key::of).collect()
    };
    let mut held: Held = world
        .control_planes()
        .map(|(plane, _)| (plane.name.to_owned(), named(plane.deployed())))
        .collect();
    accepted.unseen.extend(services(&held));
    for keys in held.values_mut() {
        keys.extend(accepted.unseen.iter().flat_map(Unseen::keys));
    }
    loop {
        let targets = std::mem::take(&mut accepted.targets);
        let (stay, go_on): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .partition(|target| shared(target, &held).is_some());
        accepted.targets = go_on;
        if stay.is_empty() {
            break;
        }
        for target in stay {
            let with = shared(&target, &held).unwrap_or_default();
            let message = format!(
                "{}: it stays as it is for now, as {with} does, which it shares with what was not seen or cannot be read",
                target.service
            );
            let ledger = &mut accepted.ledger;
            ledger.tell(&target.policy, Status::Unknown, "HeldBack", message);
            let unseen = Unseen {
                clients: target.clients.into_values().flatten().collect(),
                namespace: target.namespace,
                service: target.service,
            };
            for keys in held.values_mut() {
                keys.extend(unseen.keys());
            }
            accepted.unseen.push(unseen);
        }
    }
    accepted.held = held;
}

/// The services whose rules are held: routes to them in users' VirtualServices are held, too.
fn services(held: &Held) -> Vec<Unseen> {
    let rules = held.values().flatten();
    let rules = rules.filter(|key| key.kind() == Some(Kind::DESTINATION_RULE));
    let services = rules.filter_map(|key| {
        Some(Unseen {
            namespace: key.namespace.clone(),
            service: key.name.strip_prefix(names::PREFIX)?.to_owned(),
            clients: BTreeSet::new(),
        })
    });
    services.collect()
}

/// The first object that a target would have and that is held, in words.
fn shared(target: &Target, held: &Held) -> Option<String> {
    held.iter().find_map(|(plane, held)| {
        let own = keys_of(target, plane);
        let key = own.intersection(held).next()?;
        let kind = key.kind().map_or("", |kind| kind.kind);
        Some(format!(
            "the {kind} {}/{} in {plane}",
            key.namespace, key.name
        ))
    })
}

/// What a target may have in a control plane.
fn keys_of(target: &Target, plane: &str) -> BTreeSet<Key> {
    let clients = target.clients.get(plane).cloned().unwrap_or_default();
    Unseen {
        namespace: target.namespace.clone(),
        service: target.service.clone(),
        clients,
    }
    .keys()
}
