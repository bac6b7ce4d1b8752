//! The planner: from resources and observations to objects for every control plane, and to a word
//! for every policy about what became of it.
//!
//! It is a pure function. There is no client, no clock and no state: what it decides, it decides
//! from its [`Input`], which an operator can write down and read again, and a restarted controller
//! comes to the same objects byte for byte. The way of a policy is
//!
//! 1. [`validate`]: everything that is wrong, in words, and for the rest a form that cannot be
//!    wrong ([`model`]);
//! 2. [`build`]: objects from that form, which cannot fail;
//! 3. [`conditions`]: what the policy's owner is told;
//! 4. [`diff`]: what has to be written to come from the objects that are there to those that are
//!    wanted, in an order in which no request is lost.
//!
//! # Where objects go
//! An istiod reads only its own configuration cluster, so objects are made per *control plane* and
//! not per cluster. In a primary–remote mesh one copy serves several clusters; whatever differs
//! among them stands in a table inside the plugin's configuration, and the filter picks its row.
//!
//! # What was not seen
//! A cluster that was not reached yet (`observed` is missing) is not the same as one in which
//! there is nothing: nothing is concluded from it, nothing is planned for it, and what it had a
//! part in keeps the values that are deployed. So a restart while a cluster is away changes
//! nothing anywhere.
//!
//! Nor is a policy that cannot be read one that is gone: the objects that name it stay as they are,
//! and so does every policy that shares one of them.

pub mod build;
pub mod conditions;
pub mod diff;
mod endpoints;
pub mod input;
pub mod model;
pub mod names;
pub mod output;
pub mod settings;
pub mod text;
pub mod user;
mod validate;
mod world;

pub use input::{Cluster, Endpoints, Input, Observed, Unreadable};
pub use output::{ControlPlane, Edit, Key, Object, Plan, PolicyReport};
pub use settings::Mesh;
pub use text::Text;
pub use user::merge::{Copies, merge, unmerge};

/// What a policy says, or all that is wrong with it as it is written, each with its path. Nothing is
/// looked up: capacities of other clusters go by the names of clusters and fleets as they stand in
/// the policy.
///
/// # Errors
/// All of them, each with its path.
pub fn read(policy: &spillway_api::BurstPolicy) -> Result<model::Terms, Vec<String>> {
    validate::read(policy)
}

/// Plans everything.
#[must_use]
pub fn plan(input: &Input) -> Plan {
    let world = world::World::new(input);
    let accepted = validate::all(&world, input);
    build::all(&world, accepted)
}
