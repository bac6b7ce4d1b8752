//! A hub and two members with the charts' rights, and an image that can be had.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::ObjectList;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_charts::Helm;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Cluster, Clusters, Identity, User};
use spillway_controller::observe::kinds::Kind;
use spillway_e2e::address::Block;

use crate::fixtures::{ISTIO, LOOK, NAMESPACES, SERVICE, definition, eventually};
use crate::replica::Replica;

/// Where the controller's own objects are.
pub(crate) const NAMESPACE: &str = "spillway-system";
pub(crate) const MEMBERS: [&str; 2] = ["a", "b"];

pub(crate) struct World {
    clusters: Clusters,
    image: String,
    registry: Registry,
    /// Where replicas listen.
    block: Mutex<Block>,
    /// The credentials that were given away.
    secrets: Mutex<Vec<String>>,
}

impl World {
    /// In `b` the account may look into `shop` only, in `a` into `front` too.
    pub(crate) async fn start() -> Result<Self> {
        let clusters = Clusters::start(&["hub", "a", "b"]).await?;
        let registry = Registry::start().await?;
        let this = Self {
            image: registry.push_filter(b"a filter").await?,
            clusters,
            registry,
            block: Mutex::new(Block::take()?),
            secrets: Mutex::default(),
        };
        let helm = Helm::new()?;
        let namespace = format!("--namespace={NAMESPACE}");
        let template = |arguments: &[&str]| {
            let first = ["template", namespace.as_str()];
            helm.succeed(&[&first, arguments].concat())
        };
        this.hub().apply(NAMESPACES).await?;
        let image = format!("--set=filter.image={}", this.image);
        let repository = "--set=image.repository=registry.example.com/spillway/controller";
        let arguments = ["spillway", "spillway", "--include-crds", repository, &image];
        this.hub().apply(&template(&arguments)?).await?;
        for (member, namespaces) in MEMBERS.iter().zip(["shop,front", "shop"]) {
            let cluster = this.cluster(member);
            for kind in ISTIO {
                cluster.apply(&definition(kind)).await?;
            }
            cluster.apply(NAMESPACES).await?;
            cluster.apply(SERVICE).await?;
            let namespaces = format!("--set=namespaces={{{namespaces}}}");
            let arguments = ["spillway-member", "spillway-member", &namespaces];
            cluster.apply(&template(&arguments)?).await?;
            this.attach(member).await?;
        }
        Ok(this)
    }

    pub(crate) fn hub(&self) -> &Cluster {
        self.cluster("hub")
    }

