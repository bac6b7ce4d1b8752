//! The labels of what is counted: enums, and nothing else.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use spillway_api::istio;

use crate::clusters::call::Failure;

/// A kind that is written into clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// Ours, with subsets.
    DestinationRule,
    /// Ours, or a user's that routes are merged into.
    VirtualService,
    /// Ours.
    WasmPlugin,
}

impl From<istio::Kind> for Kind {
    fn from(kind: istio::Kind) -> Self {
        match kind {
            istio::Kind::DESTINATION_RULE => Self::DestinationRule,
            istio::Kind::WASM_PLUGIN => Self::WasmPlugin,
            _ => Self::VirtualService,
        }
    }
}

/// What became of a write into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Applied {
    /// It was written.
    Written,
    /// It was deleted.
    Deleted,
    /// Somebody else wrote first, and it is planned anew.
    Conflict,
    /// The API server refused it.
    Refused,
    /// There was no answer, or one about the server's own trouble.
    Failed,
}

impl From<&Failure> for Applied {
    fn from(failure: &Failure) -> Self {
        match failure.code() {
            Some(409) => Self::Conflict,
            _ if failure.is_local() => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// Whose API server is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Peer {
    /// The hub's, also where the hub is a cluster of the mesh. Calls for the Lease are not counted.
    Hub,
    /// That of a cluster that is attached.
    Member,
}

/// What is asked of an API server, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Verb {
    /// One object is read.
    Get,
    /// Objects are read.
    List,
    /// Objects are watched; counted when the watch begins.
    Watch,
    /// An object is made.
    Create,
    /// An object is replaced.
    Update,
    /// An object is applied or changed.
    Patch,
    /// An object is deleted.
    Delete,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// It was given up before there was an answer, mostly because its time was over.
    NoAnswer,
    /// There was no connection.
    Unreachable,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 429.
    Throttled,
    /// Another 4xx.
    Refused,
    /// 5xx.
    ServerError,
}

/// How a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub enum ClusterState {
    /// It has everything.
    Ready,
    /// It is being written to, or was not asked yet.
    Pending,
    /// It could not be written to, or is not used.
    Failed,
    /// Its API server does not answer.
    Unreachable,
    /// It can be read only.
    Discovered,
    /// Its MeshCluster cannot be read by this version.
    Unreadable,
}

impl ClusterState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Pending,
        Self::Failed,
        Self::Unreachable,
        Self::Discovered,
        Self::Unreadable,
    ];
}

/// How a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub enum PolicyState {
    /// Every cluster has it.
    Programmed,
    /// Some do not have it yet, or no cluster is to have it.
    Pending,
    /// Some could not be given it.
    Failed,
    /// It cannot be carried out as written.
    Refused,
    /// It cannot be read by this version: what it has stays as it is.
    Unreadable,
}

impl PolicyState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Programmed,
        Self::Pending,
        Self::Failed,
        Self::Refused,
        Self::Unreadable,
    ];
}

/// What was found out about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ImageResult {
    /// It can be had.
    Available,
    /// It cannot.
    Unavailable,
}

/// A resource of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Resource {
    /// `BurstPolicy`
    BurstPolicy,
    /// `Fleet`
    Fleet,
    /// `MeshCluster`
    MeshCluster,
}

/// Of writes into clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ApplyLabels {
    pub(super) kind: Kind,
    pub(super) result: Applied,
}

/// Of repaired drift.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KindLabels {
    pub(super) kind: Kind,
}

/// Of calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) peer: Peer,
    pub(super) verb: Verb,
    pub(super) outcome: Outcome,
}

/// Of clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClusterLabels {
    pub(super) state: ClusterState,
}

/// Of policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PolicyLabels {
    pub(super) state: PolicyState,
}

/// Of looks into registries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ImageLabels {
    pub(super) result: ImageResult,
}

/// Of statuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StatusLabels {
    pub(super) resource: Resource,
}
