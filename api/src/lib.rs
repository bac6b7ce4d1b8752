//! What people write and what Spillway writes: the custom resources of the group `spillway.dev`
//! and the narrow slices of Istio's types that the planner fills in.
//!
//! The resources are refused by the API server itself wherever a schema or a CEL rule can tell
//! that they are wrong, with a sentence that says what to write instead. So the types here are lax
//! on purpose: a list of objects that cannot be read because of one of them would blind the
//! controller to all. What only the planner can know (does the service exist? do two policies
//! meet?) is its to say, as a condition.
//!
//! Of Istio's types only what is written has Rust types ([`istio`]). What users own stays a
//! [`serde_json::Value`]: a field that is not known here must come back as it was.

// kube's derive of schemas repeats the types inside functions, where their `pub` reaches nobody.
#![allow(unreachable_pub)]
// Each printer column has a type and a priority of its own.
#![allow(clippy::duplicated_attributes)]

pub mod burst_policy;
pub mod crds;
pub mod fleet;
pub mod istio;
pub mod mesh_cluster;
pub mod rate;
mod schema;

pub use burst_policy::{BurstPolicy, BurstPolicySpec, BurstPolicyStatus};
pub use fleet::{Fleet, FleetSpec, FleetStatus};
pub use mesh_cluster::{MeshCluster, MeshClusterSpec, MeshClusterStatus};
pub use rate::Rate;

/// The group of the resources, and the domain of labels and annotations.
pub const GROUP: &str = "spillway.dev";
