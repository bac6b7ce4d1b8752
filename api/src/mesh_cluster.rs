//! `MeshCluster`: a cluster of the mesh, how the hub reaches it, and what was seen there.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A cluster of the mesh.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "MeshCluster",
    plural = "meshclusters",
    shortname = "mc",
    category = "spillway",
    status = "MeshClusterStatus",
    derive = "PartialEq",
    doc = "A cluster of the mesh, under the name that its proxies carry, and how the hub reaches it.",
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("write a name of at most 63 characters: it is the name that Istio knows the cluster by"),
    printcolumn(
        name = "Reachable",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].status",
        description = "Whether its API server answers"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether it has all that it should"
    ),
    printcolumn(
        name = "Access",
        type_ = "string",
        json_path = ".spec.access",
        description = "Discovered: it can be read and not written"
    ),
    printcolumn(
        name = "Control plane",
        type_ = "string",
        json_path = ".spec.controlPlane",
        description = "The cluster whose istiod serves it; empty: its own"
    ),
    printcolumn(
        name = "Kubernetes",
        type_ = "string",
        json_path = ".status.versions.kubernetes",
        description = "The version of its API server"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "Why it is not ready",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.access == 'Hub' ? !has(self.secretRef) : true")
        .message("the hub is reached by the controller's own account: leave secretRef out"),
    validation = Rule::new("self.access == 'Hub' ? true : has(self.secretRef)")
        .message("write secretRef: {namespace, name} of the Secret with the cluster's kubeconfig, or access: Hub for the cluster that the controller runs in")
)]
pub struct MeshClusterSpec {
    /// How the hub reaches it.
    #[serde(default)]
    pub access: Access,
    /// The Secret with its kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The MeshCluster whose istiod serves this one, in a primary–remote mesh; by default itself.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<String>,
    /// Istio's name of the cluster (`global.multiCluster.clusterName`), where it differs from this
    /// object's name.
    #[schemars(length(max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')")
            .message("write the name that Istio knows the cluster by: 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// The tag that requests and answers of this cluster carry; empty means none.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9._-]*$')")
            .message("write at most 64 of A-Z a-z 0-9 . _ -")
    )]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// How the hub reaches a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Access {
    /// By a kubeconfig that may write.
    #[default]
    Attached,
    /// By a kubeconfig of Istio's, which may only read: shown, and never written to.
    Discovered,
    /// It is the cluster that the controller runs in.
    Hub,
}

/// A Secret on the hub.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
            .message("write the name of a namespace")
    )]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
            .message("write the name of a Secret")
    )]
    pub name: String,
}

/// What was seen of a cluster.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshClusterStatus {
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Reachable`, `Ready`, and what is to be known besides.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The UID of its `kube-system`: one cluster is never attached twice.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// Where it is, as its mesh says: `topology.istio.io/network`.
    #[schemars(schema_with = "schema::match_labels")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_labels: BTreeMap<String, String>,
    /// How healthy it is, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u32>,
    /// When its API server answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// Versions of what runs in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// The API server's.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
}
