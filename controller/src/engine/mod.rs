//! The engine: from what was declared and seen to what every cluster has.
//!
//! - [`plan`]: one loop that plans and gives orders
//! - [`members`]: the clusters, what was seen of them, and their orders
//! - [`member`]: the life of one cluster: connect, claim, watch, write
//! - [`worker`]: writes to one control plane
//! - [`due`], [`stuck`], [`reverts`], [`repairs`]: what is to be written, what could not be, and
//!   what somebody keeps putting back or changing
//! - [`gate`], [`renewal`]: plugins that wait for the filter's image, and that are written anew when
//!   it has returned
//! - [`write`](mod@write): one write
//! - [`judge`], [`publish`], [`ledger`]: how everything is, and the statuses on the hub
//! - [`finalizer`]: a policy is gone only after it was cleaned up
//! - [`authority`], [`backoff`], [`options`], [`report`]: what these share

pub mod authority;
pub mod backoff;
mod due;
pub mod finalizer;
mod gate;
mod judge;
mod ledger;
pub mod member;
mod members;
pub mod options;
pub mod plan;
pub mod publish;
mod renewal;
mod repairs;
pub mod report;
mod reverts;
mod stuck;
pub mod worker;
pub mod write;

pub use authority::Authority;
pub use options::Options;
pub use plan::{Engine, Inputs};
pub use report::{ClusterReport, Reports, Snapshot};
