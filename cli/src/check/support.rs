//! All that was found, and what it was found in, as a file to hand on.
//!
//! No Secret is in it, and nothing that a Secret holds: what every Secret of the system namespace
//! says is looked for in every text and taken out, and so are the mesh's tokens, which routes and
//! plugins carry, whether that Secret could be read or not. Annotations of tools that keep whole
//! objects are left out. If something cannot be read, its error is in the bundle instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_controller::observe::kinds::Kind;
use spillway_plan::output::{MANAGED_BY, SPILLWAY};

use super::report::Report;
use crate::connection::Cluster;
use crate::exit::Failure;
use crate::install::CONTROLLER;
use crate::objects;

/// What stands where something was taken out.
const OUT: &str = "REDACTED";
/// Shorter values are words that stand everywhere.
const LEAST: usize = 6;
/// Of a log.
const LINES: i64 = 2_000;

/// On the hub: kind, and the labels of what is taken.
const HUB: [(&str, &str, &str); 7] = [
    ("spillway.dev/v1alpha1", "BurstPolicy", ""),
    ("spillway.dev/v1alpha1", "Fleet", ""),
    ("spillway.dev/v1alpha1", "MeshCluster", ""),
    (
        "apps/v1",
        "Deployment",
        "app.kubernetes.io/part-of=spillway",
    ),
    ("v1", "Pod", "app.kubernetes.io/part-of=spillway"),
    ("coordination.k8s.io/v1", "Lease", ""),
    ("events.k8s.io/v1", "Event", ""),
];

/// Writes the bundle.
///
/// # Errors
/// When the file cannot be written.
pub(super) async fn write(
    path: &Path,
    report: &Report,
    hub: &Cluster,
    namespace: &str,
    seen: &BTreeMap<String, Cluster>,
) -> Result<(), Failure> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let found = serde_json::to_string_pretty(report).unwrap_or_default();
    files.insert("check.json".to_owned(), found);
    files.insert(
        "version".to_owned(),
        format!("{}\n", env!("CARGO_PKG_VERSION")),
    );
    for (version, kind, labels) in HUB {
        let place = if version.starts_with("spillway.dev") {
            None
        } else {
            Some(namespace)
        };
        let text = objects_of(hub, version, kind, place, labels).await;
        files.insert(format!("hub/{}.yaml", kind.to_lowercase()), text);
    }
    logs(&mut files, hub, namespace).await;
    let ours = format!("{MANAGED_BY}={SPILLWAY}");
    for (name, cluster) in seen {
        for kind in [
            Kind::WasmPlugin,
            Kind::VirtualService,
            Kind::DestinationRule,
        ] {
            let resource = kind.resource();
            let text =
                objects_of(cluster, &resource.api_version, &resource.kind, None, &ours).await;
            files.insert(
                format!("clusters/{name}/{}.yaml", resource.kind.to_lowercase()),
                text,
            );
        }
    }
    let secrets = known(hub, namespace, &files).await;
    for text in files.values_mut() {
        *text = redacted(text, &secrets);
    }
    pack(path, &files).map_err(|error| {
        Failure::bad_input(
            format!("{} cannot be written: {error}", path.display()),
            "Name a file that can be written to.",
        )
    })
}

