//! A client that writes what the controller writes, and nothing else.
//!
//! It knows beforehand what each member is to have, has a connection to each already, and begins
//! with all of them at once, as the controller's workers do. So it is what the same requests cost
//! on the same machine when nobody watches, plans or reports. It writes into a namespace of which
//! the controller knows nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use spillway_controller::clusters::client;
use spillway_controller::clusters::count::Calls;
use spillway_controller::engine::write::FIELD_MANAGER;
use spillway_controller::metrics::Peer;
use spillway_controller::observe::kinds::Kind;

use crate::fleet::AT_ONCE;
use crate::members::{BARE, ELSEWHERE, Members, NAMESPACE};

/// A connection to each member.
pub struct BareClient {
    members: Vec<Client>,
    plugins: Vec<Value>,
}

impl BareClient {
    /// Connects to every member, and takes the WasmPlugins of the first as what is to be written.
    ///
    /// # Errors
    /// When a member does not answer, or has no plugins.
    pub async fn connect(members: &Members) -> Result<Self> {
        let clients = members.kubeconfigs(BARE).map(async |kubeconfig| {
            let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            let calls = Calls::new(&Arc::default(), Peer::Member);
            let client = client::shared(&config, calls)?;
            client.apiserver_version().await?;
            anyhow::Ok(client)
        });
        let clients = stream::iter(clients).buffered(AT_ONCE);
        let clients: Vec<Client> = clients.try_collect().await?;
        let first = clients.first().context("no members")?;
        let there = plugins(first, NAMESPACE)
            .list(&ListParams::default())
            .await?;
        let plugins = there.into_iter().map(|plugin| {
            json!({
                "apiVersion": "extensions.istio.io/v1alpha1",
                "kind": "WasmPlugin",
                "metadata": {
                    "name": plugin.metadata.name,
                    "namespace": ELSEWHERE,
                    "labels": plugin.metadata.labels,
                    "annotations": plugin.metadata.annotations,
                },
                "spec": plugin.data.get("spec"),
            })
        });
        let this = Self {
            members: clients,
            plugins: plugins.collect(),
        };
        // The first write creates them.
        this.write(members, 0).await?;
        Ok(this)
    }

    /// How many objects each member gets.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.plugins.len()
    }

    /// Writes all of them into every member, changed by the number of the round. Returns how long
    /// it took, by member, from the first to the last.
    ///
    /// # Errors
    /// When a member does not take it.
    pub async fn write(&self, members: &Members, round: usize) -> Result<Vec<Duration>> {
        let began = SystemTime::now();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let params = &params;
        let writes = self.members.iter().map(async |client| -> Result<()> {
            let api = plugins(client, ELSEWHERE);
            for plugin in &self.plugins {
                let mut plugin = plugin.clone();
                let name = plugin.pointer("/metadata/name").and_then(Value::as_str);
                let name = name.context("a plugin without a name")?.to_owned();
                let spec = plugin.get_mut("spec").and_then(Value::as_object_mut);
                spec.context("a plugin without a spec")?
                    .insert("priority".to_owned(), round.into());
                api.patch(&name, params, &Patch::Apply(plugin)).await?;
            }
            Ok(())
        });
        try_join_all(writes).await?;
        members.written(BARE, self.plugins.len(), began).await
    }
}

fn plugins(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &Kind::WasmPlugin.resource())
}
