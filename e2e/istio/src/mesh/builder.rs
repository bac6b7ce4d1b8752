//! Describing a mesh, and starting what was described.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use spillway_clusters::Clusters;
use spillway_e2e::app::AppOptions;
use spillway_e2e::folder;
use spillway_e2e::topology::Service;

use super::member::Member;
use super::{HUB, Mesh};
use crate::authority;
use crate::network::Network;

/// Describes a mesh; see the module's example.
#[derive(Clone, Debug, Default)]
pub struct MeshBuilder {
    clusters: Vec<String>,
    endpoints: Vec<String>,
    callers: Vec<(String, String)>,
}

impl MeshBuilder {
    /// Adds a cluster, in a region of its own.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.clusters.push(name.to_owned());
        self
    }

    /// Adds so many endpoints of the service.
    #[must_use]
    pub fn endpoints(mut self, cluster: &str, count: usize) -> Self {
        let endpoints = std::iter::repeat_n(cluster.to_owned(), count);
        self.endpoints.extend(endpoints);
        self
    }

    /// Adds a caller.
    #[must_use]
    pub fn caller(mut self, name: &str, cluster: &str) -> Self {
        self.callers.push((name.to_owned(), cluster.to_owned()));
        self
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
        let names = [HUB]
            .into_iter()
            .chain(self.clusters.iter().map(String::as_str));
        let clusters = Clusters::start(&names.collect::<Vec<_>>()).await?;
        let members = self.clusters.iter().zip(1..).map(async |(name, number)| {
            let others = self.clusters.iter().filter(|other| *other != name);
            let others: Vec<_> = others
                .map(|other| clusters.cluster(other))
                .collect::<Result<_>>()?;
            let cluster = clusters.cluster(name)?;
            let address = network.control_plane(number)?;
            let member = Member::start(
                cluster,
                number,
                address,
                &others,
                &service,
                &authority,
                folder.path(),
            );
            member.await.with_context(|| format!("in {name}"))
        });
        let members = try_join_all(members).await?;
        let mut mesh = Mesh {
            callers: Vec::new(),
            endpoints: Vec::new(),
            members,
            clusters,
            service,
            network,
            root_certificate,
            started: 0,
            folder,
        };
        for cluster in self.endpoints {
            let endpoint = mesh.make_endpoint(&cluster, AppOptions::default()).await?;
            mesh.endpoints.push(endpoint);
        }
        for (name, cluster) in self.callers {
            let caller = mesh.make_pod(&name, &name, &cluster).await?;
            mesh.callers.push(caller);
        }
        try_join_all(mesh.pods().map(crate::pod::Pod::wait_ready)).await?;
        for pod in mesh.pods() {
            mesh.report_ready(pod, true).await?;
        }
        mesh.wait_endpoints().await?;
        Ok(mesh)
    }
}
