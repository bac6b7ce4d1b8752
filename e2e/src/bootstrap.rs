//! A sidecar's bootstrap: who it is (as Istio's agent tells Envoy), where its configuration lies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::address::ADMIN_PORT;
use crate::listeners::file_source;

/// Who a sidecar is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) workload: String,
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) cluster: String,
    pub(crate) region: String,
    pub(crate) address: Ipv4Addr,
}

/// The metric labels that `sidecar.istio.io/extraStatTags` names for Spillway.
const EXTRA_STAT_TAGS: [&str; 7] = [
    "service", "side", "reason", "target", "verdict", "class", "plugin",
];

/// What a sidecar starts with. Listeners never change. Of clusters and routes, outbound ones do,
/// and only those are watched for: each file that Envoy watches costs one of the 128 inotify
/// instances that Linux allows a user by default.
pub(crate) struct Resources {
    pub(crate) listeners: Vec<Value>,
    pub(crate) clusters: Vec<Value>,
    pub(crate) outbound: bool,
}

pub(crate) fn bootstrap(
    identity: &Identity,
    folder: &Path,
    extra_stat_tags: bool,
    resources: &Resources,
) -> Value {
    let tags: Vec<Value> = EXTRA_STAT_TAGS
        .iter()
        .filter(|_| extra_stat_tags)
        .map(|tag| json!({"tag_name": tag, "regex": format!("({tag}=\\.=(.*?);\\.;)")}))
        .collect();
    let dynamic = if resources.outbound {
        json!({"cds_config": file_source(folder, "cds.json")})
    } else {
        json!({})
    };
    json!({
        "node": node(identity),
        "admin": {"address": {"socket_address": {
            "address": identity.address.to_string(),
            "port_value": ADMIN_PORT,
        }}},
        "stats_config": {"use_all_default_tags": false, "stats_tags": tags},
        "static_resources": {
            "listeners": resources.listeners,
            "clusters": resources.clusters,
        },
        "dynamic_resources": dynamic,
    })
}

fn node(identity: &Identity) -> Value {
    let Identity {
        name,
        workload,
        namespace,
        address,
        ..
    } = identity;
    json!({
        "id": format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        "cluster": format!("{workload}.{namespace}"),
        "locality": {"region": identity.region},
        "metadata": {
            "CLUSTER_ID": identity.cluster,
            "INSTANCE_IPS": address.to_string(),
            "ISTIO_VERSION": "1.31.0",
            "LABELS": identity.labels,
            "MESH_ID": "cluster.local",
            "NAME": name,
            "NAMESPACE": namespace,
            "OWNER": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}"),
            "WORKLOAD_NAME": workload,
        },
    })
}
