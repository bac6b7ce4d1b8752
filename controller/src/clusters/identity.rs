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

/// The oldest Kubernetes whose API servers hold the account to what is Spillway's, by a
/// ValidatingAdmissionPolicy: 1.30.
const OLDEST: (u32, u32) = (1, 30);

impl Identity {
    /// What is wrong with the API server's version, if it is too old. One that cannot be read is
    /// none of those that were.
    #[must_use]
    pub fn too_old(&self) -> Option<String> {
        let mut numbers = self.version.trim_start_matches('v').split('.');
        let major = numbers.next()?.parse::<u32>().ok()?;
        let minor = numbers.next()?.parse::<u32>().ok()?;
        let (least_major, least_minor) = OLDEST;
        ((major, minor) < OLDEST).then(|| {
            format!(
                "its API server is of the version {}: upgrade it to {least_major}.{least_minor} or newer, nothing is written to it before",
                self.version
            )
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_too_old() {
        for (version, too_old) in [
            ("v1.29.14", true),
            ("v1.9.0-gke.100", true),
            ("v1.30.0", false),
            ("v1.36.4+k3s1", false),
            ("v2.0.0", false),
            ("nightly", false),
        ] {
            let identity = Identity {
                uid: String::new(),
                version: version.to_owned(),
            };
            assert_eq!(identity.too_old().is_some(), too_old, "{version}");
        }
    }
}
