//! Our routes in a user's VirtualService, and out of it again.
//!
//! `spec.http` is an atomic list: who applies a part of it as another field manager deletes the
//! rest. So a VirtualService of a user's is read, changed and written back with its
//! resourceVersion. Before each route that leads to the service stands a copy of it for every
//! rung, and one for home, with the same matches plus one of our header, so that rewrites,
//! timeouts, faults and mirrors are kept. Copies are told by their names, which begin with
//! `spillway-`; everything else stays as it was, and taking them out gives the original.

use serde_json::{Map, Value, json};

use super::virtual_service::{self, Leading};
use crate::names;

/// The copies that a service wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Copies {
    /// The service's full name.
    pub host: String,
    /// Subset by the beginning of our header that leads to it, in order.
    pub subsets: Vec<(String, HeaderMatch)>,
    /// The retries that make bounces invisible; none where bounces are off.
    pub retries: Option<Retries>,
}

/// How a copy tells its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// The header begins with one of these.
    Prefixes(Vec<String>),
    /// The whole header matches one of these (RE2).
    Regexes(Vec<String>),
}

impl HeaderMatch {
    /// Each as Istio writes it.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = Value> {
        let (kind, texts) = match self {
            Self::Prefixes(texts) => ("prefix", texts),
            Self::Regexes(texts) => ("regex", texts),
        };
        texts.iter().map(move |text| json!({kind: text}))
    }
}

/// What is written into a copy for bounces.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// `retries` of the route.
    pub retries: Value,
    /// Headers that are set on the request.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// A VirtualService with the copies of `services` in, and with no others of ours.
///
/// `domain` is what names of services end with (`cluster.local`).
#[must_use]
pub fn merge(virtual_service: &Value, services: &[Copies], domain: &str) -> Value {
    let mut merged = unmerge(virtual_service);
    let namespace = super::identity(virtual_service).0.to_owned();
    let Some(routes) = routes_mut(&mut merged) else {
        return merged;
    };
    let users = std::mem::take(routes);
    for (i, route) in users.into_iter().enumerate() {
        let service = services.iter().find(|service| {
            virtual_service::leading(&route, &namespace, &service.host, domain) == Leading::Whole
        });
        if let Some(service) = service {
            for (subset, header) in &service.subsets {
                routes.push(copy(&route, i, subset, header, service.retries.as_ref()));
            }
        }
        routes.push(route);
    }
    merged
}

/// A VirtualService without any route of ours.
#[must_use]
pub fn unmerge(virtual_service: &Value) -> Value {
    let mut user = virtual_service.clone();
    if let Some(routes) = routes_mut(&mut user) {
        routes.retain(|route| !is_ours(route));
    }
    user
}

/// Whether a VirtualService of a user's has routes of ours.
pub(crate) fn is_merged(virtual_service: &Value) -> bool {
    let http = virtual_service
        .pointer("/spec/http")
        .and_then(Value::as_array);
    http.into_iter().flatten().any(is_ours)
}

pub(super) fn is_ours(route: &Value) -> bool {
    route
        .get("name")
        .and_then(Value::as_str)
        .is_some_and(|name| name.starts_with(names::PREFIX))
}

fn routes_mut(virtual_service: &mut Value) -> Option<&mut Vec<Value>> {
    virtual_service.pointer_mut("/spec/http")?.as_array_mut()
}

fn copy(
    route: &Value,
    place: usize,
    subset: &str,
    header: &HeaderMatch,
    retries: Option<&Retries>,
) -> Value {
    let mut copy = route.clone();
    let Some(fields) = copy.as_object_mut() else {
        return copy;
    };
    fields.insert("name".to_owned(), json!(format!("{subset}-{place}")));
    let matches = match route.get("match").and_then(Value::as_array) {
        Some(matches) if !matches.is_empty() => matches.clone(),
        _ => vec![json!({})],
    };
    let mut with_header = Vec::new();
    for condition in header.conditions() {
        for one in &matches {
            let mut one = one.clone();
            if let Some(headers) = child(&mut one, "headers") {
                headers.insert(spillway_core::header::HOP.to_owned(), condition.clone());
            }
            with_header.push(one);
        }
    }
    fields.insert("match".to_owned(), Value::Array(with_header));
    for destination in fields
        .get_mut("route")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(destination) = child(destination, "destination") {
            destination.insert("subset".to_owned(), json!(subset));
        }
    }
    if let Some(retries) = retries {
        fields.insert("retries".to_owned(), retries.retries.clone());
        let set = child(&mut copy, "headers")
            .map(|headers| headers.entry("request").or_insert_with(|| json!({})))
            .and_then(|request| child(request, "set"));
        if let Some(set) = set {
            for (name, value) in &retries.headers {
                set.insert((*name).to_owned(), json!(value));
            }
        }
    }
    copy
}

/// The object under a name, which is made where there is none.
fn child<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    value
        .as_object_mut()?
        .entry(name)
        .or_insert_with(|| json!({}))
        .as_object_mut()
}
