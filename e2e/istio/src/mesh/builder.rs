//! Describing a mesh, and starting what was described.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use spillway_clusters::Clusters;
use spillway_e2e::app::AppOptions;
use spillway_e2e::artefacts::default_envoy;
use spillway_e2e::folder;
use spillway_e2e::topology::Service;

use super::member::{Joining, Member, Setting};
use super::{HUB, Mesh, gateway};
use crate::authority;
use crate::network::Network;
use crate::pod::{Pod, Proxy};

/// A cluster as it was described.
#[derive(Clone, Debug)]
pub(super) struct ClusterSpec {
    pub(super) name: String,
    pub(super) network: Option<String>,
    /// The cluster whose control plane serves this one too.
    pub(super) primary: Option<String>,
}

/// A caller as it was described.
#[derive(Clone, Debug)]
struct CallerSpec {
    name: String,
    cluster: String,
    namespace: Option<String>,
    proxy: Proxy,
}

/// Describes a mesh; see the module's example.
#[derive(Clone, Debug, Default)]
pub struct MeshBuilder {
    clusters: Vec<ClusterSpec>,
    endpoints: Vec<String>,
    callers: Vec<CallerSpec>,
    several_networks: bool,
    ingress: Vec<String>,
    joining: Joining,
    envoy: Option<String>,
}

