//! The account in a member, by the rules of the chart `spillway-member`.
//!
//! The chart as Helm renders it, which its tests keep, is taken as it is; so there is one list of
//! rights. Bindings in namespaces are added here as the chart adds them.

use serde_json::{Value, json};
use spillway_api::mesh_cluster::Access;

/// The chart with no namespaces, for the namespace `spillway-system`.
const CHART: &str = include_str!("../../../charts/tests/golden/member-least.out.yaml");
/// The same where the cluster is the hub: the account is the controller's own.
const ON_HUB: &str = include_str!("../../../charts/tests/golden/member-hub.out.yaml");
/// The namespace for which it is rendered.
const RENDERED_FOR: &str = "spillway-system";
/// The account of a member and of the hub, and the role that is bound in namespaces.
const ACCOUNT: &str = "spillway-member";
const CONTROLLER: &str = "spillway-controller";
const ROLE: &str = "spillway-member-namespace";

/// The Secret with its token.
pub(crate) const TOKEN: &str = "spillway-member-token";

/// Its objects, in the order in which they are written.
///
/// # Errors
/// Never in practice: the chart's tests read it too.
pub(super) fn objects(
    access: Access,
    system_namespace: &str,
    namespaces: &[String],
) -> Result<Vec<Value>, serde_saphyr::Error> {
    let (chart, account) = match access {
        Access::Hub => (ON_HUB, CONTROLLER),
        Access::Attached | Access::Discovered => (CHART, ACCOUNT),
    };
    let chart = chart.replace(RENDERED_FOR, system_namespace);
    let rendered: Vec<Value> = serde_saphyr::from_multiple(&chart)?;
    let space = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": system_namespace},
    });
    let mut objects = vec![space];
    objects.extend(
        rendered
            .into_iter()
            .filter(|object| !object.is_null() && !is_example(object))
            .map(ours),
    );
    objects.extend(
        namespaces
            .iter()
            .map(|namespace| binding(account, system_namespace, namespace)),
    );
    Ok(objects)
}

/// A binding in a namespace of the chart's tests.
fn is_example(object: &Value) -> bool {
    let text = |path| object.pointer(path).and_then(Value::as_str);
    text("/kind") == Some("RoleBinding") && text("/metadata/name") == Some(ROLE)
}

/// Not Helm's.
fn ours(mut object: Value) -> Value {
    let labels = object
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.remove("helm.sh/chart");
        labels.insert(
            "app.kubernetes.io/managed-by".to_owned(),
            json!("spillway-cli"),
        );
    }
    object
}

fn binding(account: &str, system_namespace: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": ROLE,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": ACCOUNT,
                "app.kubernetes.io/part-of": "spillway",
                "app.kubernetes.io/managed-by": "spillway-cli",
            },
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": system_namespace}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is added here is what the chart would have added.
    #[test]
    fn bindings_are_the_charts() {
        let hub = include_str!("../../../charts/tests/golden/member-hub.out.yaml");
        let hub: Vec<Value> = serde_saphyr::from_multiple(hub).unwrap();
        let by_chart = hub
            .iter()
            .find(|object| object["metadata"]["namespace"] == "shop");
        let by_chart = by_chart.unwrap();
        let added = binding(CONTROLLER, RENDERED_FOR, "shop");
        for path in [
            "/apiVersion",
            "/kind",
            "/metadata/name",
            "/roleRef",
            "/subjects",
        ] {
            assert_eq!(added.pointer(path), by_chart.pointer(path), "{path}");
        }
    }

    #[test]
    fn another_namespace_stands_everywhere() {
        let objects = objects(Access::Attached, "mesh", &["shop".to_owned()]).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(
            !text.contains(RENDERED_FOR) && !text.contains("Helm"),
            "{text}"
        );
        assert!(
            text.contains("system:serviceaccount:mesh:spillway-member"),
            "{text}"
        );
        let kinds: Vec<_> = objects
            .iter()
            .map(|object| object["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds.first(), Some(&"Namespace"));
        assert_eq!(kinds.last(), Some(&"RoleBinding"));
    }

    /// On the hub there is no account to make, and nothing of the example's namespaces.
    #[test]
    fn the_hub_has_the_controllers_account() {
        let objects = objects(Access::Hub, "mesh", &["bank".to_owned()]).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        for gone in [
            "ServiceAccount\",\"metadata",
            "shop",
            "checkout",
            RENDERED_FOR,
            "Helm",
        ] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert!(text.contains("system:serviceaccount:mesh:spillway-controller"));
        assert_eq!(text.matches("\"namespace\":\"bank\"").count(), 1, "{text}");
    }
}
