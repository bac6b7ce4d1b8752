//! Users' VirtualServices: which of them lead to a service, for whom, and with which retries.
//!
//! Sidecars do not merge two VirtualServices of one host: a second one is silently ignored. So one
//! of a user's is never fought, only merged into or told about.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{covers, full_host, identity, texts, visible_in};
use crate::input::Observed;

/// A user's VirtualService as seen for one host.
pub(crate) struct Found<'a> {
    pub(crate) value: &'a Value,
    /// The gateways that it is for; empty where it is for sidecars only.
    pub(crate) gateways: Vec<&'a str>,
    /// Sidecars take its routes for requests to the host.
    pub(crate) owns_host: bool,
    /// Some of its routes are in another VirtualService.
    pub(crate) delegates: bool,
    /// Some of its routes lead to the host.
    pub(crate) leads: bool,
}

/// The VirtualServices that are about a host, and that callers in one of some namespaces see.
pub(crate) fn about<'a>(
    observed: &'a Observed,
    host: &str,
    clients: &BTreeSet<String>,
    domain: &str,
) -> Vec<Found<'a>> {
    observed
        .virtual_services
        .iter()
        .filter_map(|value| {
            let (namespace, _) = identity(value);
            let gateways = texts(value, "/spec/gateways");
            let on_mesh = gateways.is_empty() || gateways.contains(&"mesh");
            let visible = clients.iter().any(|client| visible_in(value, client));
            let hosts = texts(value, "/spec/hosts");
            let owns_host = on_mesh
                && visible
                && hosts
                    .iter()
                    .any(|pattern| covers(&full_host(pattern, namespace, domain), host));
            let leads = leads_to(value, host, domain);
            let gateways: Vec<&str> = gateways.into_iter().filter(|g| *g != "mesh").collect();
            let reached = (on_mesh && visible) || !gateways.is_empty();
            (owns_host || (leads && reached)).then(|| Found {
                delegates: routes(value).any(|route| route.get("delegate").is_some()),
                value,
                gateways,
                owns_host,
                leads,
            })
        })
        .collect()
}

/// Whether some route leads to a host.
pub(crate) fn leads_to(value: &Value, host: &str, domain: &str) -> bool {
    let (namespace, _) = identity(value);
    routes(value).any(|route| leading(route, namespace, host, domain) != Leading::Elsewhere)
}

/// The user's routes for HTTP, without those that were merged in.
pub(crate) fn routes(value: &Value) -> impl Iterator<Item = &Value> {
    let http = value.pointer("/spec/http").and_then(Value::as_array);
    http.into_iter()
        .flatten()
        .filter(|route| !super::merge::is_ours(route))
}

/// Where a route leads, as seen for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leading {
    /// Not to the host.
    Elsewhere,
    /// To the host, whole.
    Whole,
    /// To a subset of the user's, or to other hosts as well: a subset of ours would not keep that.
    Part,
}

pub(crate) fn leading(route: &Value, namespace: &str, host: &str, domain: &str) -> Leading {
    let Some(destinations) = route.get("route").and_then(Value::as_array) else {
        return Leading::Elsewhere;
    };
    let is_it = |destination: &&Value| {
        destination
            .pointer("/destination/host")
            .and_then(Value::as_str)
            .is_some_and(|named| full_host(named, namespace, domain) == host)
    };
    let to_it = destinations.iter().filter(is_it).count();
    let in_subset = destinations
        .iter()
        .any(|destination| destination.pointer("/destination/subset").is_some());
    match to_it {
        0 => Leading::Elsewhere,
        _ if to_it == destinations.len() && !in_subset => Leading::Whole,
        _ => Leading::Part,
    }
}

/// Whether a route has retries of the user's that bounces would change.
pub(crate) fn has_own_retries(route: &Value) -> bool {
    let header = |name: &str| {
        route
            .pointer(&format!("/headers/request/set/{name}"))
            .or_else(|| route.pointer(&format!("/headers/request/add/{name}")))
            .is_some()
    };
    route
        .get("retries")
        .is_some_and(|retries| !harmless(retries))
        || header("x-envoy-retry-on")
        || header("x-envoy-max-retries")
}

/// Retries that repeat what never reached the service, often enough for a bounce.
fn harmless(retries: &Value) -> bool {
    let attempts = retries.get("attempts").and_then(Value::as_u64);
    let only_unreached = retries
        .get("retryOn")
        .and_then(Value::as_str)
        .is_some_and(|conditions| {
            conditions
                .split(',')
                .all(|one| matches!(one.trim(), "connect-failure" | "refused-stream"))
        });
    attempts.is_some_and(|attempts| attempts >= u64::from(spillway_core::ATTEMPTS))
        && only_unreached
        && retries
            .get("retryRemoteLocalities")
            .and_then(Value::as_bool)
            == Some(true)
        && retries.get("perTryTimeout").is_none()
}
