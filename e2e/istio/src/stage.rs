//! The real mesh as a stage for the scenarios of `spillway-e2e`.

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_e2e::app::App;
use spillway_e2e::client::{Answer, Call};
use spillway_e2e::load::{Load, Running};
use spillway_e2e::policy::{Capacity, Policies, Policy};
use spillway_e2e::stage::Stage;

use crate::mesh::Mesh;
use crate::pod::Pod;
use crate::spillway::{Spillway, policy};
use crate::wait;

/// A mesh with Spillway installed.
pub struct Staged {
    /// The mesh, with clusters that tag what they serve with their name and a hyphen.
    pub mesh: Mesh,
    /// What was installed.
    pub spillway: Spillway,
}

impl Mesh {
    /// Waits until every sidecar and gateway acts by what the controller has written for it.
    ///
    /// # Errors
    /// When one never does; with the end of its log.
    pub async fn wait_in_force(&self) -> Result<()> {
        for cluster in self.members() {
            let plugins = plugins(self, cluster).await?;
            let servers: Vec<&str> = self.endpoints(cluster).map(|it| it.pod.name()).collect();
            for pod in self.pods().filter(|it| it.cluster() == cluster) {
                for plugin in plugins.iter().filter(|it| it.namespace == pod.namespace()) {
                    if plugin.side == "Client" || servers.contains(&pod.name()) {
                        wait_generation(pod, plugin).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A WasmPlugin of the controller's.
struct Plugin {
    namespace: String,
    side: String,
    generation: u64,
}

/// Those that the control plane of a cluster has.
async fn plugins(mesh: &Mesh, cluster: &str) -> Result<Vec<Plugin>> {
    let plane = mesh.primary(cluster)?.unwrap_or(cluster);
    let client = mesh.cluster(plane)?.client(User::admin())?;
    let kind = GroupVersionKind::gvk("extensions.istio.io", "v1alpha1", "WasmPlugin");
    let objects: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&kind));
    let mut plugins = Vec::new();
    for object in objects.list(&ListParams::default()).await? {
        let field = |name: &str| object.data.pointer(&format!("/spec/pluginConfig/{name}"));
        let side = field("side").and_then(Value::as_str).context("a side")?;
        let generation = field("generation").and_then(Value::as_u64);
        plugins.push(Plugin {
            side: side.to_owned(),
            generation: generation.context("a generation")?,
            namespace: object.metadata.namespace.unwrap_or_default(),
        });
    }
    Ok(plugins)
}

async fn wait_generation(pod: &Pod, plugin: &Plugin) -> Result<()> {
    let label = format!("side=.={};.;", plugin.side.to_lowercase());
    let Plugin {
        side, generation, ..
    } = plugin;
    let what = format!("{} has generation {generation} of {side}", pod.name());
    let there = async || {
        let stats = pod.stats("^wasmcustom.spillway_config_generation").await?;
        let of_side = stats.iter().filter(|(name, _)| name.contains(&label));
        Ok(of_side.map(|(_, shown)| shown).min() >= Some(generation))
    };
    let waited = wait::until(&what, there).await;
    waited
        .with_context(|| crate::pod::end(&pod.log()))
        .map(drop)
}

/// A policy as its owner writes it, from what the filter is given.
fn resource(mesh: &Mesh, given: &Policy) -> Result<Value> {
    let home = given.home.as_deref().unwrap_or_default();
    let rungs: Vec<&str> = given
        .overflow
        .iter()
        .map(|it| it.cluster.as_str())
        .collect();
    let mut resource = policy(mesh, home, &rungs, "1/s");
    let spec = resource.pointer_mut("/spec").and_then(Value::as_object_mut);
    let spec = spec.context("a policy has a spec")?;
    if home.is_empty() {
        spec.remove("home");
    }
    spec.remove("capacity");
    let mut capacity = json!({});
    let mut others = Vec::new();
    for (cluster, given) in &given.capacity {
        let mut amount = amount(given)?;
        if cluster == home {
            capacity = amount;
        } else if let Some(fields) = amount.as_object_mut() {
            fields.insert("cluster".to_owned(), json!(cluster));
            others.push(amount);
        }
    }
    if let (false, Some(fields)) = (others.is_empty(), capacity.as_object_mut()) {
        fields.insert("overrides".to_owned(), json!(others));
    }
    if !given.capacity.is_empty() {
        spec.insert("capacity".to_owned(), capacity);
    }
    let mut put = |name: &str, value: Value| spec.insert(name.to_owned(), value);
    for (name, value) in [
        ("mode", given.mode),
        ("bounce", given.bounce),
        ("bodies", given.bodies),
        ("enforcement", given.enforcement),
        ("onExhausted", given.on_exhausted),
    ] {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    if let Some(switch) = &given.switch {
        put(
            "switch",
            json!({"enter": switch.enter, "leave": switch.leave}),
        );
    }
    if let Some(by_hand) = &given.override_ {
        let until = Timestamp::from_second(by_hand.until_unix_seconds.try_into()?)?;
        put(
            "override",
            json!({"force": by_hand.force, "until": until.to_string()}),
        );
    }
    Ok(resource)
}

fn amount(given: &Capacity) -> Result<Value> {
    let mut amount = serde_json::to_value(given)?;
    if let Some(fields) = amount.as_object_mut() {
        // The controller counts them.
        fields.remove("endpoints");
    }
    Ok(amount)
}

impl Stage for Staged {
    async fn enforce(&mut self, policies: &Policies) -> Result<()> {
        for policy in &policies.policies {
            let resource = resource(&self.mesh, policy)?;
            self.spillway.apply(&self.mesh, &resource).await?;
        }
        self.mesh.wait_in_force().await
    }

    async fn send(&self, caller: &str, call: Call) -> Result<Answer> {
        self.mesh.send(caller, call).await
    }

    async fn start(&self, caller: &str, load: Load) -> Result<Running> {
        self.mesh.start_load(caller, load).await
    }

    fn apps(&self, cluster: &str) -> Vec<&App> {
        self.mesh.endpoints(cluster).map(|it| &it.app).collect()
    }

    fn forget(&self) {
        self.mesh.forget();
    }

    async fn lose(&mut self, cluster: &str) -> Result<()> {
        self.mesh.lose_endpoints(cluster).await
    }

    async fn regain(&mut self, cluster: &str) -> Result<()> {
        self.mesh.add_endpoint(cluster).await
    }
}
