//! The local mesh: clusters, services with endpoints in them, callers; all with real Envoys.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use spillway_e2e::mesh::Mesh;
//! use spillway_e2e::policy::{Policies, Policy};
//! use spillway_e2e::topology::Service;
//!
//! let mut mesh = Mesh::builder()
//!     .cluster("primary")
//!     .cluster("burst")
//!     .service(Service::worker())
//!     .endpoints("primary", 2)
//!     .endpoints("burst", 1)
//!     .caller("shop", "primary")
//!     .filter(spillway_e2e::artefacts::filter()?)
//!     .start()
//!     .await?;
//! let policies = Policies::for_clusters(["primary", "burst"])
//!     .policy(Policy::worker("primary", &["burst"]).total_rate("primary", "15/s", 2));
//! let generation = mesh.apply(&policies).await?;
//! mesh.wait_generation(generation).await?;
//! let answer = mesh.call("shop", "/").await?;
//! assert_eq!(answer.served_by(), Some("primary"));
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::address::{self, Block};
use crate::app::App;
use crate::bootstrap::Identity;
use crate::client::{Answer, Call, HttpClient, Target};
use crate::clusters;
use crate::listeners::{self, Configuration};
use crate::policy::{Policies, Side};
use crate::routes;
use crate::sidecar::{DEADLINE, Sidecar};
use crate::topology::{
    Announced, CallerSpec, Cluster, EndpointSpec, ProxyOptions, Service, Topology,
};

/// The metric that tells the generation of the configuration in force.
pub const GENERATION: &str = "wasmcustom.spillway_config_generation";

/// Describes a mesh; see the module's example.
#[derive(Clone, Debug, Default)]
pub struct MeshBuilder {
    clusters: Vec<Cluster>,
    services: Vec<Service>,
    endpoints: Vec<EndpointSpec>,
    callers: Vec<CallerSpec>,
    proxy: ProxyOptions,
    filter: Option<PathBuf>,
    policies: Option<Policies>,
}

impl MeshBuilder {
    /// Adds a cluster, in a region of its own.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.clusters.push(Cluster {
            name: name.to_owned(),
            region: format!("region-{name}"),
        });
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Adds so many endpoints of the service that was added last, with the default application.
    #[must_use]
    pub fn endpoints(mut self, cluster: &str, count: usize) -> Self {
        let host = self
            .services
            .last()
            .map(|service| service.host.clone())
            .unwrap_or_default();
        for _ in 0..count {
            self.endpoints.push(EndpointSpec::new(&host, cluster));
        }
        self
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: EndpointSpec) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Adds a caller.
    #[must_use]
    pub fn caller(self, name: &str, cluster: &str) -> Self {
        self.caller_with(name, cluster, None)
    }

    /// Adds a caller whose sidecar is not as the mesh's.
    #[must_use]
    pub fn caller_with(mut self, name: &str, cluster: &str, proxy: Option<ProxyOptions>) -> Self {
        let (name, cluster) = (name.to_owned(), cluster.to_owned());
        self.callers.push(CallerSpec {
            name,
            cluster,
            proxy,
        });
        self
    }

    /// Sets how sidecars are run that do not say otherwise.
    #[must_use]
    pub fn proxies(mut self, proxy: ProxyOptions) -> Self {
        self.proxy = proxy;
        self
    }

    /// Puts this filter into every sidecar whose options want it. Without, there are no plugins.
    #[must_use]
    pub fn filter(mut self, code: PathBuf) -> Self {
        self.filter = Some(code);
        self
    }

    /// The policies to begin with, as generation 0; otherwise a table of the clusters without any
    /// policy.
    #[must_use]
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = Some(policies);
        self
    }

    /// Starts everything, and waits until every sidecar is ready.
    ///
    /// # Errors
    /// When something named does not exist, or does not start; with the end of Envoy's log.
    pub async fn start(self) -> Result<Mesh> {
        ensure!(!self.services.is_empty(), "a mesh needs a service");
        let folder = tempfile::Builder::new()
            .prefix("spillway-mesh-")
            .tempdir()?;
        let names = self.clusters.iter().map(|cluster| cluster.name.as_str());
        let policies = self
            .policies
            .unwrap_or_else(|| Policies::for_clusters(names));
        let code = match self.filter {
            Some(code) => {
                let copy = folder.path().join("filter-0.wasm");
                std::fs::copy(&code, &copy)
                    .with_context(|| format!("no filter at {}", code.display()))?;
                Some(copy)
            }
            None => None,
        };
        let mut mesh = Mesh {
            callers: Vec::new(),
            endpoints: Vec::new(),
            topology: Topology {
                clusters: self.clusters,
                services: self.services,
                endpoints: Vec::new(),
                tokens: policies.tokens.clone(),
            },
            proxy: self.proxy,
            code,
            swaps: 0,
            policies,
            generation: 0,
            started: 0,
            block: Block::take()?,
            folder,
        };
        for spec in self.endpoints {
            let endpoint = mesh.make_endpoint(spec).await?;
            mesh.announce_address(&endpoint);
            mesh.endpoints.push(endpoint);
        }
        for spec in self.callers {
            let caller = mesh.make_caller(spec)?;
            mesh.callers.push(caller);
        }
        mesh.configure_all().await?;
        let sidecars = mesh.callers.iter_mut();
        let sidecars = sidecars.chain(mesh.endpoints.iter_mut().map(|one| &mut one.sidecar));
        let mut sidecars: Vec<_> = sidecars.collect();
        for sidecar in &mut sidecars {
            sidecar.launch()?;
        }
        for sidecar in sidecars {
            sidecar.wait_ready().await?;
        }
        Ok(mesh)
    }
}

