//! The local mesh: real Envoys as sidecars of named clusters, applications, and open-loop load.
//!
//! What the filter promises, it promises of Envoy: that a route is chosen anew, that an answer is
//! repeated in the next priority, that a configuration arrives in all threads. So the tests run
//! the Envoys that Istio ships, on configuration of the form that istiod writes, on loopback
//! addresses, without Kubernetes. The parts:
//!
//! - [`mesh`]: starts and changes a mesh, from a [`topology`]; begin with its example
//! - [`sidecar`]: one Envoy: its statistics, logs, configuration, memory and processor time
//! - [`policy`]: plugin configurations for both sides; [`rendered`]: those that the controller wrote
//! - [`app`]: the applications behind the sidecars, which write down what reached them
//! - [`client`]: single requests; [`load`]: many, on a schedule
//! - [`analysis`]: whether a limit held in every window; [`canary`]: whether the machine stood still
//! - [`scenarios`]: what requests do under a policy, on any mesh that is a [`stage`]
//! - [`artefacts`]: where Envoy and the filter are found; [`bench`]: the results of benchmarks
//!
//! Nothing outlives the process that started it, however it ends ([`process`]).

pub mod address;
pub mod analysis;
pub mod app;
pub mod artefacts;
pub mod bench;
pub mod body;
mod bootstrap;
pub mod canary;
pub mod client;
mod clusters;
pub mod folder;
pub mod killed;
mod listeners;
pub mod load;
mod locks;
pub mod mesh;
pub mod policy;
pub mod process;
pub mod prometheus;
pub mod random;
pub mod rendered;
mod routes;
pub mod scenarios;
pub mod sidecar;
pub mod stage;
pub mod topology;

pub use listeners::Configuration;
