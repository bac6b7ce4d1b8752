//! The settings of a mesh that matter here.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::MeshCluster;
use spillway_controller::observe::kinds::Kind;

use super::report::Category;
use crate::connection::Cluster;
use crate::install::environment;
use crate::objects;

/// The oldest Istio that serves `networking.istio.io/v1`.
const OLDEST: (u32, u32) = (1, 22);
/// Which network a cluster is in.
const NETWORK: &str = "topology.istio.io/network";
/// What is known of a mesh.
pub(super) struct Mesh {
    pub(super) category: Category,
    /// Empty where the mesh is one network.
    pub(super) network: String,
}

/// Looks at a cluster's Istio; without a MeshCluster, before there is one.
pub(super) async fn look(
    seen: &Cluster,
    cluster: Option<&MeshCluster>,
    root_namespace: &str,
) -> Mesh {
    let name = cluster.map_or_else(|| seen.name.clone(), ResourceExt::name_any);
    let mut category = Category::new(format!("mesh of {name}"));
    served(&mut category, seen).await;
    // One that another's istiod serves has no settings of its own.
    let is_own = cluster.is_none_or(|cluster| {
        let plane = cluster.spec.control_plane.as_ref();
        plane.is_none_or(|plane| *plane == name)
    });
    if is_own {
        istiod(&mut category, seen, cluster, root_namespace).await;
        settings(&mut category, seen, root_namespace).await;
    }
    let namespaces: Api<Namespace> = Api::all(seen.client.clone());
    let root = namespaces.get_metadata_opt(root_namespace).await;
    let root = root.ok().flatten();
    let network = root.and_then(|root| root.labels().get(NETWORK).cloned());
    Mesh {
        category,
        network: network.unwrap_or_default(),
    }
}

async fn served(category: &mut Category, seen: &Cluster) {
    for kind in [
        Kind::VirtualService,
        Kind::DestinationRule,
        Kind::WasmPlugin,
    ] {
        let resource = kind.resource();
        let description = format!("{} of {} is served", resource.kind, resource.api_version);
        let like = json!({"apiVersion": resource.api_version, "kind": resource.kind});
        let known = seen
            .client
            .list_api_group_resources(&resource.api_version)
            .await;
        let is_known =
            known.is_ok_and(|known| known.resources.iter().any(|it| it.kind == resource.kind));
        if is_known && objects::list(seen, &like, "none=none").await.is_ok() {
            category.fine(description);
        } else {
            category.wrong(
                description,
                "its API server does not know it, or you may not read it",
                "Install or upgrade Istio: 1.22 is the oldest that has it.",
            );
        }
    }
}

async fn istiod(
    category: &mut Category,
    seen: &Cluster,
    cluster: Option<&MeshCluster>,
    root_namespace: &str,
) {
    let all: Api<Deployment> = Api::namespaced(seen.client.clone(), root_namespace);
    let found = all.list(&ListParams::default().labels("app=istiod")).await;
    let Some(istiod) = found.ok().and_then(|all| all.items.into_iter().next()) else {
        category.warn(
            "its istiod is seen",
            format!("{root_namespace} has no Deployment with the label app=istiod, or you may not read it"),
            "Where istiod runs elsewhere, look at its version and settings there.",
        );
        return;
    };
    let version = version(&istiod);
    match version.as_deref().and_then(numbers) {
        Some(known) if known < OLDEST => category.wrong(
            "its istiod is new enough",
            format!("it is {}", version.unwrap_or_default()),
            "Upgrade Istio to 1.22 or newer.",
        ),
        Some(_) => category.fine(format!("its istiod is {}", version.unwrap_or_default())),
        None => category.warn(
            "its istiod is new enough",
            "its image has no version in its tag",
            "See that it is 1.22 or newer.",
        ),
    }
    let Some(cluster) = cluster else { return };
    let own = cluster.name_any();
    let wanted = cluster.spec.cluster_name.clone().unwrap_or(own);
    // What istiod calls a cluster that it was told no name of.
    let named = environment(&istiod, "CLUSTER_ID").unwrap_or_else(|| "Kubernetes".to_owned());
    if named == wanted {
        category.fine(format!("Istio knows it as {named}, and so does Spillway"));
    } else {
        category.wrong(
            "Istio and Spillway know it by the same name",
            format!("to Istio it is {named}, to Spillway {wanted}: its proxies find no row of theirs, and routes lead nowhere"),
            format!("Name it so: spillway attach {} --name {} --cluster-name {named}", seen.name, cluster.name_any()),
        );
    }
}

