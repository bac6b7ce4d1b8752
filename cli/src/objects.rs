//! Objects of any kind, applied and removed.

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::connection::Cluster;
use crate::exit::Failure;
use crate::policies::MANAGER;

/// The label that tells which tool manages an object.
const MANAGED_BY: &str = "/metadata/labels/app.kubernetes.io~1managed-by";

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Done {
    /// Nothing: it is as it should be, or gone.
    Same,
    /// It was there and is otherwise now.
    Changed,
    /// It was not there.
    Created,
    /// It is gone.
    Removed,
    /// Its namespace is not there.
    NoPlace,
    /// Nothing: somebody else manages it, such as Helm.
    Others,
}

impl Done {
    /// In a word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Same => "as it was",
            Self::Changed => "changed",
            Self::Created => "created",
            Self::Removed => "removed",
            Self::NoPlace => "left out, for the namespace is not there",
            Self::Others => "left as it is, for another tool manages it",
        }
    }
}

/// Applies an object as ours, unless it is labelled as another tool's. What others manage in it is
/// theirs: where they differ, it fails.
///
/// # Errors
/// When the API server does not take it.
pub(crate) async fn apply(
    cluster: &Cluster,
    object: &Value,
    dry_run: bool,
) -> Result<Done, Failure> {
    let parameters = PatchParams {
        dry_run,
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    apply_as(cluster, object, &parameters).await
}

/// As [`apply`], by somebody else, or by force.
///
/// # Errors
/// As [`apply`].
pub(crate) async fn apply_as(
    cluster: &Cluster,
    object: &Value,
    parameters: &PatchParams,
) -> Result<Done, Failure> {
    let (api, name) = api(cluster, object);
    let doing = format!("{} cannot be written", shown(object));
    let failed = |error| cluster.failed(&doing, &error);
    let before = api.get_opt(&name).await.map_err(failed)?;
    let manager = text(object, MANAGED_BY);
    let by = before
        .as_ref()
        .and_then(|before| before.labels().get("app.kubernetes.io/managed-by"));
    if !manager.is_empty() && by.is_some_and(|by| by != manager) {
        return Ok(Done::Others);
    }
    // What would be made in a namespace that would be made cannot be tried.
    if parameters.dry_run && before.is_none() {
        return Ok(Done::Created);
    }
    match api.patch(&name, parameters, &Patch::Apply(object)).await {
        Ok(after) => Ok(match before {
            None => Done::Created,
            Some(before) if is_same(&before, &after, parameters.dry_run) => Done::Same,
            Some(_) => Done::Changed,
        }),
        Err(kube::Error::Api(status)) if status.code == 404 && api.namespace().is_some() => {
            Ok(Done::NoPlace)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether nothing was written. An object that was only tried keeps its version.
fn is_same(before: &DynamicObject, after: &DynamicObject, dry_run: bool) -> bool {
    if dry_run {
        before.data == after.data
            && before.labels() == after.labels()
            && before.annotations() == after.annotations()
    } else {
        before.resource_version() == after.resource_version()
    }
}

/// Removes an object.
///
/// # Errors
/// When the API server does not do it.
pub(crate) async fn remove(
    cluster: &Cluster,
    object: &Value,
    dry_run: bool,
) -> Result<Done, Failure> {
    let (api, name) = api(cluster, object);
    let parameters = DeleteParams {
        dry_run,
        ..DeleteParams::default()
    };
    match api.delete(&name, &parameters).await {
        Ok(_) => Ok(Done::Removed),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Done::Same),
        Err(error) => {
            let doing = format!("{} cannot be removed", shown(object));
            Err(cluster.failed(&doing, &error))
        }
    }
}

/// All objects of a kind and namespace, or of all namespaces, with these labels. There are none of a
/// kind that nobody knows.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn list(
    cluster: &Cluster,
    like: &Value,
    labels: &str,
) -> Result<Vec<DynamicObject>, Failure> {
    let (api, _) = api(cluster, like);
    let doing = format!("objects of the kind {} cannot be read", text(like, "/kind"));
    match api.list(&ListParams::default().labels(labels)).await {
        Ok(found) => Ok(found.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(cluster.failed(&doing, &error)),
    }
}

/// As `KIND NAMESPACE/NAME`.
pub(crate) fn shown(object: &Value) -> String {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    match text(object, "/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

fn api(cluster: &Cluster, object: &Value) -> (Api<DynamicObject>, String) {
    let version = text(object, "/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, text(object, "/kind"));
    let resource = ApiResource::from_gvk(&kind);
    let client = cluster.client.clone();
    let api = match text(object, "/metadata/namespace") {
        "" => Api::all_with(client, &resource),
        namespace => Api::namespaced_with(client, namespace, &resource),
    };
    (api, text(object, "/metadata/name").to_owned())
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
