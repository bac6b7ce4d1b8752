//! The wire form, field by field as it stands in JSON. Unknown fields are refused.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::rate::Rate;

/// The version of this form.
pub const VERSION: u32 = 1;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Counts up with every change; shown as a metric.
    #[serde(default)]
    pub generation: u64,
    /// Whose side the plugin serves.
    pub side: Side,
    /// The mesh tokens: the first is sent, all are accepted.
    pub tokens: Vec<String>,
    /// The header that carries a cluster's prefix.
    #[serde(default = "prefix_header", skip_serializing_if = "is_prefix_header")]
    pub prefix_header: String,
    /// What differs by cluster.
    pub clusters: BTreeMap<String, Cluster>,
    /// The policies; each is read on its own, so that one error does not hide the next.
    pub policies: Vec<serde_json::Value>,
}

fn prefix_header() -> String {
    "x-spillway-prefix".into()
}

fn is_prefix_header(name: &String) -> bool {
    *name == prefix_header()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whose side a plugin serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The caller's sidecar or gateway, outbound.
    Client,
    /// The server's sidecar, inbound.
    Server,
}

/// A row of the table of clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// Its tag; empty means none.
    #[serde(default)]
    pub prefix: String,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Travels in the header between sidecars.
    pub id: String,
    /// The label `service` of metrics.
    pub name: String,
    /// Where callers find it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destinations: Vec<Destination>,
    /// Which workloads serve it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workload: Option<Workload>,
    /// Where requests stay while there is room.
    #[serde(default, skip_serializing_if = "is_default")]
    pub home: Option<String>,
    /// The rungs, in order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overflow: Vec<Overflow>,
    /// Spill or Switch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Limits of Switch mode.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switch: Option<SwitchLimits>,
    /// What an endpoint serves, by cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capacity: BTreeMap<String, Capacity>,
    /// Whether requests may be bounced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bounce: Bounce,
    /// Which bodies may be bounced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bodies: Bodies,
    /// Classes of routes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub routes: Vec<Route>,
    /// Active or Shadow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enforcement: Enforcement,
    /// An override with its end.
    #[serde(default, rename = "override", skip_serializing_if = "is_default")]
    pub override_: Option<Override>,
    /// What happens when all is full.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_exhausted: OnExhausted,
}

/// A destination as it stands in the name of an Istio cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// The service's full name.
    pub host: String,
    /// Its ports; none means all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<u16>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// All of these labels are equal.
    pub labels: BTreeMap<String, String>,
    /// The application's ports; none means all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<u16>,
}

/// A rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overflow {
    /// The cluster.
    pub cluster: String,
    /// What one calling proxy sends there at most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_rate: Option<Rate>,
}

/// How a policy spills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The excess only.
    #[default]
    Spill,
    /// All or nothing, with hysteresis.
    Switch,
}

/// Limits of Switch mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchLimits {
    /// Above it all spills.
    pub enter: Rate,
    /// Below it all comes home.
    pub leave: Rate,
}

/// What the endpoints of a cluster serve: one of `perEndpoint` and `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Of one endpoint.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_endpoint: Option<Amount>,
    /// Of all together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub total: Option<Amount>,
    /// How many there are (M).
    #[serde(default = "one")]
    pub endpoints: NonZeroU32,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// A rate, a number of requests at once, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amount {
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate: Option<Rate>,
    /// Requests in flight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub concurrency: Option<NonZeroU32>,
}

/// Whether requests may be bounced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bounce {
    /// They may.
    #[default]
    On,
    /// The echo alone holds the limit.
    Off,
}

/// Which bodies may be bounced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bodies {
    /// None.
    Never,
    /// A content-length of at most 64 KiB, and gRPC.
    #[default]
    Small,
    /// Those of unknown length too.
    Buffered,
}

/// A class for requests of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// What the path begins with.
    pub path_prefix: String,
    /// The class.
    pub class: Class,
}

/// A class of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Never leaves home.
    Never,
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enforcement {
    /// It does.
    #[default]
    Active,
    /// It decides and counts, and changes nothing.
    Shadow,
}

/// An override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Override {
    /// To where.
    pub force: Force,
    /// Until when, seconds since 1970 UTC.
    pub until_unix_seconds: u64,
}

/// Where an override sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Force {
    /// All home.
    Home,
    /// All to the first rung.
    Overflow,
}

/// What happens when home and all rungs are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExhausted {
    /// Served at home all the same.
    #[default]
    Home,
    /// 503 with the reason.
    Shed,
}
