//! Clusters with a control plane each, one service in all of them, and its callers.
//!
//! It is what Istio calls multi-primary: each istiod reads its own cluster, and the endpoints of the
//! others. A cluster may do without (primary–remote), and clusters may lie on several networks, with
//! an east–west gateway each. There is a *hub* besides, a cluster without a mesh, for policies.
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
mod gateway;
mod later;
mod member;

use std::collections::{BTreeMap, BTreeSet};
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
use self::gateway::Gateway;
pub use self::gateway::{GATEWAY, HOST};
use self::member::Member;
use crate::network::Network;
use crate::pod::Pod;
use crate::wait;

/// The cluster that policies are declared in.
pub const HUB: &str = "hub";

/// A running mesh; everything ends when this is dropped, or with the sandbox.
pub struct Mesh {
    // In this order they end.
    callers: Vec<Pod>,
    endpoints: Vec<Endpoint>,
    gateways: Vec<Gateway>,
    members: Vec<Member>,
    clusters: Clusters,
    service: Service,
    /// Those of the service, its callers, and the ingress gateways, by cluster.
    namespaces: BTreeSet<(String, String)>,
    network: Network,
    root_certificate: String,
    envoy: String,
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
    /// When it has none of its own.
    pub fn istiod(&self, cluster: &str) -> Result<&Server> {
        let istiod = self.member(cluster)?.istiod.as_ref();
        istiod.with_context(|| format!("{cluster} has no control plane"))
    }

    /// The cluster whose control plane serves this one too; none where it has its own.
    ///
    /// # Errors
    /// When there is no such cluster.
    pub fn primary(&self, cluster: &str) -> Result<Option<&str>> {
        Ok(self.member(cluster)?.primary.as_deref())
    }

    /// The namespaces in a cluster of the service, of its callers, and of the gateways that lead to
    /// it.
    #[must_use]
    pub fn namespaces(&self, cluster: &str) -> Vec<&str> {
        let own = self.namespaces.iter().filter(|(at, _)| at == cluster);
        own.map(|(_, name)| name.as_str()).collect()
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

    /// Every pod with a sidecar, and every ingress gateway.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let callers = self.callers.iter().filter(|it| it.has_proxy());
        let endpoints = self.endpoints.iter().map(|endpoint| &endpoint.pod);
        let ingress = self.gateways.iter().filter(|it| it.is_ingress);
        callers.chain(endpoints).chain(ingress.map(|it| &it.pod))
    }

    /// Every pod with a proxy.
    fn all_pods(&self) -> impl Iterator<Item = &Pod> {
        let crossing = self.gateways.iter().filter(|it| !it.is_ingress);
        self.pods().chain(crossing.map(|it| &it.pod))
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

    /// Waits until every caller and ingress gateway knows the endpoints that are there, and no
    /// others.
    ///
    /// # Errors
    /// When one never does; with what it knows.
    pub async fn wait_endpoints(&self) -> Result<()> {
        let prefix = format!("{}::", self.service.outbound_cluster(""));
        let askers = self.callers.iter().filter(|it| it.has_proxy());
        let ingress = self.gateways.iter().filter(|it| it.is_ingress);
        for pod in askers.chain(ingress.map(|it| &it.pod)) {
            let wanted = self.seen_from(pod)?;
            let known = async || {
                let clusters = pod.admin("/clusters").await?;
                let mut known = BTreeMap::new();
                for line in clusters.lines() {
                    let line = line.strip_prefix(&prefix);
                    let flags = line.and_then(|it| it.split_once("::health_flags::"));
                    if let Some((address, flags)) = flags {
                        known.insert(address.to_owned(), flags == "healthy");
                    }
                }
                Ok::<_, anyhow::Error>(known)
            };
            let all = async || {
                let known = known().await?;
                Ok(known.keys().eq(&wanted) && known.values().all(|healthy| *healthy))
            };
            let waited = wait::until(&format!("{} knows all endpoints", pod.name()), all).await;
            if let Err(error) = waited {
                let known = known().await?;
                return Err(error.context(format!("{known:?} instead of {wanted:?}")));
            }
        }
        Ok(())
    }

    /// The addresses at which a pod finds the endpoints.
    fn seen_from(&self, pod: &Pod) -> Result<BTreeSet<String>> {
        let network = &self.member(pod.cluster())?.network;
        let mut seen = BTreeSet::new();
        for endpoint in &self.endpoints {
            let there = self.member(endpoint.pod.cluster())?;
            seen.insert(if there.network == *network {
                format!("{}:{}", endpoint.pod.address(), self.service.app_port)
            } else {
                format!("{}:{}", Network::gateway(there.number), gateway::CROSSING)
            });
        }
        Ok(seen)
    }
}
