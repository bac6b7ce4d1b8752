//! What clusters serve.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;
use crate::schema;

/// What clusters serve. The amount written here is that of home, or of each cluster where no home
/// is named; a rung has a limit only where `overrides` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.perEndpoint) && has(self.total))")
        .message("write one of perEndpoint and total"),
    validation = Rule::new("has(self.perEndpoint) || has(self.total) || (has(self.overrides) && size(self.overrides) > 0)")
        .message("a capacity says nothing: write perEndpoint: {rate: \"50/s\"}, or total")
)]
pub struct Capacity {
    /// What each ready endpoint serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_endpoint: Option<Amount>,
    /// What all ready endpoints of the cluster serve together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Amount>,
    /// What other clusters serve. One that names a cluster goes before one that names its fleet.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, (has(a.cluster) ? a.cluster : '') == (has(b.cluster) ? b.cluster : '') && (has(a.fleet) ? a.fleet : '') == (has(b.fleet) ? b.fleet : '')))")
            .message("a cluster or fleet has a capacity already: write it once")
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<CapacityOverride>,
}

/// What one cluster serves, or each cluster of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cluster) != has(self.fleet)")
        .message("write one of cluster and fleet"),
    validation = Rule::new("has(self.perEndpoint) != has(self.total)")
        .message("write one of perEndpoint and total")
)]
pub struct CapacityOverride {
    /// A MeshCluster.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A Fleet.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// What each ready endpoint serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_endpoint: Option<Amount>,
    /// What all ready endpoints of the cluster serve together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Amount>,
}

/// A rate, a number of requests at once, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.rate) || has(self.concurrency)")
        .message("write a rate, a concurrency, or both")
)]
pub struct Amount {
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Requests in flight: an endpoint that becomes slow then sheds load at an unchanged rate.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}
