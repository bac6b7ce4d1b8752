//! The wire form, field by field as it stands in JSON. Written by serde, read by [`super::read`],
//! which tells every error and not only the first.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::Serialize;

use crate::rate::Rate;
use crate::table::Table;

/// The version of this form.
pub const VERSION: u32 = 1;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Counts up with every change; shown as a metric.
    pub generation: u64,
    /// Whose side the plugin serves.
    pub side: Side,
    /// The mesh tokens: the first is sent, all are accepted.
    pub tokens: Vec<String>,
    /// The header that carries a cluster's prefix.
    #[serde(skip_serializing_if = "is_prefix_header")]
    pub prefix_header: String,
    /// What differs by cluster.
    pub clusters: Table<Cluster>,
    /// The policies.
    pub policies: Vec<Policy>,
}

/// The default of [`Document::prefix_header`].
pub const PREFIX_HEADER: &str = "x-spillway-prefix";

fn is_prefix_header(name: &str) -> bool {
    name == PREFIX_HEADER
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whose side a plugin serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Side {
    /// The caller's sidecar or gateway, outbound.
    Client,
    /// The server's sidecar, inbound.
    Server,
}

/// A row of the table of clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its tag; empty means none.
    pub prefix: String,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Travels in the header between sidecars.
    pub id: String,
    /// The label `service` of metrics.
    pub name: String,
    /// Where callers find it.
    #[serde(skip_serializing_if = "is_default")]
    pub destinations: Vec<Destination>,
    /// Which workloads serve it.
    #[serde(skip_serializing_if = "is_default")]
    pub workload: Option<Workload>,
    /// Where requests stay while there is room.
    #[serde(skip_serializing_if = "is_default")]
    pub home: Option<String>,
    /// The rungs, in order.
    #[serde(skip_serializing_if = "is_default")]
    pub overflow: Vec<Overflow>,
    /// Spill or Switch.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Limits of Switch mode.
    #[serde(skip_serializing_if = "is_default")]
    pub switch: Option<SwitchLimits>,
    /// What an endpoint serves, by cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub capacity: Table<Capacity>,
    /// Whether requests may be bounced.
    #[serde(skip_serializing_if = "is_default")]
    pub bounce: Bounce,
    /// Which bodies may be bounced.
    #[serde(skip_serializing_if = "is_default")]
    pub bodies: Bodies,
    /// Classes of routes.
    #[serde(skip_serializing_if = "is_default")]
    pub routes: Vec<Route>,
    /// Active or Shadow.
    #[serde(skip_serializing_if = "is_default")]
    pub enforcement: Enforcement,
    /// An override with its end.
    #[serde(rename = "override", skip_serializing_if = "is_default")]
    pub override_: Option<Override>,
    /// What happens when all is full.
    #[serde(skip_serializing_if = "is_default")]
    pub on_exhausted: OnExhausted,
}

/// A destination as it stands in the name of an Istio cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The service's full name.
    pub host: String,
    /// Its ports; none means all.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<u16>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// All of these labels are equal.
    pub labels: Table<String>,
    /// The application's ports; none means all.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<u16>,
}

/// A rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overflow {
    /// The cluster.
    pub cluster: String,
    /// What one calling proxy sends there at most.
    #[serde(skip_serializing_if = "is_default")]
    pub max_rate: Option<Rate>,
}

/// How a policy spills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Mode {
    /// The excess only.
    #[default]
    Spill,
    /// All or nothing, with hysteresis.
    Switch,
}

/// Limits of Switch mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchLimits {
    /// Above it all spills.
    pub enter: Rate,
    /// Below it all comes home.
    pub leave: Rate,
    /// Endpoints of the service by cluster: the limits are those of the whole service, where its
    /// home is one of these. Otherwise each caller goes by its own rate.
    #[serde(skip_serializing_if = "is_default")]
    pub endpoints: Table<NonZeroU32>,
}

/// What the endpoints of a cluster serve: one of `perEndpoint` and `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Of one endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub per_endpoint: Option<Amount>,
    /// Of all together.
    #[serde(skip_serializing_if = "is_default")]
    pub total: Option<Amount>,
    /// How many there are (M).
    pub endpoints: NonZeroU32,
}

/// A rate, a number of requests at once, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Requests in a time.
    #[serde(skip_serializing_if = "is_default")]
    pub rate: Option<Rate>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "is_default")]
    pub concurrency: Option<NonZeroU32>,
}

/// Whether requests may be bounced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Bounce {
    /// They may.
    #[default]
    On,
    /// The echo alone holds the limit.
    Off,
}

/// Which bodies may be bounced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// What the path begins with.
    pub path_prefix: String,
    /// The class.
    pub class: Class,
}

/// A class of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Class {
    /// Never leaves home.
    Never,
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Enforcement {
    /// It does.
    #[default]
    Active,
    /// It decides and counts, and changes nothing.
    Shadow,
}

/// An override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// To where.
    pub force: Force,
    /// Until when, seconds since 1970 UTC.
    pub until_unix_seconds: u64,
}

/// Where an override sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Force {
    /// All home.
    Home,
    /// All to the first rung.
    Overflow,
}

/// What happens when home and all rungs are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum OnExhausted {
    /// Served at home all the same.
    #[default]
    Home,
    /// 503 with the reason.
    Shed,
}
