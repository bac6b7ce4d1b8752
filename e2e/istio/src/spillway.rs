//! Spillway as users install it: the filter in a registry, the charts' rights, the controller.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kube::Api;
use serde_json::{Value, json};
use spillway_api::BurstPolicy;
use spillway_charts::Helm;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Cluster, User, merge};
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::process::Process;
use spillway_e2e::{artefacts, mesh::GENERATION};
use spillway_image::{Access, Image, Provenance, pinned, push};

use crate::mesh::{HUB, Mesh};
use crate::network::NODE;
use crate::pod::{Pod, end};
use crate::{istioctl, programs, wait};

/// Where the controller's own objects are.
pub const NAMESPACE: &str = "spillway-system";
/// Where the controller tells what it counts.
const PORT: u16 = 8080;

/// Where Istio's remote secrets are.
const ISTIO: &str = "istio-system";

/// The controller while it runs, and what it needs; ends when this is dropped.
pub struct Spillway {
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
    registry: Registry,
}

impl Spillway {
    /// Pushes the filter, installs the charts, attaches every cluster of the mesh, and starts the
    /// controller. A cluster `NAME` tags what it serves with `NAME-`.
    ///
    /// # Errors
    /// When anything of it cannot be had.
    pub async fn install(mesh: &Mesh) -> Result<Self> {
        Self::install_discovering(mesh, &[]).await
    }

    /// As [`Spillway::install`], but some clusters are told to the hub by Istio's remote secrets
    /// only, until somebody calls [`attach`].
    ///
    /// # Errors
    /// When anything of it cannot be had.
    pub async fn install_discovering(mesh: &Mesh, discovered: &[&str]) -> Result<Self> {
        let registry = Registry::start_at(NODE).await?;
        let module = std::fs::read(artefacts::filter()?)?;
        let image = Image::filter(&module, &Provenance::default())?;
        let image = push_into(&registry, &image).await?;

        let hub = mesh.cluster(HUB)?;
        let helm = Helm::new()?;
        let namespace = format!("--namespace={NAMESPACE}");
        let template = |arguments: &[&str]| {
            let first = ["template", namespace.as_str()];
            helm.succeed(&[&first, arguments].concat())
        };
        let named = format!("--set=filter.image={image}");
        let repository = "--set=image.repository=registry.example.com/spillway/controller";
        let discover = format!("--set=discover={{{ISTIO}}}");
        let mut arguments = vec!["spillway", "spillway", "--include-crds", repository, &named];
        if !discovered.is_empty() {
            arguments.push(&discover);
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ISTIO},
            });
            hub.apply(&namespace.to_string()).await?;
        }
        install(hub, &template(&arguments)?).await?;
        for name in discovered {
            let secret = istioctl::create_remote_secret(mesh.folder(), mesh.cluster(name)?)?;
            hub.apply(&secret).await?;
        }
        let namespaces = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}",
            mesh.service().namespace
        );
        hub.apply(&namespaces).await?;
        for name in mesh.members() {
            let namespaces = format!("--set=namespaces={{{}}}", mesh.namespaces(name).join(","));
            let rights = template(&["spillway-member", "spillway-member", &namespaces])?;
            install(mesh.cluster(name)?, &rights).await?;
            if !discovered.contains(&name) {
                attach(mesh, name).await?;
            }
        }

        let account = hub
            .service_account(NAMESPACE, "spillway-controller")
            .await?;
        let kubeconfig = mesh.folder().join("controller.kubeconfig");
        std::fs::write(&kubeconfig, hub.kubeconfig(account)?)?;
        let mut this = Self {
            arguments: vec![
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--image={image}"),
                format!("--insecure-registries={}", registry.address()),
                format!("--listen={NODE}:{PORT}"),
                "--admin=127.0.0.1:8081".to_owned(),
                "--log-format=text".to_owned(),
            ],
            log: mesh.folder().join("controller.log"),
            process: None,
            registry,
        };
        if !discovered.is_empty() {
            this.arguments.push(format!("--discover={ISTIO}"));
        }
        this.start()?;
        Ok(this)
    }

    /// Starts the controller, unless it runs.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn start(&mut self) -> Result<()> {
        if self.process.is_none() {
            let program = programs::controller()?;
            self.process = Some(Process::start(&program, &self.arguments, &self.log)?);
        }
        Ok(())
    }

    /// Kills the controller (SIGKILL).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The registry with the filter's image.
    #[must_use]
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Pushes another image of the filter. Returns its name, by its digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push(&self, image: &Image) -> Result<String> {
        push_into(&self.registry, image).await
    }

    /// The name that an image has once it is pushed.
    ///
    /// # Errors
    /// When it would be no name of an image.
    pub fn name(&self, image: &Image) -> Result<String> {
        Ok(format!("oci://{}", pinned(image, &place(&self.registry))?))
    }

    /// Starts the controller anew with another image of the filter.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn use_image(&mut self, image: &str) -> Result<()> {
        self.kill();
        self.arguments.retain(|it| !it.starts_with("--image="));
        self.arguments.push(format!("--image={image}"));
        self.start()
    }

    /// What the controller counts.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let target = Target {
            address: (NODE, PORT).into(),
            host: "controller".to_owned(),
            http2: false,
        };
        let answer = HttpClient::new(&target)
            .call(&Call::get("/metrics"))
            .await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// What the controller logs.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Applies a policy on the hub, and waits until every cluster has been written to.
    ///
    /// # Errors
    /// When the controller does not come to it; with the policy's status and the end of its log.
    pub async fn apply(&self, mesh: &Mesh, policy: &Value) -> Result<()> {
        let hub = mesh.cluster(HUB)?;
        let namespace = &mesh.service().namespace;
        hub.apply(&policy.to_string()).await?;
        let name = policy.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.context("a policy has a name")?;
        let policies: Api<BurstPolicy> = Api::namespaced(hub.client(User::admin())?, namespace);
        let programmed = async || {
            let policy = policies.get(name).await?;
            let conditions = policy.status.unwrap_or_default().conditions;
            Ok(conditions.iter().any(|it| {
                it.type_ == "Programmed"
                    && it.status == "True"
                    && it.observed_generation == policy.metadata.generation
            }))
        };
        let waited = wait::until("the policy is programmed", programmed).await;
        if let Err(error) = waited {
            let status = policies.get(name).await?.status;
            let (status, log) = (serde_json::to_string(&status)?, end(&self.log()));
            return Err(error.context(format!("{status}\n{log}")));
        }
        Ok(())
    }
}

