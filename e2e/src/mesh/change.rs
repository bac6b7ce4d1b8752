//! What a control plane does while requests flow: routes, discovery, scale; and what fails.

use anyhow::{Context, Result};

use super::{Endpoint, Mesh};
use crate::topology::{EndpointSpec, Service};

impl Mesh {
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
        self.configure(&endpoint.sidecar).await?;
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
}
