//! Which cluster it is: the UID of its `kube-system`, which is made once with the cluster. Names,
//! addresses and certificates change, and two of each may lead to one cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use super::call::{Failure, call};

/// The cluster's identity, and the version of its API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The UID of `kube-system`.
    pub uid: String,
    /// The version of its API server, such as `v1.36.4`.
    pub version: String,
}

/// Asks a cluster who it is.
///
/// # Errors
/// When it does not answer, or has no `kube-system` that may be read.
pub async fn identity(client: &Client, deadline: Duration) -> Result<Identity, Failure> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = call(deadline, namespaces.get_metadata("kube-system")).await?;
    let version = call(deadline, client.apiserver_version()).await?;
    Ok(Identity {
        uid: system.metadata.uid.ok_or(Failure::Answer)?,
        version: version.git_version,
    })
}
