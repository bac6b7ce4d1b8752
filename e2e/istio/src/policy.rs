//! What the hub tells of the policy of a mesh's service, and its end.

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use spillway_api::BurstPolicy;
use spillway_clusters::{User, merge};

use crate::mesh::{HUB, Mesh};
use crate::wait;

/// The rate of a gate that stays full once it is.
pub const HOURLY: &str = "1/h";
/// More requests than a gate of that rate takes, which are at most 15.
const FILL: usize = 20;

/// A policy with fields of its spec changed.
#[must_use]
pub fn with(mut policy: Value, spec: &Value) -> Value {
    merge(&mut policy, &json!({"spec": spec}));
    policy
}

fn policies(mesh: &Mesh) -> Result<Api<BurstPolicy>> {
    let client = mesh.cluster(HUB)?.client(User::admin())?;
    Ok(Api::namespaced(client, &mesh.service().namespace))
}

async fn conditions(policies: &Api<BurstPolicy>, name: &str) -> Result<Vec<Condition>> {
    let policy = policies.get(name).await?;
    let mut conditions = policy.status.unwrap_or_default().conditions;
    conditions.retain(|it| it.observed_generation == policy.metadata.generation);
    Ok(conditions)
}

/// Waits until a condition of the policy, as it stands now, has this reason. Returns its message.
///
/// # Errors
/// When it never does; with all conditions.
pub async fn wait_condition(mesh: &Mesh, name: &str, kind: &str, reason: &str) -> Result<String> {
    let policies = policies(mesh)?;
    let found = async || {
        let all = conditions(&policies, name).await?;
        let mut all = all.into_iter();
        Ok::<_, anyhow::Error>(all.find(|it| it.type_ == kind && it.reason == reason))
    };
    let holds = async || Ok(found().await?.is_some());
    let waited = wait::until(&format!("{kind} for the reason {reason}"), holds).await;
    if let Err(error) = waited {
        let all = conditions(&policies, name).await?;
        return Err(error.context(serde_json::to_string(&all)?));
    }
    let found = found().await?.context("it was just there")?;
    Ok(found.message)
}

/// Deletes a policy, and waits until it is gone: its objects are gone then, too.
///
/// # Errors
/// When it stays.
pub async fn delete(mesh: &Mesh, name: &str) -> Result<()> {
    let policies = policies(mesh)?;
    policies.delete(name, &DeleteParams::default()).await?;
    let gone = async || Ok(policies.get_opt(name).await?.is_none());
    wait::until("the policy is gone", gone).await.map(drop)
}

/// Fills the gates of the home of a policy with the rate [`HOURLY`], by requests of a caller; the
/// others have not heard of it then. Applications forget the requests.
///
/// # Errors
/// When one has no answer.
pub async fn fill(mesh: &Mesh, caller: &str) -> Result<()> {
    for _ in 0..FILL {
        mesh.call(caller, "/fill").await?;
    }
    mesh.forget();
    Ok(())
}