/// Objects as YAML, or why they cannot be had.
async fn objects_of(
    cluster: &Cluster,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    labels: &str,
) -> String {
    let mut like = json!({"apiVersion": version, "kind": kind, "metadata": {}});
    if let (Some(namespace), Some(metadata)) = (
        namespace,
        like.get_mut("metadata").and_then(Value::as_object_mut),
    ) {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    let found = match objects::list(cluster, &like, labels).await {
        Ok(found) => found,
        Err(failure) => return format!("# {failure}\n"),
    };
    let mut text = String::new();
    for mut object in found {
        object.metadata.managed_fields = None;
        let annotations = object.annotations_mut();
        annotations.retain(|name, _| !name.ends_with("last-applied-configuration"));
        let written = serde_saphyr::to_string(&object);
        text += &format!(
            "---\n# {kind}\n{}",
            written.unwrap_or_else(|error| format!("# {error}\n"))
        );
    }
    text
}

async fn logs(files: &mut BTreeMap<String, String>, hub: &Cluster, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(hub.client.clone(), namespace);
    let Ok(found) = pods.list(&ListParams::default().labels(CONTROLLER)).await else {
        return;
    };
    let parameters = LogParams {
        tail_lines: Some(LINES),
        ..LogParams::default()
    };
    for pod in found {
        let name = pod.name_any();
        let log = pods.logs(&name, &parameters).await;
        let log = log.unwrap_or_else(|error| format!("# {error}\n"));
        files.insert(format!("hub/log/{name}.log"), log);
    }
}

/// Everything that must not be in it, longest first.
async fn known(hub: &Cluster, namespace: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
    let all = secrets.list(&ListParams::default()).await;
    for secret in all.map(|all| all.items).unwrap_or_default() {
        for (key, value) in secret.data.unwrap_or_default() {
            // Of a token's Secret everybody may know these.
            if ["namespace", "ca.crt"].contains(&key.as_str()) {
                continue;
            }
            known.extend(parts(&value.0));
            let encoded = serde_json::to_value(&value).unwrap_or_default();
            known.extend(encoded.as_str().map(str::to_owned));
        }
    }
    for text in files.values() {
        known.extend(tokens(text));
    }
    let mut known: Vec<String> = known.into_iter().filter(|it| it.len() >= LEAST).collect();
    known.sort_by_key(|it| std::cmp::Reverse(it.len()));
    known
}

/// A value, and what it is made of: tokens with commas between them, the fields of a kubeconfig.
fn parts(value: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(value) else {
        return Vec::new();
    };
    let mut parts = vec![text.trim().to_owned()];
    parts.extend(text.split(',').map(|part| part.trim().to_owned()));
    if let Ok(kubeconfig) = serde_saphyr::from_str::<Value>(text) {
        for user in kubeconfig
            .pointer("/users")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let fields = user
                .get("user")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            parts.extend(fields.filter_map(|(_, field)| field.as_str().map(str::to_owned)));
        }
    }
    parts
}

/// The mesh's tokens in plugins, `tokens: [A, B]`, and in the matches of routes, `RUNG;TOKEN;`.
fn tokens(text: &str) -> Vec<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let mut tokens = Vec::new();
    for object in &objects {
        let in_plugin = object
            .pointer("/spec/pluginConfig/tokens")
            .and_then(Value::as_array);
        let in_plugin = in_plugin.into_iter().flatten();
        tokens.extend(in_plugin.filter_map(|it| it.as_str().map(str::to_owned)));
        prefixes(object, &mut tokens);
    }
    tokens
}

fn prefixes(value: &Value, tokens: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let prefix = fields.get("prefix").and_then(Value::as_str);
            let token = prefix.and_then(|prefix| prefix.split(';').nth(1));
            tokens.extend(token.map(str::to_owned));
            for field in fields.values() {
                prefixes(field, tokens);
            }
        }
        Value::Array(list) => {
            for it in list {
                prefixes(it, tokens);
            }
        }
        _ => {}
    }
}

fn redacted(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), OUT);
    }
    text
}

fn pack(path: &Path, files: &BTreeMap<String, String>) -> std::io::Result<()> {
    let encoder = GzEncoder::new(File::create(path)?, Compression::default());
    let mut archive = tar::Builder::new(encoder);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append_data(
            &mut header,
            format!("spillway-support/{name}"),
            text.as_bytes(),
        )?;
    }
    archive.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_wherever_they_stand() {
        let text = "---\nspec: {pluginConfig: {tokens: [mesh-token-1, mesh-token-2]}}\n\
            ---\nspec: {http: [{match: [{headers: {x-spillway: {prefix: \"burst;mesh-token-3;\"}}}]}]}\n";
        assert_eq!(
            tokens(text),
            ["mesh-token-1", "mesh-token-2", "mesh-token-3"]
        );
    }

    #[test]
    fn the_parts_of_a_secret_are_secret() {
        let kubeconfig = json!({"users": [{"name": "x", "user": {"token": "a-long-token"}}]});
        assert!(parts(kubeconfig.to_string().as_bytes()).contains(&"a-long-token".to_owned()));
        assert!(parts(b"old-token,new-token\n").contains(&"new-token".to_owned()));
        let secrets = ["new-token".to_owned()];
        assert_eq!(
            redacted("has new-token here", &secrets),
            format!("has {OUT} here")
        );
    }
}
