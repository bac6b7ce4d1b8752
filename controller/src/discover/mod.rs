//! Clusters that Istio knows and nobody attached.
//!
//! Istio is told of remote clusters by Secrets with a label, of which every key is the name of a
//! cluster and its value a kubeconfig. From these a MeshCluster is made for each cluster that has
//! none, so that people see what there is to attach. Its access is Discovered: that account of
//! Istio's reads, and nothing is written by it.
//!
//! What was made so goes again when Istio forgets the cluster, or when somebody makes a MeshCluster
//! of that name; one that somebody attached, by editing it, is theirs from then on. Who writes takes
//! what it has just read: a MeshCluster that was edited meanwhile is not deleted.
//!
//! - [`changes`]: what is to be made and deleted, pure
//! - [`secrets`]: the names that the Secrets tell of
//! - [`Discovery`]: makes and deletes

pub mod changes;
mod discovery;
pub mod secrets;

pub use discovery::Discovery;
