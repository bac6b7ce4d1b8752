//! Users' objects: written as people do, and read again to the byte.

use anyhow::{Context, Result};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_istio::mesh::Mesh;

/// The name of all of them.
pub(crate) const NAME: &str = "worker";

/// Writes the user's VirtualService, as a person does, and returns how it reads then.
pub(crate) async fn a_virtual_service(mesh: &Mesh, attempts: Option<u32>) -> Result<String> {
    let destination = json!([{"destination": {"host": "worker-service"}}]);
    let mut special = json!({
        "name": "special",
        "match": [{"uri": {"prefix": "/special"}}, {"headers": {"x-tier": {"exact": "gold"}}}],
        "route": destination,
        "headers": {"response": {"set": {"x-user": "special"}}},
        "timeout": "7s",
        "mirror": {"host": "nobody.example.com"},
        "mirrorPercentage": {"value": 0.5},
    });
    if let (Some(attempts), Some(route)) = (attempts, special.as_object_mut()) {
        let retries = json!({"attempts": attempts, "retryOn": "5xx", "perTryTimeout": "2s"});
        route.insert("retries".to_owned(), retries);
    }
    let object = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "labels": {"team": "workers", "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"example.com/note": "kept \"as it is\""},
        },
        "spec": {
            "hosts": ["worker-service"],
            "http": [
                special,
                {"route": destination, "headers": {"response": {"set": {"x-user": "other"}}}},
            ],
        },
    });
    let file = mesh.folder().join("virtual-service.json");
    std::fs::write(&file, object.to_string())?;
    let file = file.display().to_string();
    let primary = mesh.cluster("primary")?;
    primary
        .kubectl(User::admin(), &["apply", "-f", &file])
        .await?;
    let written = api(mesh, "primary", "VirtualService")?.get(NAME).await?;
    let mut spec = written.data;
    // As somebody finds it whom routes of Spillway's do not concern.
    if let Some(routes) = spec.pointer_mut("/spec/http").and_then(Value::as_array_mut) {
        routes.retain(|route| {
            let name = route.get("name").and_then(Value::as_str);
            !name.is_some_and(|name| name.starts_with("spillway-"))
        });
    }
    text(&written.metadata, &spec)
}

/// Labels, annotations and spec of the user's object.
pub(crate) async fn get(mesh: &Mesh, kind: &str) -> Result<String> {
    let object = api(mesh, "primary", kind)?.get(NAME).await?;
    text(&object.metadata, &object.data)
}

fn text(metadata: &kube::api::ObjectMeta, data: &Value) -> Result<String> {
    let labels = serde_json::to_string(&metadata.labels)?;
    let annotations = serde_json::to_string(&metadata.annotations)?;
    let spec = data.get("spec").context("a spec")?;
    Ok(format!("{labels}\n{annotations}\n{spec}"))
}

/// An object, all of it.
pub(crate) fn as_text(object: &DynamicObject) -> Result<String> {
    Ok(serde_json::to_string(object)?)
}

/// A DestinationRule of the user's, which ours is merged with, and all of it as text.
pub(crate) async fn a_rule(mesh: &Mesh) -> Result<(Api<DynamicObject>, String)> {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"team": "workers"}},
        "spec": {
            "host": "worker-service",
            "trafficPolicy": {"connectionPool": {"http": {"idleTimeout": "33s"}}},
        },
    });
    mesh.cluster("primary")?.apply(&rule.to_string()).await?;
    let rules = api(mesh, "primary", "DestinationRule")?;
    let before = as_text(&rules.get(NAME).await?)?;
    Ok((rules, before))
}

/// The names of the objects of Spillway in a cluster, in any namespace.
pub(crate) async fn ours(mesh: &Mesh, cluster: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let client = mesh.cluster(cluster)?.client(User::admin())?;
    for kind in ["VirtualService", "DestinationRule", "WasmPlugin"] {
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
        for object in objects.list(&ListParams::default()).await? {
            let label = object.metadata.labels.unwrap_or_default();
            if label
                .get("app.kubernetes.io/managed-by")
                .map(String::as_str)
                == Some("spillway")
            {
                names.push(format!(
                    "{kind} {}",
                    object.metadata.name.unwrap_or_default()
                ));
            }
        }
    }
    Ok(names)
}

fn resource(kind: &str) -> ApiResource {
    let group = match kind {
        "WasmPlugin" => "extensions.istio.io",
        _ => "networking.istio.io",
    };
    let version = if kind == "WasmPlugin" {
        "v1alpha1"
    } else {
        "v1"
    };
    let kind = GroupVersionKind::gvk(group, version, kind);
    match kind.kind.as_str() {
        "ServiceEntry" => ApiResource::from_gvk_with_plural(&kind, "serviceentries"),
        _ => ApiResource::from_gvk(&kind),
    }
}

/// Objects of a kind in the namespace `default`.
pub(crate) fn api(mesh: &Mesh, cluster: &str, kind: &str) -> Result<Api<DynamicObject>> {
    in_namespace(mesh, cluster, kind, "default")
}

/// Objects of a kind in a namespace.
pub(crate) fn in_namespace(
    mesh: &Mesh,
    cluster: &str,
    kind: &str,
    namespace: &str,
) -> Result<Api<DynamicObject>> {
    let client = mesh.cluster(cluster)?.client(User::admin())?;
    Ok(Api::namespaced_with(client, namespace, &resource(kind)))
}