/// An endpoint: an application with its sidecar.
#[derive(Debug)]
pub struct Endpoint {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The application.
    pub app: App,
    host: String,
    app_port: u16,
}

impl Endpoint {
    /// The host of its service.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where its sidecar takes requests from the mesh: for requests that no caller's sidecar sends.
    #[must_use]
    pub fn inbound(&self) -> Target {
        Target {
            address: SocketAddr::from((self.sidecar.address(), self.app_port)),
            host: self.host.clone(),
            http2: false,
        }
    }

    /// Kills application and sidecar. Callers are not told; they find connections refused.
    pub async fn kill(&mut self) {
        self.sidecar.kill();
        self.app.stop().await;
    }

    /// Starts both again, at the same address.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.app.restart().await?;
        self.sidecar.start().await
    }
}

/// A running mesh. Everything ends when this is dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct Mesh {
    // Processes first: they end before their folder is removed.
    callers: Vec<Sidecar>,
    endpoints: Vec<Endpoint>,
    topology: Topology,
    proxy: ProxyOptions,
    code: Option<PathBuf>,
    swaps: u32,
    policies: Policies,
    generation: u64,
    /// Endpoints made so far: their names are never used again.
    started: usize,
    block: Block,
    folder: TempDir,
}

impl Mesh {
    /// Begins to describe a mesh.
    #[must_use]
    pub fn builder() -> MeshBuilder {
        MeshBuilder::default()
    }

    // What there is.

    /// The callers' sidecars, in the order in which they were added.
    #[must_use]
    pub fn callers(&self) -> &[Sidecar] {
        &self.callers
    }

