//! A hub, its members, and an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_charts::{Helm, charts};
use spillway_clusters::{Cluster, Clusters, FaultProxy, User};
use spillway_controller::engine::backoff::Backoff;
use spillway_controller::engine::publish::Statuses;
use spillway_controller::engine::{ClusterReport, Engine, Inputs, Options, Reports, Snapshot};
use spillway_controller::image::{Availability, Returned};
use spillway_controller::metrics::Metrics;
use spillway_controller::observe::kinds::Kind;
use spillway_controller::serve::Health;
use spillway_controller::tokens::{self, Rotation};
use spillway_plan::Mesh;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use crate::fixtures::{
    ISTIO, LOOK, NAMESPACES, PATIENCE, SERVICE, definition, eventually,
};

/// Running clusters, of which the first is the hub.
pub(crate) struct World {
    clusters: Clusters,
}

impl World {
    /// A hub and members with Istio's resources, the namespace `shop` and its service `worker`.
    pub(crate) async fn start(members: &[&str]) -> Result<Self> {
        // Shown where a test fails.
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO);
        let _ = log.with_test_writer().try_init();
        let mut names = vec!["hub"];
        names.extend(members);
        let clusters = Clusters::start(&names).await?;
        let this = Self { clusters };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/spillway/crds");
        for entry in std::fs::read_dir(folder)? {
            let definition = std::fs::read_to_string(entry?.path())?;
            this.hub().apply(&definition).await?;
        }
        this.hub().apply(NAMESPACES).await?;
        for member in members {
            let member = this.cluster(member);
            for kind in ISTIO {
                member.apply(&definition(kind)).await?;
            }
            member.apply(NAMESPACES).await?;
            member.apply(SERVICE).await?;
        }
        Ok(this)
    }

    pub(crate) fn hub(&self) -> &Cluster {
        self.cluster("hub")
    }

    pub(crate) fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.cluster(name).expect("a cluster of the test")
    }

    pub(crate) fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        let client = self.cluster(name).client(User::admin());
        client.expect("an administrator's client")
    }

    /// Attaches a member under its own name with an administrator's kubeconfig.
    pub(crate) async fn attach(&self, name: &str) -> Result<()> {
        let kubeconfig = self.cluster(name).kubeconfig(User::admin())?;
        self.attach_as(name, &kubeconfig).await
    }

    /// As [`World::attach`], by way of a proxy before it.
    pub(crate) async fn attach_behind(&self, name: &str, proxy: &FaultProxy) -> Result<()> {
        let kubeconfig = proxy.kubeconfig(User::admin())?;
        self.attach_as(name, &kubeconfig).await
    }

    /// Attaches whatever the kubeconfig leads to.
    pub(crate) async fn attach_as(&self, name: &str, kubeconfig: &str) -> Result<()> {
        self.secret(name, kubeconfig).await?;
        let resource = json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "MeshCluster",
            "metadata": {"name": name},
            "spec": {"secretRef": {"namespace": "spillway-system", "name": name}},
        });
        self.hub().apply(&resource.to_string()).await.map(drop)
    }

    pub(crate) async fn secret(&self, name: &str, kubeconfig: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "spillway-system"},
            "stringData": {"kubeconfig": kubeconfig},
        });
        self.hub().apply(&secret.to_string()).await.map(drop)
    }

    /// A policy for `shop/worker`, at home in `home`, that overflows into `rung` by at most `rate`.
    pub(crate) async fn policy(&self, home: &str, rung: &str, rate: &str) -> Result<()> {
        let policy = policy("worker", home, rung, rate);
        self.hub().apply(&policy.to_string()).await.map(drop)
    }

    pub(crate) async fn uid(&self, cluster: &str) -> Result<String> {
        let namespaces: Api<Namespace> = Api::all(self.client(cluster));
        let system = namespaces.get("kube-system").await?;
        system.uid().context("a namespace without UID")
    }

    /// Installs the chart on the hub, and speaks as its account: with its rights and no others.
    pub(crate) async fn controller(&self, values: &[&str]) -> Result<Client> {
        let least = charts().join("tests/golden/controller-least.values.yaml");
        let least = format!("--values={}", least.display());
        let mut arguments = vec!["template", "spillway", "spillway", &least];
        arguments.push("--namespace=spillway-system");
        arguments.extend(values);
        self.hub().apply(&Helm::new()?.succeed(&arguments)?).await?;
        let account = self
            .hub()
            .service_account("spillway-system", "spillway-controller");
        self.hub().client(account.await?)
    }

    /// Starts an engine that also writes statuses, for this client of the hub.
    pub(crate) async fn telling(&self, hub: Client) -> Result<Running> {
        let (mesh, receiver) = watch::channel(Some(mesh()));
        let (uid, options) = (self.uid("hub").await?, impatient());
        let engine = Engine::new(hub.clone(), &uid, options.clone(), inputs(receiver));
        let (reports, snapshot) = (engine.reports(), engine.snapshot());
        let metrics = Arc::<Metrics>::default();
        let (known, counted) = (snapshot.clone(), metrics.clone());
        let statuses = Statuses::new(hub, "test", options.deadline, reports, known, counted);
        let pulse = Health::default().pulse("statuses", PATIENCE, Instant::now());
        let mut running = run(engine, mesh);
        let statuses = tokio::spawn(statuses.run(pulse, running.end.clone()));
        running.tasks.push(AbortOnDropHandle::new(statuses));
        running.snapshot = Some(snapshot);
        running.metrics = metrics;
        Ok(running)
    }

    /// Starts an engine that leads alone.
    pub(crate) async fn engine(&self) -> Result<Running> {
        self.engine_with(impatient()).await
    }

    pub(crate) async fn engine_with(&self, options: Options) -> Result<Running> {
        self.engine_of("hub", options).await
    }

    /// Starts an engine with the tokens of the hub's Secret, which are rotated.
    pub(crate) async fn rotating(&self, options: Options) -> Result<Running> {
        let (told, mut found) = watch::channel(None);
        let follow = tokens::follow(
            self.client("hub"),
            options.system_namespace.clone(),
            options.deadline,
            options.backoff.clone(),
            told,
        );
        let follow = AbortOnDropHandle::new(tokio::spawn(follow));
        let (mesh, receiver) = watch::channel(None);
        let uid = self.uid("hub").await?;
        let hub = self.client("hub");
        let engine = Engine::new(hub.clone(), &uid, options.clone(), inputs(receiver));
        let (snapshot, reports) = (engine.snapshot(), engine.reports());
        let rotation = Rotation::new(&hub, "test", &options, found.clone(), snapshot, reports);
        let rotation = AbortOnDropHandle::new(tokio::spawn(rotation.run()));
        let settings = mesh.clone();
        let settle = AbortOnDropHandle::new(tokio::spawn(async move {
            while found.changed().await.is_ok() {
                let found = found.borrow_and_update().clone();
                let tokens = found.map(|found: tokens::secret::Found| found.kept.tokens);
                settings.send_replace(tokens.map(|tokens| Mesh {
                    tokens,
                    ..self::mesh()
                }));
            }
        }));
        let mut running = run(engine, mesh);
        running.tasks.extend([follow, rotation, settle]);
        Ok(running)
    }

    /// Starts an engine that leads alone, and that is told whether the filter's image can be had.
    pub(crate) async fn engine_told(
        &self,
        image: watch::Receiver<Availability>,
    ) -> Result<Running> {
        let (mesh, receiver) = watch::channel(Some(mesh()));
        let inputs = Inputs {
            image,
            ..inputs(receiver)
        };
        let uid = self.uid("hub").await?;
        let engine = Engine::new(self.client("hub"), &uid, impatient(), inputs);
        Ok(run(engine, mesh))
    }

    pub(crate) async fn engine_of(&self, hub: &str, options: Options) -> Result<Running> {
        let (mesh, receiver) = watch::channel(Some(mesh()));
        let uid = self.uid(hub).await?;
        let hub = self.client(hub);
        let engine = Engine::new(hub.clone(), &uid, options.clone(), inputs(receiver));
        let (reports, snapshot) = (engine.reports(), engine.snapshot());
        let metrics = std::sync::Arc::default();
        let statuses = Statuses::new(hub, "engine", options.deadline, reports, snapshot, metrics);
        let mut running = run(engine, mesh);
        let pulse = Health::default().pulse("the statuses", PATIENCE, Instant::now());
        let statuses = tokio::spawn(statuses.run(pulse, running.end.clone()));
        running.tasks.push(AbortOnDropHandle::new(statuses));
        Ok(running)
    }

    /// The objects of ours in a cluster, by kind and name.
    pub(crate) async fn ours(&self, cluster: &str) -> Result<BTreeMap<String, DynamicObject>> {
        let client = self.client(cluster);
        list_ours(|kind| Api::all_with(client.clone(), &kind.resource())).await
    }

    /// The objects of ours in one namespace of a cluster, by kind and name.
    pub(crate) async fn ours_in(
        &self,
        cluster: &str,
        namespace: &str,
    ) -> Result<BTreeMap<String, DynamicObject>> {
        let client = self.client(cluster);
        list_ours(|kind| Api::namespaced_with(client.clone(), namespace, &kind.resource())).await
    }

    /// Waits until a condition of a policy says this: its status, its reason, and a part of its
    /// message.
    pub(crate) async fn told(
        &self,
        policy: &str,
        condition: &str,
        says: [&str; 3],
    ) -> Result<Condition> {
        let policies = policies(self.client("hub"));
        let read = async || {
            let status = policies.get(policy).await?.status.unwrap_or_default();
            Ok(status.conditions)
        };
        told(condition, says, read).await
    }

    /// As [`World::told`], of a MeshCluster.
    pub(crate) async fn told_of_cluster(
        &self,
        cluster: &str,
        condition: &str,
        says: [&str; 3],
    ) -> Result<Condition> {
        let clusters: Api<MeshCluster> = Api::all(self.client("hub"));
        let read = async || {
            let status = clusters.get(cluster).await?.status.unwrap_or_default();
            Ok(status.conditions)
        };
        told(condition, says, read).await
    }

    /// Waits until a cluster's callers spill at this rate.
    pub(crate) async fn has_rate(&self, cluster: &str, rate: u32) -> Result<()> {
        let rate = rate.to_string();
        let has = |plugin: &DynamicObject| spec(plugin).to_string().contains(&rate);
        let client = "WasmPlugin/spillway-client";
        let found = self.until(cluster, |ours| ours.get(client).is_some_and(has));
        found.await.map(drop)
    }

    /// Waits until the objects of ours in a cluster are as they should.
    pub(crate) async fn until(
        &self,
        cluster: &str,
        holds: impl Fn(&BTreeMap<String, DynamicObject>) -> bool,
    ) -> Result<BTreeMap<String, DynamicObject>> {
        let began = Instant::now();
        loop {
            let ours = self.ours(cluster).await?;
            if holds(&ours) {
                return Ok(ours);
            }
            let names: Vec<&String> = ours.keys().collect();
            ensure!(
                began.elapsed() < PATIENCE,
                "{cluster} has {names:?} and it stays so"
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn list_ours(
    api: impl Fn(Kind) -> Api<DynamicObject>,
) -> Result<BTreeMap<String, DynamicObject>> {
    let mut ours = BTreeMap::new();
    for kind in [
        Kind::DestinationRule,
        Kind::VirtualService,
        Kind::WasmPlugin,
    ] {
        let labelled = ListParams::default().labels("app.kubernetes.io/managed-by=spillway");
        for object in api(kind).list(&labelled).await? {
            ours.insert(format!("{}/{}", kind.as_str(), object.name_any()), object);
        }
    }
    Ok(ours)
}

/// An engine that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) reports: Arc<Reports>,
    end: CancellationToken,
    task: AbortOnDropHandle<()>,
    /// What was planned, where it matters.
    pub(crate) snapshot: Option<watch::Receiver<Arc<Snapshot>>>,
    /// What is counted of the statuses, where it matters.
    pub(crate) metrics: Arc<Metrics>,
    /// What runs beside it.
    pub(crate) tasks: Vec<AbortOnDropHandle<()>>,
    _mesh: watch::Sender<Option<Mesh>>,
}

/// What an engine is given where the filter's image can be had.
pub(crate) fn inputs(mesh: watch::Receiver<Option<Mesh>>) -> Inputs {
    Inputs {
        mesh,
        image: watch::channel(Ok(Returned::default())).1,
        metrics: Arc::default(),
    }
}

/// Runs an engine that leads alone.
fn run(engine: Engine, mesh: watch::Sender<Option<Mesh>>) -> Running {
    let (reports, end) = (engine.reports(), CancellationToken::new());
    let pulse = Health::default().pulse("the planner", PATIENCE, Instant::now());
    let task = AbortOnDropHandle::new(tokio::spawn(engine.run(None, pulse, end.clone())));
    Running {
        reports,
        end,
        task,
        snapshot: None,
        metrics: Arc::default(),
        tasks: Vec::new(),
        _mesh: mesh,
    }
}

impl Running {
    /// Waits until what is reported of a cluster is as it should.
    pub(crate) async fn until(
        &self,
        cluster: &str,
        holds: impl Fn(&ClusterReport) -> bool,
    ) -> Result<ClusterReport> {
        let mut changed = self.reports.changed();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let report = self.reports.get(cluster);
                if holds(&report) {
                    return Ok(report);
                }
                if changed.changed().await.is_err() {
                    bail!("the engine has ended");
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => bail!("{cluster} stays as {:?}", self.reports.get(cluster)),
        }
    }

    /// Waits until a cluster has been given something and has all of it.
    pub(crate) async fn settled(&self, cluster: &str) -> Result<ClusterReport> {
        self.until(cluster, |report| report.ordered > 0 && report.is_settled())
            .await
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) -> Result<()> {
        self.end.cancel();
        Ok(self.task.await?)
    }
}

async fn told(
    condition: &str,
    [status, reason, message]: [&str; 3],
    read: impl AsyncFn() -> Result<Vec<Condition>>,
) -> Result<Condition> {
    let began = Instant::now();
    loop {
        let conditions = read().await?;
        let found = conditions.into_iter().find(|it| it.type_ == condition);
        if let Some(found) = &found
            && found.status == status
            && found.reason == reason
            && found.message.contains(message)
        {
            return Ok(found.clone());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{condition} is not {status}, {reason}, {message}: {found:?}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) fn policies(client: Client) -> Api<BurstPolicy> {
    Api::namespaced(client, "shop")
}

pub(crate) fn policy(name: &str, home: &str, rung: &str, rate: &str) -> Value {
    json!({
        "apiVersion": "spillway.dev/v1alpha1",
        "kind": "BurstPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "targetRefs": [{"name": name}],
            "home": home,
            // It stands in every cluster's configuration.
            "overflow": [{"cluster": rung, "maxRate": rate}],
            "capacity": {"perEndpoint": {"rate": "50/s"}},
        },
    })
}

/// As it ships, but for what a test would only wait for.
pub(crate) fn impatient() -> Options {
    Options {
        settle: Duration::from_millis(20),
        push_interval: Duration::from_millis(200),
        spread: Duration::from_millis(20),
        deadline: Duration::from_secs(2),
        backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
        ..Options::default()
    }
}

pub(crate) fn mesh() -> Mesh {
    let mesh = json!({
        "image": format!("oci://registry.example.com/spillway/filter@sha256:{}", "0".repeat(64)),
        "tokens": ["mesh-token-1"],
    });
    serde_json::from_value(mesh).expect("good settings")
}

/// The content of an object, as far as it was declared.
pub(crate) fn spec(object: &DynamicObject) -> &Value {
    object.data.get("spec").unwrap_or(&Value::Null)
}

/// What tells whether an object was written: its UID and resource version.
pub(crate) fn versions(ours: &BTreeMap<String, DynamicObject>) -> BTreeMap<&str, (String, String)> {
    let version = |object: &DynamicObject| {
        let uid = object.uid().unwrap_or_default();
        (uid, object.resource_version().unwrap_or_default())
    };
    ours.iter()
        .map(|(name, object)| (name.as_str(), version(object)))
        .collect()
}
