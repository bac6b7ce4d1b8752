//! `Fleet`: a virtual site. Whoever carries the labels is in it, now and later.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Clusters by their labels.
#[derive(Clone, Debug, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Fleet",
    plural = "fleets",
    shortname = "fl",
    category = "spillway",
    status = "FleetStatus",
    derive = "PartialEq",
    doc = "A virtual site: the clusters that carry its labels, now and later.",
    printcolumn(
        name = "Clusters",
        type_ = "integer",
        json_path = ".status.clusters",
        description = "Clusters that carry the labels"
    ),
    printcolumn(
        name = "Deployed",
        type_ = "integer",
        json_path = ".status.deployed",
        description = "Clusters that have everything"
    ),
    printcolumn(
        name = "In progress",
        type_ = "integer",
        json_path = ".status.inProgress",
        description = "Clusters that are being written to"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.failed",
        description = "Clusters that could not be written to"
    ),
    printcolumn(
        name = "Health",
        type_ = "string",
        json_path = ".status.band",
        description = "green from a score of 75, yellow from 40, red below"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct FleetSpec {
    /// The labels of its MeshClusters.
    #[schemars(schema_with = "schema::label_selector")]
    pub cluster_selector: LabelSelector,
}

/// How a fleet is.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Standard conditions.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Clusters that carry the labels.
    #[serde(default)]
    pub clusters: u32,
    /// Clusters that have everything.
    #[serde(default)]
    pub deployed: u32,
    /// Clusters that are being written to.
    #[serde(default)]
    pub in_progress: u32,
    /// Clusters that could not be written to.
    #[serde(default)]
    pub failed: u32,
    /// The mean of its clusters' scores, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u32>,
    /// The score as a colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub band: Option<Band>,
}

/// A score as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Band {
    /// 75 and above.
    Green,
    /// 40 to 74.
    Yellow,
    /// Below 40.
    Red,
}

impl Band {
    /// The colour of a score.
    #[must_use]
    pub const fn of(score: u32) -> Self {
        match score {
            75.. => Self::Green,
            40..=74 => Self::Yellow,
            _ => Self::Red,
        }
    }
}