    /// A caller's sidecar.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn caller(&self, name: &str) -> Result<&Sidecar> {
        let caller = self.callers.iter().find(|caller| caller.name() == name);
        caller.with_context(|| format!("no caller {name}"))
    }

    /// A caller's sidecar, to stop or start it.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn caller_mut(&mut self, name: &str) -> Result<&mut Sidecar> {
        let caller = self.callers.iter_mut().find(|caller| caller.name() == name);
        caller.with_context(|| format!("no caller {name}"))
    }

    /// The endpoints in a cluster.
    pub fn endpoints(&self, cluster: &str) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.sidecar.cluster() == cluster)
    }

    /// The endpoints in a cluster, to stop or start them.
    pub fn endpoints_mut(&mut self, cluster: &str) -> impl Iterator<Item = &mut Endpoint> {
        self.endpoints
            .iter_mut()
            .filter(move |endpoint| endpoint.sidecar.cluster() == cluster)
    }

    /// Every sidecar.
    pub fn sidecars(&self) -> impl Iterator<Item = &Sidecar> {
        self.callers
            .iter()
            .chain(self.endpoints.iter().map(|endpoint| &endpoint.sidecar))
    }

    /// The folder with everybody's files; removed with the mesh.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// When requests arrived at a cluster's applications, in order.
    #[must_use]
    pub fn arrivals(&self, cluster: &str) -> Vec<Instant> {
        let mut times: Vec<_> = self
            .endpoints(cluster)
            .flat_map(|endpoint| endpoint.app.arrivals())
            .collect();
        times.sort_unstable();
        times
    }

    /// How many requests arrived at a cluster's applications.
    #[must_use]
    pub fn count(&self, cluster: &str) -> usize {
        self.endpoints(cluster)
            .map(|endpoint| endpoint.app.count())
            .sum()
    }

    /// Makes every application forget what it has seen.
    pub fn forget(&self) {
        for endpoint in &self.endpoints {
            endpoint.app.forget();
        }
    }

    // Requests.

    /// Where a caller sends its requests to the first service.
    ///
    /// # Errors
    /// When there is no such caller.
    pub fn target(&self, caller: &str) -> Result<Target> {
        let service = self
            .topology
            .services
            .first()
            .context("a mesh has a service")?;
        self.target_of(caller, &service.host)
    }

    /// Where a caller sends its requests to a service. HTTP/2 where the service says so.
    ///
    /// # Errors
    /// When there is no such caller or service.
    pub fn target_of(&self, caller: &str, host: &str) -> Result<Target> {
        let service = self.service(host)?;
        let port = address::outbound_port(service.port);
        Ok(Target {
            address: SocketAddr::from((self.caller(caller)?.address(), port)),
            host: service.host.clone(),
            http2: service.protocol == crate::topology::Protocol::Http2,
        })
    }

    /// A client of a caller for the first service.
    ///
    /// # Errors
    /// When there is no such caller.
    pub fn client(&self, caller: &str) -> Result<HttpClient> {
        Ok(HttpClient::new(&self.target(caller)?))
    }

    /// Sends one GET from a caller to the first service, over a connection of its own.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, caller: &str, path: &str) -> Result<Answer> {
        self.client(caller)?.call(&Call::get(path)).await
    }

    // Services, routes and endpoints.

    /// A service.
    ///
    /// # Errors
    /// When there is none with this host.
    pub fn service(&self, host: &str) -> Result<&Service> {
        let service = self
            .topology
            .services
            .iter()
            .find(|service| service.host == host);
        service.with_context(|| format!("no service {host}"))
    }

    /// Changes a service, its routes or its subsets, and waits until every sidecar has the change.
    ///
    /// # Errors
    /// When there is no such service, or a sidecar does not take it over.
    pub async fn change_service(
        &mut self,
        host: &str,
        change: impl FnOnce(&mut Service),
    ) -> Result<()> {
        let service = self
            .topology
            .services
            .iter_mut()
            .find(|service| service.host == host);
        change(service.with_context(|| format!("no service {host}"))?);
        self.configure_all().await
    }

    /// Takes all endpoints of a cluster out of discovery, while they go on running; or puts them
    /// back.
    ///
    /// # Errors
    /// When a sidecar does not take it over.
    pub async fn announce(&mut self, cluster: &str, announced: bool) -> Result<()> {
        self.topology
            .endpoints
            .retain(|endpoint| endpoint.cluster != cluster);
        if announced {
            let back: Vec<_> = self.endpoints(cluster).map(Endpoint::announced).collect();
            self.topology.endpoints.extend(back);
        }
        self.configure_all().await
    }

    /// Starts one more endpoint, and announces it when it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn add_endpoint(&mut self, spec: EndpointSpec) -> Result<()> {
        let mut endpoint = self.make_endpoint(spec).await?;
        self.configure(&endpoint.sidecar, Some(&endpoint.host))
            .await?;
        endpoint.sidecar.start().await?;
        self.announce_address(&endpoint);
        self.endpoints.push(endpoint);
        self.configure_all().await
    }

    /// Takes the endpoint of a cluster that was started last out of discovery, and then stops it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_endpoint(&mut self, cluster: &str) -> Result<()> {
        let last = self
            .endpoints
            .iter()
            .rposition(|one| one.sidecar.cluster() == cluster);
        let last = last.with_context(|| format!("no endpoint in {cluster}"))?;
        let mut endpoint = self.endpoints.remove(last);
        let address = endpoint.sidecar.address();
        self.topology
            .endpoints
            .retain(|announced| announced.address != address);
        self.configure_all().await?;
        endpoint.sidecar.stop().await
    }

    /// Kills every endpoint of a cluster without a word to the callers.
    pub async fn kill_cluster(&mut self, cluster: &str) {
        for endpoint in self.endpoints_mut(cluster) {
            endpoint.kill().await;
        }
    }

    /// Starts a cluster's endpoints again.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn restart_cluster(&mut self, cluster: &str) -> Result<()> {
        for endpoint in self.endpoints_mut(cluster) {
            endpoint.restart().await?;
        }
        Ok(())
    }

    // Plugins.

    /// Gives every plugin these policies, as the next generation, which is returned. Where the
    /// tokens changed, routes are changed first, as the controller does.
    ///
    /// # Errors
    /// When files cannot be written.
    pub async fn apply(&mut self, policies: &Policies) -> Result<u64> {
        self.policies = policies.clone();
        self.generation += 1;
        if self.topology.tokens != policies.tokens {
            self.topology.tokens.clone_from(&policies.tokens);
            self.push_routes().await?;
        }
        self.write_plugins(|_, side| self.document(side)).await?;
        Ok(self.generation)
    }

    /// Gives every plugin whatever `configuration` says, valid or not.
    ///
    /// # Errors
    /// When files cannot be written.
    pub async fn apply_raw(
        &mut self,
        configuration: impl Fn(&Sidecar, Side) -> Configuration,
    ) -> Result<()> {
        self.write_plugins(configuration).await
    }

    /// Replaces the code of every plugin by this file's.
    ///
    /// # Errors
    /// When there is no such file, or the mesh was started without a filter.
    pub async fn swap_filter(&mut self, code: &Path) -> Result<()> {
        let code = std::fs::read(code).with_context(|| format!("no {}", code.display()))?;
        self.swap_filter_bytes(&code).await
    }

    /// Replaces the code of every plugin by any bytes, even if they are no module.
    ///
    /// # Errors
    /// When the mesh was started without a filter.
    pub async fn swap_filter_bytes(&mut self, code: &[u8]) -> Result<()> {
        ensure!(self.code.is_some(), "the mesh was started without a filter");
        self.swaps += 1;
        let path = self
            .folder
            .path()
            .join(format!("filter-{}.wasm", self.swaps));
        std::fs::write(&path, code)?;
        self.code = Some(path);
        self.write_plugins(|_, side| self.document(side)).await
    }

    /// Waits until every plugin that was written is in force in all worker threads. It tells
    /// nothing of whether the filter accepted its configuration: see [`Self::wait_generation`].
    ///
    /// # Errors
    /// When one is not in time.
    pub async fn wait_plugins(&self) -> Result<()> {
        for sidecar in self.sidecars() {
            sidecar.wait_plugins().await?;
        }
        Ok(())
    }

    /// Waits until every running sidecar with the filter shows this generation, in all its
    /// threads.
    ///
    /// # Errors
    /// When one does not in time.
    pub async fn wait_generation(&self, generation: u64) -> Result<()> {
        self.wait_plugins().await?;
        let filter = format!("^{}", GENERATION.replace('.', "\\."));
        for sidecar in self
            .sidecars()
            .filter(|one| one.pid().is_some() && has_plugins(one))
        {
            let begin = Instant::now();
            loop {
                let stats = sidecar.stats(&filter).await?;
                if !stats.is_empty() && stats.values().all(|shown| *shown >= generation) {
                    break;
                }
                if begin.elapsed() > DEADLINE {
                    let name = sidecar.name();
                    bail!(
                        "{name} shows {stats:?}, not {generation}; log: {}",
                        sidecar.log()
                    );
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    // How it is made.

    fn document(&self, side: Side) -> Configuration {
        Configuration::Text(self.policies.document(self.generation, side).to_string())
    }

    async fn write_plugins(
        &self,
        configuration: impl Fn(&Sidecar, Side) -> Configuration,
    ) -> Result<()> {
        let Some(code) = &self.code else {
            return Ok(());
        };
        for sidecar in self.sidecars() {
            for side in sidecar.sides() {
                let plugin = listeners::plugin(*side, code, &configuration(sidecar, *side));
                sidecar.write_plugin(*side, plugin).await?;
            }
        }
        Ok(())
    }

    fn announce_address(&mut self, endpoint: &Endpoint) {
        self.topology.endpoints.push(endpoint.announced());
    }

    fn sides(&self, options: &ProxyOptions, sides: &[Side]) -> Vec<Side> {
        let filter = self.code.is_some() && options.filter;
        sides.iter().copied().filter(|_| filter).collect()
    }

    async fn make_endpoint(&mut self, spec: EndpointSpec) -> Result<Endpoint> {
        let service = self.service(&spec.host)?.clone();
        self.check_cluster(&spec.cluster)?;
        let options = spec.proxy.unwrap_or_else(|| self.proxy.clone());
        let sides = if spec.calls {
            &Side::ALL[..]
        } else {
            &[Side::Server]
        };
        let sides = self.sides(&options, sides);
        let address = self.block.next_address()?;
        let name = format!("{}-{}", service.workload, self.started);
        self.started += 1;
        let identity = Identity {
            workload: service.workload.clone(),
            namespace: service.namespace.clone(),
            labels: service.labels.clone(),
            region: self.topology.region(&spec.cluster).to_owned(),
            cluster: spec.cluster.clone(),
            name: name.clone(),
            address,
        };
        let real = SocketAddr::from((address, address::real_app_port(service.app_port)));
        let app = App::start(&spec.cluster, real, spec.app).await?;
        let folder = self.folder.path().join(name);
        let sidecar = Sidecar::prepare(identity, options, sides, spec.calls, folder)?;
        Ok(Endpoint {
            sidecar,
            app,
            host: service.host,
            app_port: service.app_port,
        })
    }

    fn make_caller(&mut self, spec: CallerSpec) -> Result<Sidecar> {
        self.check_cluster(&spec.cluster)?;
        let options = spec.proxy.unwrap_or_else(|| self.proxy.clone());
        let sides = self.sides(&options, &[Side::Client]);
        let identity = Identity {
            workload: spec.name.clone(),
            namespace: "default".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), spec.name.clone())]),
            region: self.topology.region(&spec.cluster).to_owned(),
            cluster: spec.cluster,
            address: self.block.next_address()?,
            name: spec.name.clone(),
        };
        let folder = self.folder.path().join(spec.name);
        Sidecar::prepare(identity, options, sides, true, folder)
    }

    fn check_cluster(&self, cluster: &str) -> Result<()> {
        let known = self
            .topology
            .clusters
            .iter()
            .any(|known| known.name == cluster);
        ensure!(known, "no cluster {cluster} in the mesh");
        Ok(())
    }

    /// Ports of services that have an outbound listener.
    fn ports(&self) -> BTreeSet<u16> {
        self.topology
            .services
            .iter()
            .map(|service| service.port)
            .collect()
    }

    async fn configure_all(&self) -> Result<()> {
        for caller in &self.callers {
            self.configure(caller, None).await?;
        }
        for endpoint in &self.endpoints {
            self.configure(&endpoint.sidecar, Some(&endpoint.host))
                .await?;
        }
        Ok(())
    }

    async fn push_routes(&self) -> Result<()> {
        for sidecar in self.sidecars().filter(|sidecar| sidecar.is_outbound()) {
            for port in self.ports() {
                let counter = format!("http.outbound_0.0.0.0_{port}.rds.{port}.config_reload");
                let routes = routes::route_configuration(&self.topology, port);
                sidecar
                    .push(&listeners::route_file(port), &[routes], &counter)
                    .await?;
            }
        }
        Ok(())
    }

    /// Writes what a sidecar should have, and waits where something changed: endpoints before
    /// clusters, clusters before listeners, routes last, so that none names what is not there.
    async fn configure(&self, sidecar: &Sidecar, serves: Option<&str>) -> Result<()> {
        let context = listeners::Context {
            folder: sidecar.folder(),
            address: sidecar.address(),
            filter: has_plugins(sidecar),
            access_log: sidecar.options().access_log,
        };
        let mut cluster_resources: Vec<Value> = Vec::new();
        let mut listener_resources = Vec::new();
        if let Some(host) = serves {
            let service = self.service(host)?;
            let port = address::real_app_port(service.app_port);
            cluster_resources.push(clusters::inbound(service, sidecar.address(), port));
            listener_resources.push(listeners::inbound(&context, service));
        }
        if sidecar.is_outbound() {
            let file = |number: usize| format!("eds-{number}.json");
            let path = |number| {
                sidecar
                    .folder()
                    .join(file(number))
                    .to_string_lossy()
                    .into_owned()
            };
            let outbound = clusters::outbound(&self.topology, sidecar.cluster(), path);
            for (number, cluster) in outbound.into_iter().enumerate() {
                let counter = format!("cluster.{}.update_success", cluster.name);
                sidecar
                    .push(&file(number), &[cluster.assignment], &counter)
                    .await?;
                cluster_resources.push(cluster.cluster);
            }
            listener_resources.extend(
                self.ports()
                    .into_iter()
                    .map(|port| listeners::outbound(&context, port)),
            );
        }
        let counter = "cluster_manager.cds.update_success";
        sidecar
            .push("cds.json", &cluster_resources, counter)
            .await?;
        if let Some(code) = &self.code {
            for side in sidecar.sides() {
                if sidecar.pid().is_none() {
                    let plugin = listeners::plugin(*side, code, &self.document(*side));
                    sidecar.write_plugin(*side, plugin).await?;
                }
            }
        }
        if sidecar.is_outbound() {
            for port in self.ports() {
                let counter = format!("http.outbound_0.0.0.0_{port}.rds.{port}.config_reload");
                let routes = routes::route_configuration(&self.topology, port);
                sidecar
                    .push(&listeners::route_file(port), &[routes], &counter)
                    .await?;
            }
        }
        let counter = "listener_manager.lds.update_success";
        sidecar.push("lds.json", &listener_resources, counter).await
    }
}

impl Endpoint {
    fn announced(&self) -> Announced {
        Announced {
            host: self.host.clone(),
            cluster: self.sidecar.cluster().to_owned(),
            address: self.sidecar.address(),
        }
    }
}

fn has_plugins(sidecar: &Sidecar) -> bool {
    !sidecar.sides().is_empty()
}