    pub(crate) fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.cluster(name).expect("a cluster of the test")
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        let client = self.cluster(name).client(User::admin());
        client.expect("an administrator's client")
    }

    /// The token of an account, which may be seen nowhere.
    async fn account(&self, cluster: &str, name: &str) -> Result<Identity> {
        let account = self.cluster(cluster).service_account(NAMESPACE, name);
        let account = account.await?;
        if let Identity::Token(token) = &account {
            self.secrets.lock().expect("no panic").push(token.clone());
        }
        Ok(account)
    }

    async fn attach(&self, name: &str) -> Result<()> {
        let account = self.account(name, "spillway-member").await?;
        let cluster = self.cluster(name);
        is_held(&cluster.client(account.clone())?).await?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": {"kubeconfig": cluster.kubeconfig(account)?},
        });
        self.hub().apply(&secret.to_string()).await?;
        let resource = json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "MeshCluster",
            "metadata": {"name": name},
            "spec": {"secretRef": {"namespace": NAMESPACE, "name": name}},
        });
        self.hub().apply(&resource.to_string()).await.map(drop)
    }

    /// Starts a replica with the account of the chart.
    pub(crate) async fn replica(&self, name: &str) -> Result<Replica> {
        let account = self.account("hub", "spillway-controller").await?;
        let kubeconfig = self.clusters.folder().join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, self.hub().kubeconfig(account)?)?;
        let settings = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--image={}", self.image),
            format!("--insecure-registries={}", self.registry.address()),
        ];
        let address = self.block.lock().expect("no panic").next_address()?;
        Replica::start(name, address.to_string(), self.clusters.folder(), &settings)
    }

    /// The name of the replica that holds the Lease.
    pub(crate) async fn leader(&self) -> Result<Option<String>> {
        let leases: Api<Lease> = Api::namespaced(self.client("hub"), NAMESPACE);
        let lease = leases.get_opt("spillway-controller").await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        let name = holder
            .as_deref()
            .and_then(|holder| holder.split('_').next());
        Ok(name.map(str::to_owned))
    }

    pub(crate) async fn led_by(&self, replica: &Replica) -> Result<()> {
        let what = format!("{} leads", replica.name);
        let leads = eventually(&what, async || {
            Ok(self.leader().await?.as_deref() == Some(&replica.name))
        });
        leads.await.with_context(|| replica.log())
    }

    /// A policy for `shop/worker` with callers in these namespaces, at home in `a`, that overflows
    /// into `b` by at most `rate`.
    pub(crate) async fn policy(&self, rate: u32, clients: &[&str]) -> Result<()> {
        let policy = json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "BurstPolicy",
            "metadata": {"name": "worker", "namespace": "shop"},
            "spec": {
                "targetRefs": [{"name": "worker"}],
                "home": "a",
                // It stands in every cluster's configuration.
                "overflow": [{"cluster": "b", "maxRate": format!("{rate}/s")}],
                "capacity": {"perEndpoint": {"rate": "50/s"}},
                "clients": {"namespaces": clients},
            },
        });
        self.hub().apply(&policy.to_string()).await.map(drop)
    }

    pub(crate) fn policies(&self) -> Api<BurstPolicy> {
        Api::namespaced(self.client("hub"), "shop")
    }

    pub(crate) fn plugins(&self, cluster: &str) -> Api<DynamicObject> {
        let resource = Kind::WasmPlugin.resource();
        Api::namespaced_with(self.client(cluster), "shop", &resource)
    }

    /// Waits until the callers of both members spill at this rate. Returns how long it took.
    pub(crate) async fn have(&self, rate: u32, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        for cluster in MEMBERS {
            let plugins = self.plugins(cluster);
            loop {
                let found = plugins.get_opt("spillway-client").await?;
                if found.as_ref().and_then(rate_of) == Some(rate) {
                    break;
                }
                ensure!(began.elapsed() < within, "{cluster} does not have {rate}");
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(began.elapsed())
    }

    /// The UIDs and versions of all that the controller writes, in every cluster, statuses too.
    pub(crate) async fn versions(&self) -> Result<BTreeMap<String, String>> {
        let mut versions = BTreeMap::new();
        for cluster in MEMBERS {
            let client = self.client(cluster);
            for kind in WRITTEN {
                let api = Api::<DynamicObject>::all_with(client.clone(), &kind.resource());
                add(
                    &mut versions,
                    cluster,
                    &api.list(&ListParams::default()).await?,
                );
            }
            let claims: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
            add(
                &mut versions,
                cluster,
                &claims.list(&ListParams::default()).await?,
            );
        }
        let hub = self.client("hub");
        let clusters: Api<MeshCluster> = Api::all(hub.clone());
        add(
            &mut versions,
            "hub",
            &clusters.list(&ListParams::default()).await?,
        );
        add(
            &mut versions,
            "hub",
            &self.policies().list(&ListParams::default()).await?,
        );
        let secrets: Api<Secret> = Api::namespaced(hub, NAMESPACE);
        add(
            &mut versions,
            "hub",
            &secrets.list(&ListParams::default()).await?,
        );
        Ok(versions)
    }

    /// Whether no credential stands in what these replicas have logged, or in a status.
    pub(crate) async fn keeps_secrets(&self, logs: &[String]) -> Result<()> {
        let hub = self.client("hub");
        let secrets: Api<Secret> = Api::namespaced(hub.clone(), NAMESPACE);
        let tokens = secrets.get("spillway-tokens").await?.data;
        let tokens = tokens.and_then(|mut data| data.remove("tokens"));
        let token = String::from_utf8(tokens.context("no tokens")?.0)?;
        let mut all = self.secrets.lock().expect("no panic").clone();
        all.push(token);
        let clusters: Api<MeshCluster> = Api::all(hub);
        let statuses = [
            serde_json::to_string(&self.policies().list(&ListParams::default()).await?)?,
            serde_json::to_string(&clusters.list(&ListParams::default()).await?)?,
        ];
        ensure!(logs.iter().any(|log| !log.is_empty()), "nothing was logged");
        for text in logs.iter().chain(&statuses) {
            for secret in &all {
                // The second part is the third's content, and as good as the whole.
                let parts = secret.split('.').chain([secret.as_str()]);
                for part in parts.filter(|part| part.len() > 16) {
                    ensure!(!text.contains(part), "a credential: {text}");
                }
            }
        }
        Ok(())
    }
}

fn add<K>(versions: &mut BTreeMap<String, String>, cluster: &str, list: &ObjectList<K>)
where
    K: Clone + ResourceExt,
{
    for object in list {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        // A kind is told by the UID.
        let uid = object.uid().unwrap_or_default();
        let version = object.resource_version().unwrap_or_default();
        versions.insert(format!("{cluster} {namespace}/{name} {uid}"), version);
    }
}

/// The rate that a caller's plugin spills at.
pub(crate) fn rate_of(plugin: &DynamicObject) -> Option<u32> {
    let text = plugin.data.get("spec")?.to_string();
    let digits = text.split("\"maxRate\":\"").nth(1)?;
    digits.split('/').next()?.parse().ok()
}

/// Waits until the API server holds the account to what is Spillway's.
async fn is_held(client: &Client) -> Result<()> {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "probe", "namespace": "shop"},
        "spec": {"host": "probe"},
    });
    let rule: DynamicObject = serde_json::from_value(rule)?;
    let resource = Kind::DestinationRule.resource();
    let rules: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &resource);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("the account is held", async || {
        let answer = rules.create(&params, &rule).await.err();
        let refused =
            |error: kube::Error| error.to_string().contains("only objects with the label");
        Ok(answer.is_some_and(refused))
    })
    .await
}

const WRITTEN: [Kind; 3] = [
    Kind::DestinationRule,
    Kind::VirtualService,
    Kind::WasmPlugin,
];
