//! A real Istio for the tests: several clusters, their istiods, and pods with agents and Envoys.
//!
//! The file-driven mesh of `spillway-e2e` proves the filter on configuration of the form that
//! istiod writes. Here istiod writes it, the agent pulls the image from a registry, and requests
//! are intercepted, secured and routed as in any cluster:
//!
//! - [`sandbox`]: each test has a machine of its own, whose end is the end of all that it started
//! - [`network`]: the node, and the addresses of what runs on it
//! - [`pod`]: a pod: its namespaces, its interception, its agent, and code that runs inside
//! - [`mesh`]: clusters with their istiods and pods
//! - [`spillway`]: the controller and the filter, installed as users install them
//! - [`stage`]: the mesh as a stage for scenarios
//! - [`policy`]: what the hub tells of a policy
//! - [`filters`]: what a sidecar runs of them
//! - [`propagation`]: how long a change takes
//! - [`istioctl`]: what Istio's own tool says of objects and proxies
//!
//! Applications, loads and their analysis are those of `spillway-e2e`: they are run inside a pod,
//! where their sockets are the pod's.

mod authority;
pub mod filters;
pub mod istioctl;
mod istiod;
pub mod mesh;
pub mod network;
pub mod pod;
pub mod policy;
pub mod programs;
pub mod propagation;
pub mod sandbox;
pub mod spillway;
pub mod stage;
pub mod wait;
