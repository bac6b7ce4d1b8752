//! `VirtualService` of `networking.istio.io/v1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The spec of a VirtualService of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServiceSpec {
    /// The service.
    pub hosts: Vec<String>,
    /// One route a rung and token, and one for home.
    pub http: Vec<HttpRoute>,
    /// The namespaces that see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// Its name.
    pub name: String,
    /// The requests that take it; all without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#match: Vec<HttpMatch>,
    /// Headers that are set on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// When requests are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Where they go.
    pub route: Vec<RouteDestination>,
}

/// The requests that take a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// By headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, StringMatch>,
    /// By the service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// How a text matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// It begins so.
    Prefix(String),
    /// All of it matches this regular expression (RE2).
    Regex(String),
}

/// Headers that are set on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// On the request.
    pub request: HeaderOperations,
}

/// What is done to headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOperations {
    /// Set, whatever stood there.
    pub set: BTreeMap<String, String>,
}

/// When requests are repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How often.
    pub attempts: u32,
    /// After what.
    pub retry_on: String,
    /// Also in the next priority, which is the other clusters.
    pub retry_remote_localities: bool,
    /// How long to wait, as `1ms`.
    pub backoff: String,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteDestination {
    /// The host and subset.
    pub destination: Destination,
}

/// A host and subset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The service.
    pub host: String,
    /// One of its subsets; all of it without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
}
