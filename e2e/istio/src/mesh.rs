//! Clusters with a control plane each, one service in all of them, and its callers.
//!
//! It is what Istio calls multi-primary on one network: each istiod reads its own cluster, and the
//! endpoints of the others. There is a *hub* besides, a cluster without a mesh, for policies.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use spillway_istio::mesh::Mesh;
//!
//! let mesh = Mesh::builder()
//!     .cluster("primary")
//!     .cluster("burst")
//!     .endpoints("primary", 2)
//!     .endpoints("burst", 1)
//!     .caller("shop", "primary")
//!     .start()
//!     .await?;
//! let answer = mesh.call("shop", "/").await?;
//! assert!(answer.served_by().is_some());
//! # Ok(())
//! # }
//! ```

mod builder;
mod endpoint;
mod member;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use spillway_clusters::{Cluster, Clusters, Server};
use spillway_e2e::app::App;
use spillway_e2e::client::{Answer, Call, Target};
use spillway_e2e::load::{Load, Running};
use spillway_e2e::topology::Service;
use tempfile::TempDir;

pub use self::builder::MeshBuilder;
pub use self::endpoint::Endpoint;
use self::member::Member;
use crate::network::Network;
use crate::pod::Pod;

/// The cluster that policies are declared in.
pub const HUB: &str = "hub";

/// A running mesh; everything ends when this is dropped, or with the sandbox.
pub struct Mesh {
    // In this order they end.
    callers: Vec<Pod>,
    endpoints: Vec<Endpoint>,
    members: Vec<Member>,
    clusters: Clusters,
    service: Service,
    network: Network,
    root_certificate: String,
    /// Pods made so far: their names are never used again.
    started: usize,
    folder: TempDir,
}

impl Mesh {
    /// Begins to describe a mesh.
    #[must_use]
    pub fn builder() -> MeshBuilder {
        MeshBuilder::default()
    }

    /// One of the clusters, or the [`HUB`].
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters.cluster(name)
    }

    /// The clusters of the mesh.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// The control plane of a cluster.
    ///
    /// # Errors
    /// When there is none.
    pub fn istiod(&self, cluster: &str) -> Result<&Server> {
        Ok(&self.member(cluster)?.istiod)
    }

    fn member(&self, cluster: &str) -> Result<&Member> {
        let member = self.members.iter().find(|member| member.name == cluster);
        member.with_context(|| format!("no cluster {cluster} in the mesh"))
    }

    /// The service that all clusters have.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Where everything keeps its files; removed when this is dropped.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A caller.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn caller(&self, name: &str) -> Result<&Pod> {
        let caller = self.callers.iter().find(|caller| caller.name() == name);
        caller.with_context(|| format!("no caller {name}"))
    }

    /// The endpoints in a cluster.
    pub fn endpoints(&self, cluster: &str) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.pod.cluster() == cluster)
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let endpoints = self.endpoints.iter().map(|endpoint| &endpoint.pod);
        self.callers.iter().chain(endpoints)
    }

    /// When requests arrived at a cluster's applications, in order.
    #[must_use]
    pub fn arrivals(&self, cluster: &str) -> Vec<Instant> {
        let apps = self.endpoints(cluster).map(|endpoint| &endpoint.app);
        let mut times: Vec<_> = apps.flat_map(App::arrivals).collect();
        times.sort_unstable();
        times
    }

    /// How many requests arrived at a cluster's applications.
    #[must_use]
    pub fn count(&self, cluster: &str) -> usize {
        self.endpoints(cluster).map(|one| one.app.count()).sum()
    }

    /// Makes every application forget what it has seen.
    pub fn forget(&self) {
        for endpoint in &self.endpoints {
            endpoint.app.forget();
        }
    }

    /// Where a caller finds the service: at the address that its own cluster gave it.
    ///
    /// # Errors
    /// When there is no such caller.
    pub fn target(&self, caller: &str) -> Result<Target> {
        let member = self.member(self.caller(caller)?.cluster())?;
        Ok(Target {
            address: SocketAddr::from((member.service_address, self.service.port)),
            host: self.service.host.clone(),
            http2: false,
        })
    }

    /// Sends one request from a caller to the service.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, caller: &str, call: Call) -> Result<Answer> {
        self.caller(caller)?.call(self.target(caller)?, call).await
    }

    /// Sends one GET from a caller to the service.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, caller: &str, path: &str) -> Result<Answer> {
        self.send(caller, Call::get(path)).await
    }

    /// Starts a load without targets: a caller sends it to the service.
    ///
    /// # Errors
    /// When there is no such caller.
    pub async fn start_load(&self, caller: &str, load: Load) -> Result<Running> {
        let load = load.target(1.0, self.target(caller)?);
        self.caller(caller)?.run(async move { load.start() }).await
    }

    /// The generation of the configuration of each pod in a cluster, 0 without a filter.
    ///
    /// # Errors
    /// When an Envoy does not answer.
    pub async fn generations(&self, cluster: &str) -> Result<Vec<u64>> {
        let mut generations = Vec::new();
        for pod in self.pods().filter(|pod| pod.cluster() == cluster) {
            generations.push(pod.generation().await?.unwrap_or_default());
        }
        Ok(generations)
    }

    /// Waits until every pod in a cluster has the filter with a newer configuration than then: see
    /// [`Mesh::generations`]. Without, with any.
    ///
    /// # Errors
    /// When one never has it; with what it logged.
    pub async fn wait_filters(&self, cluster: &str, then: &[u64]) -> Result<()> {
        let pods = self.pods().filter(|pod| pod.cluster() == cluster);
        let then = then.iter().copied().chain(std::iter::repeat(0));
        for (pod, then) in pods.zip(then) {
            pod.wait_filter(then).await?;
        }
        Ok(())
    }

    async fn wait_endpoints(&self) -> Result<()> {
        let cluster = self.service.outbound_cluster("");
        for caller in &self.callers {
            crate::wait::until(
                &format!("{} knows all endpoints", caller.name()),
                async || {
                    let clusters = caller.admin("/clusters").await?;
                    let known = self.endpoints.iter().filter(|endpoint| {
                        let address = endpoint.pod.address();
                        let line = format!(
                            "{cluster}::{address}:{}::health_flags::healthy",
                            self.service.app_port
                        );
                        clusters.contains(&line)
                    });
                    Ok(known.count() == self.endpoints.len())
                },
            )
            .await?;
        }
        Ok(())
    }
}
