//! Describing a mesh, and starting what was described.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::Mesh;
use crate::address::Block;
use crate::folder;
use crate::policy::Policies;
use crate::topology::{CallerSpec, Cluster, EndpointSpec, ProxyOptions, Service, Topology};

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
        let folder = folder::create("spillway-mesh")?;
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
