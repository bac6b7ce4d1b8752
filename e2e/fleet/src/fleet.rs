//! A hub, its members, and the controller that joins them.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_clusters::registry::Registry;
use spillway_clusters::{Cluster, Clusters, User};

use crate::controller::Controller;
use crate::members::{CONTROLLER, Members, NAMESPACE};

const SYSTEM: &str = "spillway-system";
const POLICY: &str = "worker";
/// Objects that are created on the hub, and connections that are made, at the same time.
pub(crate) const AT_ONCE: usize = 16;
const APPLIED_WITHIN: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);

/// Everything that is measured; all of it ends when this is dropped.
pub struct Fleet {
    /// In this order they end.
    pub(crate) controller: Controller,
    pub(crate) members: Members,
    clusters: Clusters,
    _registry: Registry,
    /// The controller's memory before it knew a cluster, in bytes.
    pub(crate) memory_alone: u64,
    /// How long it took until the controller was at rest again, with all members.
    pub(crate) attached: Duration,
    /// How long it took from the policy until all members had all of it.
    pub(crate) first: Vec<Duration>,
}

impl Fleet {
    /// Starts a hub and so many members, and lets the controller carry one policy to all of them.
    ///
    /// # Errors
    /// When a program is missing or does not start, or a member does not get what it should.
    pub async fn start(count: usize) -> Result<Self> {
        ensure!(count > 1, "an overflow needs two clusters");
        let clusters = Clusters::start(&["hub"]).await?;
        let hub = clusters.cluster("hub")?;
        prepare(hub).await?;
        let (registry, members) = tokio::try_join!(
            Registry::start(),
            Members::start(count, clusters.etcd_url())
        )?;
        let image = registry
            .push_filter(b"not a filter: nobody runs it")
            .await?;
        let kubeconfig = clusters.folder().join("controller.kubeconfig");
        std::fs::write(&kubeconfig, hub.kubeconfig(User::admin())?)?;
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--image={image}"),
            format!("--insecure-registries={}", registry.address()),
            // All API servers share the processors of this machine, and may take longer to
            // answer than those of clusters do.
            "--call-timeout=30s".to_owned(),
        ];
        let log = clusters.folder().join("controller.log");
        let mut controller = Controller::start(&arguments, log)?;
        controller.quiet().await?;
        let mut this = Self {
            memory_alone: controller.resident_memory()?,
            controller,
            members,
            clusters,
            _registry: registry,
            attached: Duration::ZERO,
            first: Vec::new(),
        };
        let began = Instant::now();
        this.attach().await?;
        this.reached().await?;
        this.attached = began.elapsed();
        let began = SystemTime::now();
        this.set_rate(1).await?;
        this.first = this.members.written(CONTROLLER, 2, began).await?;
        this.applied().await?;
        Ok(this)
    }

    async fn attach(&self) -> Result<()> {
        let hub = self.hub()?;
        let secrets: Api<Secret> = Api::namespaced(hub.clone(), SYSTEM);
        let resources: Api<MeshCluster> = Api::all(hub);
        let (secrets, resources) = (&secrets, &resources);
        let members = futures_util::stream::iter(self.members.kubeconfigs(CONTROLLER).enumerate());
        let attached = members.map(async |(number, kubeconfig)| -> Result<()> {
            let name = format!("member-{number}");
            let secret = serde_json::from_value(json!({
                "metadata": {"name": name},
                "stringData": {"kubeconfig": kubeconfig.to_string()},
            }))?;
            secrets.create(&PostParams::default(), &secret).await?;
            let resource = serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"secretRef": {"namespace": SYSTEM, "name": name}},
            }))?;
            resources.create(&PostParams::default(), &resource).await?;
            Ok(())
        });
        attached.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Waits until every member answers the controller, by the statuses, and all is at rest.
    async fn reached(&mut self) -> Result<()> {
        let resources: Api<MeshCluster> = Api::all(self.hub()?);
        let began = Instant::now();
        loop {
            let all = resources.list(&ListParams::default()).await?;
            let away = all.iter().filter(|it| !is_reachable(it)).count();
            if away == 0 {
                return self.controller.quiet().await;
            }
            let late = began.elapsed() > APPLIED_WITHIN;
            ensure!(!late, "{away} members do not answer the controller");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Changes the one threshold of the one policy.
    ///
    /// # Errors
    /// When the hub does not take it.
    pub async fn set_rate(&self, rate: usize) -> Result<()> {
        let policies: Api<BurstPolicy> = Api::namespaced(self.hub()?, NAMESPACE);
        let policy = json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "BurstPolicy",
            "metadata": {"name": POLICY},
            "spec": {
                "targetRefs": [{"name": "worker"}],
                "home": "member-0",
                // Of all thresholds it is the one that stands in every member's configuration.
                "overflow": [{"cluster": "member-1", "maxRate": format!("{rate}/s")}],
                "capacity": {"perEndpoint": {"rate": "50/s"}},
            },
        });
        let params = PatchParams::apply("bench").force();
        policies
            .patch(POLICY, &params, &Patch::Apply(policy))
            .await?;
        Ok(())
    }

    /// Waits until the policy's status says that every member has it, and all is at rest.
    ///
    /// # Errors
    /// When that does not happen; with the status.
    pub async fn applied(&mut self) -> Result<()> {
        let policies: Api<BurstPolicy> = Api::namespaced(self.hub()?, NAMESPACE);
        let all = u32::try_from(self.members.count())?;
        let began = Instant::now();
        loop {
            let policy = policies.get(POLICY).await?;
            let status = policy.status.unwrap_or_default();
            let is_newest = status.observed_generation == policy.metadata.generation;
            if is_newest && (status.desired, status.applied) == (all, all) {
                return self.controller.quiet().await;
            }
            ensure!(began.elapsed() < APPLIED_WITHIN, "it stays so: {status:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn hub(&self) -> Result<Client> {
        let hub = self.clusters.cluster("hub").context("no hub")?;
        hub.client(User::admin())
    }
}

fn is_reachable(cluster: &MeshCluster) -> bool {
    let status = cluster.status.iter();
    let mut conditions = status.flat_map(|status| &status.conditions);
    conditions.any(|it| it.type_ == "Reachable" && it.status == "True")
}

async fn prepare(hub: &Cluster) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/spillway/crds");
    for entry in std::fs::read_dir(folder)? {
        hub.apply(&std::fs::read_to_string(entry?.path())?).await?;
    }
    for name in [SYSTEM, NAMESPACE] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        hub.apply(&namespace.to_string()).await?;
    }
    Ok(())
}
