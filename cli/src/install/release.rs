//! What is known of a Helm release: Helm keeps it in Secrets, and its state in their labels.

use kube::ResourceExt;
use serde_json::json;

use crate::connection::Cluster;
use crate::exit::Failure;
use crate::objects;

/// The state of a release.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Missing,
    Deployed,
    /// The last change of it went wrong; it can be changed again.
    Failed,
    /// Helm is changing it, or was interrupted; in Helm's word.
    Busy(String),
}

/// The state of a release.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn state(hub: &Cluster, namespace: &str, name: &str) -> Result<State, Failure> {
    let secrets =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace}});
    let found = objects::list(hub, &secrets, &format!("owner=helm,name={name}")).await?;
    let revision = |secret: &kube::api::DynamicObject| {
        let version = secret.labels().get("version");
        version.and_then(|version| version.parse::<u64>().ok())
    };
    let newest = found.iter().max_by_key(|secret| revision(secret));
    let Some(newest) = newest else {
        return Ok(State::Missing);
    };
    let status = newest.labels().get("status").map(String::as_str);
    Ok(match status.unwrap_or_default() {
        "uninstalled" => State::Missing,
        "failed" => State::Failed,
        busy if busy.starts_with("pending") || busy == "uninstalling" => {
            State::Busy(busy.to_owned())
        }
        _ => State::Deployed,
    })
}
