//! `DestinationRule` of `networking.istio.io/v1`, with subsets only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The spec of a DestinationRule of ours: subsets with every setting inside, since Istio merges
/// several rules of one host and the host's own settings are the user's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// The service.
    pub host: String,
    /// One for home, one a rung.
    pub subsets: Vec<Subset>,
    /// The namespaces that see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
}

/// A subset without labels: it holds all endpoints, with one cluster's first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub traffic_policy: TrafficPolicy,
}

/// The settings of a subset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// The settings of all ports without their own.
    #[serde(flatten)]
    pub settings: Settings,
    /// Ports with their own; nothing of [`Self::settings`] holds for these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_level_settings: Vec<PortSettings>,
}

/// The settings of a port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortSettings {
    /// The port.
    pub port: PortSelector,
    /// Its settings.
    #[serde(flatten)]
    pub settings: Settings,
}

/// A port by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSelector {
    /// The service's port.
    pub number: u16,
}

/// How requests find an endpoint. What is the user's is kept as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The balancer, with the first cluster in `localityLbSetting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<Value>,
    /// What makes an endpoint unhealthy. Without it a cluster has no priorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<Value>,
    /// The user's limits of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<Value>,
    /// TLS to the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Value>,
}