fn version(istiod: &Deployment) -> Option<String> {
    let pods = istiod.spec.as_ref()?.template.spec.as_ref()?;
    let image = pods.containers.first()?.image.as_ref()?;
    let tag = image.split('@').next()?.rsplit_once(':')?.1;
    Some(tag.to_owned())
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The mesh's configuration.
async fn settings(category: &mut Category, seen: &Cluster, root_namespace: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(seen.client.clone(), root_namespace);
    let map = maps.get_opt("istio").await.ok().flatten();
    let Some(text) = map.and_then(|map| map.data?.remove("mesh")) else {
        category.warn(
            "its mesh configuration is seen",
            format!("{root_namespace} has no ConfigMap istio, or you may not read it"),
            "Where there are revisions, look at that of your proxies: WASM_MODULE_EXPIRY and localityLbSetting.",
        );
        return;
    };
    match serde_saphyr::from_str::<Value>(&text) {
        Ok(mesh) => judge(category, &mesh, root_namespace),
        Err(error) => category.wrong(
            "its mesh configuration can be read",
            error.to_string(),
            format!("Mend the ConfigMap istio in {root_namespace}."),
        ),
    }
}

fn judge(category: &mut Category, mesh: &Value, root_namespace: &str) {
    let at = |path| mesh.pointer(path);
    if at("/defaultConfig/proxyMetadata/WASM_MODULE_EXPIRY").is_some() {
        category.fine("proxies keep the filter's image");
    } else {
        category.warn(
            "proxies keep the filter's image",
            "WASM_MODULE_EXPIRY is not set: after a day the image is thrown away, and a proxy that cannot fetch it anew goes on without the filter",
            "Set meshConfig.defaultConfig.proxyMetadata.WASM_MODULE_EXPIRY to 8760h.",
        );
    }
    if at("/localityLbSetting/enabled").and_then(Value::as_bool) == Some(false) {
        category.wrong(
            "endpoints have priorities",
            "localityLbSetting.enabled is false: routes to another cluster do not prefer it",
            "Take it out of the mesh configuration, or set it to true.",
        );
    } else {
        category.fine("endpoints have priorities");
    }
    let root = at("/rootNamespace").and_then(Value::as_str);
    if let Some(root) = root.filter(|root| *root != root_namespace) {
        category.wrong(
            "the root namespace is the same to Istio and Spillway",
            format!("to Istio it is {root}, to Spillway {root_namespace}: a filter there would reach every proxy"),
            format!("spillway upgrade --set mesh.rootNamespace={root}"),
        );
    }
    if at("/defaultHttpRetryPolicy/attempts").and_then(Value::as_u64) == Some(0) {
        category.warn(
            "requests are retried where nothing is said",
            "defaultHttpRetryPolicy.attempts is 0: routes of your own without retries do not repeat a bounced request",
            "Leave it out, or give these routes retries.",
        );
    }
}

/// Whether the networks of all clusters fit together.
pub(super) fn networks(networks: &BTreeMap<String, String>) -> Option<Category> {
    if networks.len() < 2 {
        return None;
    }
    let mut category = Category::new("networks");
    let without: Vec<&str> = networks
        .iter()
        .filter(|(_, network)| network.is_empty())
        .map(|(cluster, _)| cluster.as_str())
        .collect();
    let kinds: BTreeSet<&String> = networks.values().collect();
    if without.is_empty() || without.len() == networks.len() {
        category.fine(if kinds.len() == 1 {
            "all clusters are in one network".to_owned()
        } else {
            format!(
                "every cluster says in which of {} networks it is",
                kinds.len()
            )
        });
    } else {
        category.wrong(
            "every cluster says in which network it is",
            format!(
                "{} does not, and others do: istiod hands out addresses that cannot be reached",
                without.join(", ")
            ),
            format!("Label the root namespace of each with {NETWORK}."),
        );
    }
    Some(category)
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn levels(mesh: &Value) -> Vec<Level> {
        let mut category = Category::new("mesh");
        judge(&mut category, mesh, "istio-system");
        category.checks.iter().map(|check| check.result).collect()
    }

    #[test]
    fn settings_that_matter() {
        use Level::{Error, Success, Warning};
        let expiry = json!({"proxyMetadata": {"WASM_MODULE_EXPIRY": "8760h"}});
        for (mesh, expected) in [
            (json!({}), vec![Warning, Success]),
            (json!({"defaultConfig": expiry}), vec![Success, Success]),
            (
                json!({"defaultConfig": expiry, "localityLbSetting": {"enabled": false}, "rootNamespace": "mesh"}),
                vec![Success, Error, Error],
            ),
            (
                json!({"defaultConfig": expiry, "defaultHttpRetryPolicy": {"attempts": 0}, "rootNamespace": "istio-system"}),
                vec![Success, Success, Warning],
            ),
        ] {
            assert_eq!(levels(&mesh), expected, "{mesh}");
        }
    }

    #[test]
    fn networks_are_named_everywhere_or_nowhere() {
        let look = |names: &[(&str, &str)]| {
            let names = names
                .iter()
                .map(|(cluster, network)| ((*cluster).to_owned(), (*network).to_owned()));
            networks(&names.collect()).map(|it| it.checks[0].result)
        };
        assert_eq!(look(&[("a", "")]), None);
        assert_eq!(look(&[("a", ""), ("b", "")]), Some(Level::Success));
        assert_eq!(look(&[("a", "n1"), ("b", "n2")]), Some(Level::Success));
        assert_eq!(look(&[("a", "n1"), ("b", "")]), Some(Level::Error));
    }

    #[test]
    fn versions_in_tags() {
        for (tag, expected) in [
            ("1.31.0-distroless", Some((1, 31))),
            ("1.21.3", Some((1, 21))),
            ("latest", None),
        ] {
            assert_eq!(numbers(tag), expected, "{tag}");
        }
    }
}
