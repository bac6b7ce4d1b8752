//! `WasmPlugin` of `extensions.istio.io/v1alpha1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The spec of a WasmPlugin.
///
/// It has no `vmConfig` on purpose: a changed environment resets the VM of a running filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmPluginSpec {
    /// The workloads that get it; all of the namespace without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The image, by digest.
    pub url: String,
    /// How to pull it.
    pub image_pull_policy: PullPolicy,
    /// A Secret of the plugin's namespace with the registry's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<String>,
    /// The plugin's name, which becomes the root id.
    pub plugin_name: String,
    /// What happens when it cannot be had or fails.
    pub fail_strategy: FailStrategy,
    /// Which listeners get it.
    pub r#match: Vec<TrafficSelector>,
    /// The plugin's configuration.
    pub plugin_config: Value,
}

/// Workloads by their labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// All of these labels are there.
    pub match_labels: BTreeMap<String, String>,
}

/// How to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Once; the digest tells that it is the right one.
    IfNotPresent,
}

/// What happens when a plugin cannot be had or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailStrategy {
    /// Traffic passes without it.
    #[serde(rename = "FAIL_OPEN")]
    FailOpen,
}

/// Which listeners get a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSelector {
    /// Inbound or outbound.
    pub mode: WorkloadMode,
}

/// The side of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkloadMode {
    /// The caller's: outbound listeners, and gateways.
    Client,
    /// The server's: inbound listeners.
    Server,
}
