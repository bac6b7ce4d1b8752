//! The controller: carries policies into every cluster of a fleet.
//!
//! It watches the hub's resources and what matters in the clusters, asks the planner what every
//! control plane is to have, and sees to it that it has that, and nothing of ours besides. It
//! holds nothing that is not in the clusters: killed, restarted or run twice, it comes to the same
//! objects, and as long as nothing changes it writes nothing.
//!
//! Clusters are independent. Each has a queue that holds its newest intent only, a deadline for
//! every call, and a back-off of its own, so that one that hangs, refuses or is gone holds up no
//! other.

pub mod clusters;
pub mod discover;
pub mod engine;
pub mod image;
pub mod lead;
pub mod metrics;
pub mod observe;
pub mod run;
pub mod serve;
pub mod settings;
pub mod status;
pub mod target;
pub mod tokens;
