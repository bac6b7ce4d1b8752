//! How members are reached, who they are, and whether they are this hub's to write to.
//!
//! - [`kubeconfig`]: a Secret's kubeconfig to a client's configuration, or what is wrong with it
//! - [`client`]: the connection to an API server
//! - [`call`]: one call with a deadline, and what went wrong in words without credentials
//! - [`count`]: the calls of a client, counted
//! - [`identity`]: which cluster it is
//! - [`claim`]: whose cluster it is

pub mod call;
pub mod claim;
pub mod client;
pub mod count;
pub mod identity;
pub mod kubeconfig;
