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
mod builder;
mod change;
mod configure;
mod endpoint;
mod full;
mod plugins;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

pub use self::builder::MeshBuilder;
pub use self::endpoint::Endpoint;
pub use self::full::HOURLY;
pub use self::plugins::GENERATION;
use crate::address::{self, Block};
use crate::client::{Answer, Call, HttpClient, Target};
use crate::policy::Policies;
use crate::sidecar::Sidecar;
use crate::topology::{Protocol, ProxyOptions, Service, Topology};

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

    /// The mesh that most tests need: a service with so many endpoints in "primary" and one in
    /// "burst", sidecars of two threads; callers are to be added.
    #[must_use]
    pub fn two_clusters(service: Service, endpoints: usize) -> MeshBuilder {
        Self::builder()
            .cluster("primary")
            .cluster("burst")
            .service(service)
            .proxies(ProxyOptions {
                concurrency: 2,
                ..ProxyOptions::default()
            })
            .endpoints("primary", endpoints)
            .endpoints("burst", 1)
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

    /// Waits until a cluster's applications have seen so many requests more.
    ///
    /// # Errors
    /// When they have not after this time.
    pub async fn wait_for_arrivals(
        &self,
        cluster: &str,
        requests: usize,
        limit: Duration,
    ) -> Result<()> {
        let (began, before) = (Instant::now(), self.count(cluster));
        while self.count(cluster) < before + requests {
            let came = self.count(cluster) - before;
            ensure!(
                began.elapsed() < limit,
                "{came} of {requests} requests at {cluster} in {limit:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
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
            http2: service.protocol == Protocol::Http2,
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
}
