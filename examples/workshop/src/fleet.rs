//! The fleet: two clusters of one mesh on this machine, with real sidecars and without Kubernetes.
//!
//! `primary` is home and has two endpoints, `burst` takes what they have no room for. A policy
//! reaches the sidecars as files that the controller rendered ([`crate::declared`]), while requests
//! go on.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::Serialize;
use spillway_e2e::artefacts;
use spillway_e2e::client::Target;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::Side;
use spillway_e2e::topology::{ProxyOptions, Service};

use crate::declared::Declared;
use crate::settings::Settings;

/// The cluster where requests stay as long as there is room.
const HOME: &str = "primary";
/// The cluster that takes the rest.
const OVERFLOW: &str = "burst";
/// Name of the frontend's workload.
const FRONTEND: &str = "frontend";
/// What marks an answer of the overflow cluster.
pub(crate) const OVERFLOW_PREFIX: &str = "bursty-";

/// A worker with its sidecar.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Endpoint {
    /// Name of the worker.
    pub(crate) name: &'static str,
    /// Whether it is in the overflow cluster.
    pub(crate) burst: bool,
}

/// Every worker, those of a cluster in the order in which the mesh starts them.
pub(crate) const ENDPOINTS: [Endpoint; 3] = [
    Endpoint {
        name: "primary-1",
        burst: false,
    },
    Endpoint {
        name: "primary-2",
        burst: false,
    },
    Endpoint {
        name: "burst-1",
        burst: true,
    },
];

/// Endpoints among which home's limit is divided.
pub(crate) fn home_endpoints() -> u32 {
    ENDPOINTS
        .iter()
        .map(|endpoint| u32::from(!endpoint.burst))
        .sum()
}

/// A running mesh with the workshop's policy; its processes end when this is dropped.
pub(crate) struct Fleet {
    mesh: Mesh,
    declared: Declared,
    generation: u64,
}

impl Fleet {
    /// Starts the mesh and waits until every sidecar has the policy.
    ///
    /// # Errors
    /// When Envoy or the filter is missing, or does not start.
    pub(crate) async fn start(settings: Settings) -> anyhow::Result<Self> {
        let count = |burst| {
            ENDPOINTS
                .iter()
                .filter(|endpoint| endpoint.burst == burst)
                .count()
        };
        let mesh = Mesh::builder()
            .cluster(HOME)
            .cluster(OVERFLOW)
            .service(Service::worker())
            .endpoints(HOME, count(false))
            .endpoints(OVERFLOW, count(true))
            .caller(FRONTEND, HOME)
            .proxies(ProxyOptions {
                access_log: false,
                ..ProxyOptions::default()
            })
            .filter(artefacts::filter()?)
            .start()
            .await?;
        let mut fleet = Self {
            mesh,
            declared: Declared::new()?,
            generation: 0,
        };
        fleet.apply(settings).await?;
        Ok(fleet)
    }

    /// Where each worker is to listen, behind its sidecar. The mesh's own applications make room.
    ///
    /// # Errors
    /// When the mesh has fewer endpoints than there are workers.
    pub(crate) async fn places(&mut self) -> anyhow::Result<Vec<(Endpoint, SocketAddr)>> {
        let mut places = Vec::new();
        for cluster in [HOME, OVERFLOW] {
            let mut workers = ENDPOINTS
                .iter()
                .filter(|worker| worker.burst == (cluster == OVERFLOW));
            for endpoint in self.mesh.endpoints_mut(cluster) {
                endpoint.app.stop().await;
                let worker = workers
                    .next()
                    .context("the mesh has more endpoints than workers")?;
                places.push((*worker, endpoint.app.address()));
            }
        }
        Ok(places)
    }

    /// Where the frontend sends its requests.
    ///
    /// # Errors
    /// When the frontend has no sidecar.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        self.mesh.target(FRONTEND)
    }

    /// Number of the plugin configuration that is in force.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Brings the policy into force, and waits until every sidecar has it.
    ///
    /// # Errors
    /// When a sidecar does not take it in time.
    pub(crate) async fn apply(&mut self, settings: Settings) -> anyhow::Result<()> {
        let rendered = self.declared.render(settings)?;
        self.mesh.follow(&rendered, HOME).await?;
        self.generation = rendered.generation(HOME, Side::Client)?;
        Ok(())
    }
}
