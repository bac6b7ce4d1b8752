//! What is Spillway's, out of a cluster.

use std::time::Duration;

use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::mesh_cluster::Access;
use spillway_controller::observe::kinds::Kind;
use spillway_plan::output::{MANAGED_BY, SPILLWAY};

use super::{MANAGED_BY as BY_COMMAND, account, step};
use crate::connection::Cluster;
use crate::exit::Failure;
use crate::objects::{self, Done};

/// What may still be under way when the account loses its rights is over after this time.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// What is removed is said, and with `dry_run` it is only said.
pub(crate) struct Removal<'a> {
    pub(crate) system_namespace: &'a str,
    pub(crate) dry_run: bool,
}

impl Removal<'_> {
    /// The controller's account, if this command made it, the rights first: without these nothing
    /// is written any more that is removed after it.
    pub(crate) async fn account(&self, member: &Cluster) -> Result<(), Failure> {
        for object in self.of_account(member).await? {
            self.remove_ours(member, &object).await?;
        }
        self.settle().await;
        Ok(())
    }

    /// Waits until nothing is written any more by who has lost the right to.
    pub(crate) async fn settle(&self) {
        if !self.dry_run {
            tokio::time::sleep(UNDER_WAY).await;
        }
    }

    /// Filters and routes, in the reverse order of writes: what uses a route goes before it. Then
    /// the claim.
    pub(crate) async fn objects(&self, member: &Cluster) -> Result<(), Failure> {
        for kind in [
            Kind::WasmPlugin,
            Kind::VirtualService,
            Kind::DestinationRule,
        ] {
            self.clean(member, kind).await?;
        }
        let claim = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "spillway-claim", "namespace": self.system_namespace}});
        self.remove(member, &claim).await
    }

    /// The account's objects, the rights first, which are the same on the hub. Those that Helm installed are Helm's to remove.
    async fn of_account(&self, member: &Cluster) -> Result<Vec<Value>, Failure> {
        let bindings = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"});
        let bindings = objects::list(member, &bindings, &selector()).await?;
        let namespaces: Vec<String> = bindings.iter().filter_map(ResourceExt::namespace).collect();
        let all = account::objects(Access::Attached, self.system_namespace, &namespaces).map_err(
            |error| Failure::bad_input(error, "This is a mistake of Spillway's: report it."),
        )?;
        let rest = all.into_iter().rev();
        let rest = rest.filter(|object| object.get("kind").is_some_and(|kind| kind != "Namespace"));
        Ok(rest.collect())
    }

    /// Removes what is ours of a kind, and our routes from what is not.
    async fn clean(&self, member: &Cluster, kind: Kind) -> Result<(), Failure> {
        let resource = kind.resource();
        let like = json!({"apiVersion": resource.api_version, "kind": resource.kind});
        for object in objects::list(member, &like, "").await? {
            let mut value = serde_json::to_value(&object).unwrap_or_default();
            if let Some(value) = value.as_object_mut() {
                value.insert("apiVersion".to_owned(), json!(resource.api_version));
                value.insert("kind".to_owned(), json!(resource.kind));
            }
            let label = object.labels().get(MANAGED_BY);
            if label.is_some_and(|by| by == SPILLWAY) {
                self.remove(member, &value).await?;
            } else if kind == Kind::VirtualService {
                self.take_out(member, &value).await?;
            }
        }
        Ok(())
    }

    async fn take_out(&self, member: &Cluster, value: &Value) -> Result<(), Failure> {
        let without = spillway_plan::unmerge(value);
        let Ok(object) = serde_json::from_value::<DynamicObject>(without.clone()) else {
            return Ok(());
        };
        if without == *value {
            return Ok(());
        }
        let shown = objects::shown(value);
        let parameters = PostParams {
            dry_run: self.dry_run,
            field_manager: None,
        };
        let namespace = object.namespace().unwrap_or_default();
        let resource = Kind::VirtualService.resource();
        let all: Api<DynamicObject> =
            Api::namespaced_with(member.client.clone(), &namespace, &resource);
        let done = all.replace(&object.name_any(), &parameters, &object).await;
        done.map_err(|error| {
            member.failed(
                &format!("the routes of {shown} cannot be taken out"),
                &error,
            )
        })?;
        step(&format!(
            "{shown} in {}: Spillway's routes taken out{}",
            member.name,
            self.tried()
        ));
        Ok(())
    }

    /// Removes an object, if it was written by this command.
    pub(crate) async fn remove_ours(
        &self,
        cluster: &Cluster,
        object: &Value,
    ) -> Result<(), Failure> {
        let ours = objects::list(cluster, object, &selector()).await?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        if ours.iter().any(|it| it.metadata.name.as_deref() == name) {
            self.remove(cluster, object).await?;
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, cluster: &Cluster, object: &Value) -> Result<(), Failure> {
        let done = objects::remove(cluster, object, self.dry_run).await?;
        if done == Done::Removed {
            step(&format!(
                "{} in {}: removed{}",
                objects::shown(object),
                cluster.name,
                self.tried()
            ));
        }
        Ok(())
    }

    pub(crate) const fn tried(&self) -> &'static str {
        if self.dry_run { " (dry run)" } else { "" }
    }
}

/// What this command writes.
pub(crate) fn selector() -> String {
    format!("{}={}", BY_COMMAND.0, BY_COMMAND.1)
}