impl MeshBuilder {
    /// Adds a cluster, in a region of its own.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.clusters.push(ClusterSpec {
            name: name.to_owned(),
            network: None,
            primary: None,
        });
        self
    }

    /// Lets the cluster that was added last lie on this network. Pods of other networks reach it by
    /// its east–west gateway only.
    #[must_use]
    pub fn network(mut self, network: &str) -> Self {
        if let Some(cluster) = self.clusters.last_mut() {
            cluster.network = Some(network.to_owned());
        }
        self.several_networks = true;
        self
    }

    /// Lets the cluster that was added last have no control plane of its own, but this one's.
    #[must_use]
    pub fn remote_of(mut self, primary: &str) -> Self {
        if let Some(cluster) = self.clusters.last_mut() {
            cluster.primary = Some(primary.to_owned());
        }
        self
    }

    /// Lets control planes learn of other clusters by what `istioctl create-remote-secret` writes,
    /// with the account that it makes there. Otherwise by a Secret of the same form, which takes
    /// less time.
    #[must_use]
    pub fn joined_by_istioctl(mut self) -> Self {
        self.joining = Joining::Istioctl;
        self
    }

    /// Adds so many endpoints of the service.
    #[must_use]
    pub fn endpoints(mut self, cluster: &str, count: usize) -> Self {
        let endpoints = std::iter::repeat_n(cluster.to_owned(), count);
        self.endpoints.extend(endpoints);
        self
    }

    /// Adds a caller, in the namespace of the service.
    #[must_use]
    pub fn caller(self, name: &str, cluster: &str) -> Self {
        self.add_caller(name, cluster, None, Proxy::Sidecar)
    }

    /// Adds a caller in a namespace of its own.
    #[must_use]
    pub fn caller_in(self, namespace: &str, name: &str, cluster: &str) -> Self {
        self.add_caller(name, cluster, Some(namespace.to_owned()), Proxy::Sidecar)
    }

    /// Adds a caller without a sidecar.
    #[must_use]
    pub fn stranger(self, name: &str, cluster: &str) -> Self {
        self.add_caller(name, cluster, None, Proxy::None)
    }

    fn add_caller(
        mut self,
        name: &str,
        cluster: &str,
        namespace: Option<String>,
        proxy: Proxy,
    ) -> Self {
        let (name, cluster) = (name.to_owned(), cluster.to_owned());
        self.callers.push(CallerSpec {
            name,
            cluster,
            namespace,
            proxy,
        });
        self
    }

    /// Adds an ingress gateway for [`super::HOST`].
    #[must_use]
    pub fn ingress(mut self, cluster: &str) -> Self {
        self.ingress.push(cluster.to_owned());
        self
    }

    /// Sets the version of Envoy in every pod.
    #[must_use]
    pub fn envoy(mut self, version: &str) -> Self {
        self.envoy = Some(version.to_owned());
        self
    }

    /// The namespaces of each cluster: that of the service, and those of callers and gateways where
    /// these are. A primary has those of its remotes, since it reads its own objects only.
    fn namespaces(&self, own: &str) -> BTreeSet<(String, String)> {
        let callers = self.callers.iter();
        let callers =
            callers.filter_map(|it| Some((it.cluster.as_str(), it.namespace.as_deref()?)));
        let ingress = self.ingress.iter();
        let ingress = ingress.map(|cluster| (cluster.as_str(), gateway::NAMESPACE));
        let placed: Vec<(&str, &str)> = callers.chain(ingress).collect();
        let mut namespaces = BTreeSet::new();
        for spec in &self.clusters {
            namespaces.insert((spec.name.clone(), own.to_owned()));
            for (cluster, namespace) in &placed {
                let primary = spec.primary.as_ref().filter(|_| spec.name == *cluster);
                let places = [Some(&spec.name).filter(|it| it == cluster), primary];
                let places = places.into_iter().flatten().cloned();
                namespaces.extend(places.map(|place| (place, (*namespace).to_owned())));
            }
        }
        namespaces
    }

    /// Starts everything, and waits until every sidecar is ready and knows all endpoints.
    ///
    /// # Errors
    /// When something named does not exist, or does not start; with the end of its log.
    pub async fn start(self) -> Result<Mesh> {
        let folder = folder::create("spillway-mesh")?;
        let network = Network::start()?;
        let authority = folder.path().join("authority");
        let root_certificate = authority::write(&authority)?;
        let service = Service::worker();
        let namespaces = self.namespaces(&service.namespace);
        let names = [HUB]
            .into_iter()
            .chain(self.clusters.iter().map(|it| it.name.as_str()));
        let clusters = Clusters::start(&names.collect::<Vec<_>>()).await?;
        let setting = Setting {
            clusters: &clusters,
            all: &self.clusters,
            service: &service,
            namespaces: &namespaces,
            joining: self.joining,
            authority: &authority,
            folder: folder.path(),
        };
        let prepared = self.clusters.iter().map(|it| setting.prepare(it));
        let prepared = try_join_all(prepared).await?;
        let members = self.clusters.iter().zip(prepared).zip(1..);
        let members = members.map(async |((spec, controllers), number)| {
            network.add_control_plane(number)?;
            let member = Member::start(&setting, spec, controllers, number);
            member.await.with_context(|| format!("in {}", spec.name))
        });
        let members = try_join_all(members).await?;
        let mut mesh = Mesh {
            callers: Vec::new(),
            endpoints: Vec::new(),
            gateways: Vec::new(),
            members,
            clusters,
            service,
            namespaces,
            network,
            root_certificate,
            envoy: self.envoy.unwrap_or_else(default_envoy),
            started: 0,
            folder,
        };
        if self.several_networks {
            for cluster in &self.clusters {
                mesh.start_east_west(&cluster.name).await?;
            }
        }
        for cluster in &self.ingress {
            mesh.start_ingress(cluster).await?;
        }
        for cluster in self.endpoints {
            let endpoint = mesh.make_endpoint(&cluster, AppOptions::default()).await?;
            mesh.endpoints.push(endpoint);
        }
        for caller in self.callers {
            let namespace = caller.namespace.as_deref();
            let pod = mesh.make_caller(&caller.name, &caller.cluster, namespace, caller.proxy);
            let pod = pod.await?;
            mesh.callers.push(pod);
        }
        try_join_all(mesh.all_pods().map(Pod::wait_ready)).await?;
        for pod in mesh.all_pods() {
            mesh.report_ready(pod, true).await?;
        }
        mesh.wait_endpoints().await?;
        Ok(mesh)
    }
}
