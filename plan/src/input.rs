//! What a plan is made from: the hub's resources and what was observed in the clusters.
//!
//! Resources of Kubernetes and of Istio stand here as their API servers give them, so that an
//! input can be put together with `kubectl get -o yaml`. Whoever observes has them already and goes
//! on having them, so an input shares them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;
use serde_json::Value;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};

use crate::settings::Mesh;
use crate::text::Text;

/// Everything.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// The mesh's settings.
    pub mesh: Mesh,
    /// The clusters.
    #[serde(default)]
    pub clusters: Vec<Cluster>,
    /// The fleets.
    #[serde(default, deserialize_with = "shared::all")]
    pub fleets: Vec<Arc<Fleet>>,
    /// The policies. One that is being deleted is to be left out.
    #[serde(default, deserialize_with = "shared::all")]
    pub policies: Vec<Arc<BurstPolicy>>,
    /// What is there besides, and cannot be read.
    #[serde(default)]
    pub unreadable: Unreadable,
}

/// Resources that are there and cannot be read, as those of a newer version. What was made of them
/// stays as it is: nothing is known that should be otherwise. A MeshCluster that cannot be read is
/// among the clusters, as one that was not observed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Unreadable {
    /// BurstPolicies, by `NAMESPACE/NAME`. One that is being deleted is to be left out.
    pub policies: BTreeSet<String>,
    /// Fleets, by name.
    pub fleets: BTreeSet<String>,
}

/// A cluster, and what was seen of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// The resource.
    #[serde(deserialize_with = "shared::one")]
    pub resource: Arc<MeshCluster>,
    /// What was seen, now or before it went away. Nothing where it was never reached.
    #[serde(default, deserialize_with = "shared::perhaps")]
    pub observed: Option<Arc<Observed>>,
    /// The objects with our label that are there, in its configuration cluster. They tell what is
    /// deployed where a cluster cannot be asked.
    #[serde(default)]
    pub deployed: Vec<Text>,
}

/// What was seen of a cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Observed {
    /// The UID of its `kube-system`, which tells clusters apart.
    pub uid: String,
    /// Its network (`topology.istio.io/network`); none where all pods reach each other.
    pub network: Option<String>,
    /// Istio's resources are not installed.
    pub without_istio: bool,
    /// The labels of its namespaces, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Its services.
    #[serde(deserialize_with = "shared::all")]
    pub services: Vec<Arc<Service>>,
    /// The endpoints of its own pods, by `NAMESPACE/SERVICE`.
    pub endpoints: BTreeMap<String, Endpoints>,
    /// The VirtualServices that are not ours.
    #[serde(deserialize_with = "shared::all")]
    pub virtual_services: Vec<Arc<Value>>,
    /// The DestinationRules that are not ours.
    #[serde(deserialize_with = "shared::all")]
    pub destination_rules: Vec<Arc<Value>>,
    /// Gateway API's HTTPRoutes.
    #[serde(deserialize_with = "shared::all")]
    pub http_routes: Vec<Arc<Value>>,
    /// Istio's Gateways.
    #[serde(deserialize_with = "shared::all")]
    pub gateways: Vec<Arc<Value>>,
    /// ServiceEntries.
    #[serde(deserialize_with = "shared::all")]
    pub service_entries: Vec<Arc<Value>>,
}

/// The endpoints of a service in one cluster, summed over its EndpointSlices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Endpoints {
    /// How many are ready.
    pub ready: u32,
    /// The numbers of the ports, by name; they resolve target ports that are named.
    pub ports: BTreeMap<String, u16>,
}

/// What serde does for an [`Arc`] with a feature that every crate here would have to be built with.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer};

    pub(super) fn one<'de, T, D>(deserializer: D) -> Result<Arc<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        T::deserialize(deserializer).map(Arc::new)
    }

    pub(super) fn perhaps<'de, T, D>(deserializer: D) -> Result<Option<Arc<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
    }

    pub(super) fn all<'de, T, D>(deserializer: D) -> Result<Vec<Arc<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let all = Vec::<T>::deserialize(deserializer)?;
        Ok(all.into_iter().map(Arc::new).collect())
    }
}
