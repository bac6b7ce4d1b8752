//! Where objects go when there is no API server: a directory, as GitOps tools and the local mesh
//! take it.
//!
//! - [`source`]: resources and clusters from manifests
//! - [`directory`]: objects into files, and out again

pub mod directory;
pub mod source;
