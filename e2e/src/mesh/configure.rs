//! What each sidecar gets: its identity, its folder, and every file that Envoy reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Endpoint, Mesh};
use crate::address;
use crate::app::App;
use crate::bootstrap::{Identity, Resources};
use crate::clusters;
use crate::listeners;
use crate::policy::Side;
use crate::routes;
use crate::sidecar::Sidecar;
use crate::topology::{CallerSpec, EndpointSpec, ProxyOptions};

impl Mesh {
    pub(super) fn announce_address(&mut self, endpoint: &Endpoint) {
        self.topology.endpoints.push(endpoint.announced());
    }

    fn sides(&self, options: &ProxyOptions, sides: &[Side]) -> Vec<Side> {
        let filter = self.code.is_some() && options.filter;
        sides.iter().copied().filter(|_| filter).collect()
    }

    pub(super) async fn make_endpoint(&mut self, spec: EndpointSpec) -> Result<Endpoint> {
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
        let context = listeners::Context {
            folder: &folder,
            address,
            filter: !sides.is_empty(),
            access_log: options.access_log,
        };
        let mut resources = Resources {
            listeners: vec![listeners::inbound(&context, &service)],
            clusters: vec![clusters::inbound(&service, real)],
            outbound: spec.calls,
        };
        if spec.calls {
            resources
                .listeners
                .extend(self.outbound_listeners(&context));
        }
        let sidecar = Sidecar::prepare(identity, options, sides, &resources, folder)?;
        Ok(Endpoint {
            sidecar,
            app,
            host: service.host,
            app_port: service.app_port,
        })
    }

    pub(super) fn make_caller(&mut self, spec: CallerSpec) -> Result<Sidecar> {
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
        let context = listeners::Context {
            folder: &folder,
            address: identity.address,
            filter: !sides.is_empty(),
            access_log: options.access_log,
        };
        let resources = Resources {
            listeners: self.outbound_listeners(&context),
            clusters: Vec::new(),
            outbound: true,
        };
        Sidecar::prepare(identity, options, sides, &resources, folder)
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

    fn outbound_listeners(&self, context: &listeners::Context<'_>) -> Vec<Value> {
        self.ports()
            .into_iter()
            .map(|port| listeners::outbound(context, port))
            .collect()
    }

    pub(super) async fn configure_all(&self) -> Result<()> {
        for sidecar in self.sidecars() {
            self.configure(sidecar).await?;
        }
        Ok(())
    }

    /// Writes what a sidecar should have, and waits where something changed: clusters and their
    /// endpoints before routes, so that no route names what is not there.
    pub(super) async fn configure(&self, sidecar: &Sidecar) -> Result<()> {
        self.write_first_plugins(sidecar).await?;
        if !sidecar.is_outbound() {
            return Ok(());
        }
        let mut pending = Vec::new();
        let mut resources = Vec::new();
        let folder = sidecar.options().eds.then_some(sidecar.folder());
        for cluster in clusters::outbound(&self.topology, sidecar.cluster(), folder) {
            if let Some((file, assignment)) = cluster.eds {
                let counter = format!("cluster.{}.update_success", cluster.name);
                pending.extend(sidecar.replace(&file, &[assignment], &counter).await?);
            }
            resources.push(cluster.cluster);
        }
        sidecar
            .push("cds.json", &resources, "cluster_manager.cds.update_success")
            .await?;
        // A cluster that is new reads its endpoints only now.
        for update in pending {
            sidecar.wait_update(&update).await?;
        }
        sidecar
            .wait_warm("cluster_manager.warming_clusters")
            .await?;
        self.configure_routes(sidecar).await
    }

    pub(super) async fn configure_routes(&self, sidecar: &Sidecar) -> Result<()> {
        if !sidecar.is_outbound() {
            return Ok(());
        }
        for port in self.ports() {
            let counter = format!("http.outbound_0.0.0.0_{port}.rds.{port}.config_reload");
            let routes = routes::route_configuration(&self.topology, port);
            sidecar
                .push(&listeners::route_file(port), &[routes], &counter)
                .await?;
        }
        Ok(())
    }
}
