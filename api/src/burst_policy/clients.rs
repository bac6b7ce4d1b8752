//! Who calls.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Which workloads call the services.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clients {
    /// Their namespaces; by default the policy's own.
    #[schemars(schema_with = "schema::namespaces")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Which of their workloads; by default all.
    #[serde(default, skip_serializing_if = "WorkloadSelector::is_empty")]
    pub selector: WorkloadSelector,
}

/// Workloads by their labels, as in Istio's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// All of these labels are there.
    #[schemars(schema_with = "schema::match_labels")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    /// It takes in every workload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty()
    }
}
