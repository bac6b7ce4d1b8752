//! What users have in the way of our routes. Found per control plane, since only its objects count
//! there: what is in the way in one cluster holds up no other.

use std::sync::Arc;

use serde_json::Value;
use spillway_api::burst_policy::Routing;

use super::Accepted;
use crate::conditions::Type;
use crate::input::Observed;
use crate::model::Target;
use crate::names;
use crate::user::{self, virtual_service};
use crate::world::World;

struct Obstacle {
    reason: &'static str,
    message: String,
}

/// Takes the control planes with obstacles out of the targets, and targets without any control
/// plane out of the plan.
pub(super) fn find(world: &World<'_>, accepted: &mut Accepted) {
    let targets = std::mem::take(&mut accepted.targets);
    for mut target in targets {
        if !target.acts() {
            accepted.targets.push(target);
            continue;
        }
        let mut found = Vec::new();
        for (plane, observed) in world.control_planes() {
            let Some(clients) = target.clients.get(plane.name) else {
                continue;
            };
            let obstacle = in_the_way(observed, &target, clients, &world.mesh.domain);
            if let Some(obstacle) = obstacle {
                let message = format!("in {}: {}", plane.name, obstacle.message);
                accepted.ledger.note(
                    &target.policy,
                    Type::Conflicted,
                    obstacle.reason,
                    message.clone(),
                );
                found.push((obstacle.reason, message));
                target.clients.remove(plane.name);
            }
        }
        match found.into_iter().next() {
            Some((reason, message)) if target.clients.is_empty() => {
                accepted.ledger.refuse(&target.policy, reason, message);
            }
            _ => accepted.targets.push(target),
        }
    }
}

fn in_the_way(
    observed: &Observed,
    target: &Target,
    clients: &std::collections::BTreeSet<String>,
    domain: &str,
) -> Option<Obstacle> {
    let obstacle = |reason, message| Some(Obstacle { reason, message });
    if let Some(route) = observed.http_routes.iter().find(|r| is_attached(r, target)) {
        return obstacle(
            "HTTPRoute",
            format!(
                "the HTTPRoute {} has the routes of {}: only VirtualServices are served yet",
                user::name(route),
                target.host
            ),
        );
    }
    let own_name = names::routes(&target.service);
    for (kind, objects) in [
        ("DestinationRule", &observed.destination_rules),
        ("VirtualService", &observed.virtual_services),
    ] {
        let own = (target.namespace.as_str(), own_name.as_str());
        if objects.iter().any(|object| user::identity(object) == own) {
            return obstacle(
                "NameTaken",
                format!(
                    "a {kind} {}/{own_name} is there that is not Spillway's: rename it",
                    target.namespace
                ),
            );
        }
    }
    let found = virtual_service::about(observed, &target.host, clients, domain);
    let owners = || found.iter().filter(|found| found.owns_host);
    if let Some(owner) = owners().find(|owner| owner.delegates) {
        return obstacle(
            "Delegate",
            format!(
                "the VirtualService {} delegates routes of {}: write its routes into one VirtualService",
                user::name(owner.value),
                target.host
            ),
        );
    }
    match owners().next() {
        Some(owner) if target.terms.routing == Routing::Own => obstacle(
            "VirtualServiceExists",
            format!(
                "the VirtualService {} has the routes of {}, and sidecars take one for a host: write routing: Merge",
                user::name(owner.value),
                target.host
            ),
        ),
        _ => None,
    }
}

/// Whether an HTTPRoute is attached to the service itself.
fn is_attached(route: &Value, target: &Target) -> bool {
    let own = user::identity(route).0;
    let parents = route.pointer("/spec/parentRefs").and_then(Value::as_array);
    parents.into_iter().flatten().any(|parent| {
        let field = |name: &str| parent.get(name).and_then(Value::as_str);
        field("kind") == Some("Service")
            && field("name") == Some(&target.service)
            && field("namespace").unwrap_or(own) == target.namespace
    })
}

/// Gateways that lead to the service past Spillway, in words.
pub(crate) fn past_gateways(
    world: &World<'_>,
    plane: &str,
    observed: &Observed,
    target: &Target,
) -> Vec<String> {
    let clients = target.clients.get(plane).cloned().unwrap_or_default();
    let mut past = Vec::new();
    for found in virtual_service::about(observed, &target.host, &clients, &world.mesh.domain) {
        if !found.leads {
            continue;
        }
        let name = user::name(found.value);
        for gateway in &found.gateways {
            let namespace = workload_namespace(observed, gateway, user::identity(found.value).0);
            if target.terms.routing == Routing::Own {
                past.push(format!("in {plane}: the VirtualService {name} leads the gateway {gateway} to the service: write routing: Merge"));
            } else if !clients.contains(&namespace) {
                past.push(format!("in {plane}: the gateway {gateway} runs in {namespace}: write {namespace} into clients.namespaces"));
            }
        }
    }
    let backend = |route: &&Value| {
        let own = user::identity(route).0;
        let rules = route.pointer("/spec/rules").and_then(Value::as_array);
        rules.into_iter().flatten().any(|rule| {
            let backends = rule.get("backendRefs").and_then(Value::as_array);
            backends.into_iter().flatten().any(|backend| {
                let field = |name: &str| backend.get(name).and_then(Value::as_str);
                field("name") == Some(&target.service)
                    && field("namespace").unwrap_or(own) == target.namespace
            })
        })
    };
    for route in observed.http_routes.iter().map(Arc::as_ref).filter(backend) {
        past.push(format!(
            "in {plane}: the HTTPRoute {} leads to the service: only VirtualServices are served yet",
            user::name(route)
        ));
    }
    past
}

/// The namespace of a gateway's pods: that of the Service with its labels, else its own.
fn workload_namespace(observed: &Observed, gateway: &str, from: &str) -> String {
    let (namespace, name) = gateway.split_once('/').unwrap_or((from, gateway));
    let object = observed
        .gateways
        .iter()
        .find(|object| user::identity(object) == (namespace, name));
    let labels = object.and_then(|object| object.pointer("/spec/selector")?.as_object());
    let selects = |service: &&k8s_openapi::api::core::v1::Service| {
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        labels.is_some_and(|labels| {
            !labels.is_empty()
                && labels.iter().all(|(key, value)| {
                    selector
                        .and_then(|selector| selector.get(key))
                        .map(String::as_str)
                        == value.as_str()
                })
        })
    };
    observed
        .services
        .iter()
        .map(Arc::as_ref)
        .find(selects)
        .and_then(|service| service.metadata.namespace.clone())
        .unwrap_or_else(|| namespace.to_owned())
}

/// The names of the routes of users' that lead to a part of the service, or to others as well.
pub(crate) fn partial_routes(
    observed: &Observed,
    plane: &str,
    target: &Target,
    domain: &str,
) -> Vec<String> {
    let clients = target.clients.get(plane).cloned().unwrap_or_default();
    let mut partial = Vec::new();
    for found in virtual_service::about(observed, &target.host, &clients, domain) {
        let namespace = user::identity(found.value).0;
        for (i, route) in virtual_service::routes(found.value).enumerate() {
            let leading = virtual_service::leading(route, namespace, &target.host, domain);
            if leading == virtual_service::Leading::Part {
                partial.push(format!(
                    "in {plane}: route {i} of the VirtualService {} leads to a subset or to other hosts too, which a subset of Spillway's would not keep",
                    user::name(found.value)
                ));
            }
        }
    }
    partial
}
