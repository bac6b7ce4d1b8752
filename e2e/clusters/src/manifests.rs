//! Manifests, applied as `kubectl apply --server-side --force-conflicts` does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client};

/// The field manager of all that is applied here.
const FIELD_MANAGER: &str = "tests";
/// A new resource is served within a second; the rest is for a busy machine.
const SERVED_WITHIN: Duration = Duration::from_secs(30);
/// How often discovery is asked.
const LOOK: Duration = Duration::from_millis(50);

/// Applies every document of `yaml`, in its order; namespaced ones without a namespace go to
/// `default`. A CustomResourceDefinition is waited for until it is served, so that its objects may
/// follow it. Returns the objects as the API server has them now.
///
/// # Errors
/// When a document is not an object, or the API server refuses it: then [`kube::Error`] is in the
/// chain (`error.downcast_ref()`), and the documents after it are not applied.
pub async fn apply(client: &Client, yaml: &str) -> Result<Vec<DynamicObject>> {
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml)?;
    let mut applied = Vec::new();
    for object in objects {
        applied.push(apply_one(client, &object).await?);
    }
    Ok(applied)
}

async fn apply_one(client: &Client, object: &DynamicObject) -> Result<DynamicObject> {
    let name = object
        .metadata
        .name
        .as_deref()
        .context("no metadata.name")?;
    let types = object.types.as_ref().context("no apiVersion and kind")?;
    let kind = types.try_into()?;
    let (resource, capabilities) = pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api
        .patch(name, &params, &Patch::Apply(object))
        .await
        .with_context(|| format!("{} {name}", resource.kind))?;
    if resource == ApiResource::erase::<CustomResourceDefinition>(&()) {
        let definition: CustomResourceDefinition = applied.clone().try_parse()?;
        wait_served(client, &definition).await?;
    }
    Ok(applied)
}

/// Waits until there can be objects of a definition. Its condition `Established` comes too early:
/// discovery and the handlers learn of it a little later.
async fn wait_served(client: &Client, definition: &CustomResourceDefinition) -> Result<()> {
    let (group, kind) = (&definition.spec.group, &definition.spec.names.kind);
    let began = Instant::now();
    for version in definition
        .spec
        .versions
        .iter()
        .filter(|version| version.served)
    {
        let kind = GroupVersionKind::gvk(group, &version.name, kind);
        while let Err(error) = list_one(client, &kind).await {
            if began.elapsed() > SERVED_WITHIN {
                return Err(error).context("the API server does not serve what it accepted");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn list_one(client: &Client, kind: &GroupVersionKind) -> kube::Result<()> {
    let (resource, _) = pinned_kind(client, kind).await?;
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.list(&ListParams::default().limit(1)).await.map(drop)
}