async fn push_into(registry: &Registry, image: &Image) -> Result<String> {
    let access = Access {
        insecure: true,
        ..Access::default()
    };
    let name = push(image, &place(registry), &access).await?;
    Ok(format!("oci://{name}"))
}

fn place(registry: &Registry) -> String {
    format!("{}/spillway/filter:test", registry.address())
}

/// A policy for the service of a mesh: at home in `home`, where all endpoints together serve
/// `rate`, and overflowing into `overflow`.
#[must_use]
pub fn policy(mesh: &Mesh, home: &str, overflow: &[&str], rate: &str) -> Value {
    let service = mesh.service();
    let name = service.host.split('.').next().unwrap_or_default();
    let rungs = overflow.iter().map(|cluster| json!({"cluster": cluster}));
    json!({
        "apiVersion": "spillway.dev/v1alpha1",
        "kind": "BurstPolicy",
        "metadata": {"name": "worker", "namespace": service.namespace},
        "spec": {
            "targetRefs": [{"name": name}],
            "home": home,
            "overflow": rungs.collect::<Vec<_>>(),
            "capacity": {"total": {"rate": rate}},
        },
    })
}

/// Applies what a chart renders into the namespace, which Helm would have made.
async fn install(cluster: &Cluster, rendered: &str) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE},
    });
    cluster.apply(&namespace.to_string()).await?;
    cluster.apply(rendered).await.map(drop)
}

/// Gives the hub a kubeconfig of the account that the chart made in a cluster.
///
/// # Errors
/// When the hub does not take it.
pub async fn attach(mesh: &Mesh, name: &str) -> Result<()> {
    let (hub, cluster) = (mesh.cluster(HUB)?, mesh.cluster(name)?);
    let account = cluster
        .service_account(NAMESPACE, "spillway-member")
        .await?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"kubeconfig": cluster.kubeconfig(account)?},
    });
    hub.apply(&secret.to_string()).await?;
    let mut resource = json!({
        "apiVersion": "spillway.dev/v1alpha1",
        "kind": "MeshCluster",
        "metadata": {"name": name},
        "spec": {
            "secretRef": {"namespace": NAMESPACE, "name": name},
            "prefix": format!("{name}-"),
        },
    });
    if let Some(primary) = mesh.primary(name)? {
        merge(&mut resource, &json!({"spec": {"controlPlane": primary}}));
    }
    hub.apply(&resource.to_string()).await.map(drop)
}

impl Pod {
    /// The generation of the configuration that the filter of this sidecar acts by, the least of
    /// all its threads; none without a filter.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn generation(&self) -> Result<Option<u64>> {
        let stats = self.stats(&format!("^{GENERATION}")).await?;
        Ok(stats.into_iter().map(|(_, value)| value).min())
    }

    /// Waits until the sidecar has the filter with a newer configuration than this.
    ///
    /// # Errors
    /// When it never has; with the end of its log.
    pub async fn wait_filter(&self, generation: u64) -> Result<()> {
        let newer = async || Ok(self.generation().await?.is_some_and(|it| it > generation));
        let waited = wait::until(&format!("{} has the filter", self.name()), newer).await;
        waited.with_context(|| end(&self.log())).map(drop)
    }
}
