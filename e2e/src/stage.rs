//! What a scenario needs of a mesh, whoever configures its proxies.
//!
//! The same scenarios ([`crate::scenarios`]) are played on the file-driven mesh, where every byte of
//! the configuration is at hand, and on the real Istio, where it comes the whole way from a policy
//! on the hub. What differs is how a policy comes into force, and how a cluster is lost.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::app::{App, Served};
use crate::client::{Answer, Call};
use crate::load::{Load, Running};
use crate::mesh::Mesh;
use crate::policy::Policies;

/// Longer than any scenario waits for requests.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A mesh with a service in clusters `primary` and `burst`, whose answers are tagged with the
/// cluster's name and a hyphen, and callers `shop` and `desk`.
pub trait Stage {
    /// Gives every proxy these policies, and waits until they are in force.
    ///
    /// # Errors
    /// When they are not in time.
    fn enforce(&mut self, policies: &Policies) -> impl Future<Output = Result<()>>;

    /// Sends one request from a caller to the service, over a connection of its own.
    ///
    /// # Errors
    /// When there is no answer.
    fn send(&self, caller: &str, call: Call) -> impl Future<Output = Result<Answer>>;

    /// Starts a load without targets: a caller sends it to the service.
    ///
    /// # Errors
    /// When there is no such caller.
    fn start(&self, caller: &str, load: Load) -> impl Future<Output = Result<Running>>;

    /// The applications of a cluster.
    fn apps(&self, cluster: &str) -> Vec<&App>;

    /// Makes every application forget what it has seen.
    fn forget(&self);

    /// Ends every endpoint of a cluster without a word to the callers.
    ///
    /// # Errors
    /// When it cannot be done.
    fn lose(&mut self, cluster: &str) -> impl Future<Output = Result<()>>;

    /// Lets a cluster that was lost have an endpoint again.
    ///
    /// # Errors
    /// When it does not start.
    fn regain(&mut self, cluster: &str) -> impl Future<Output = Result<()>>;

    /// When requests arrived at a cluster's applications, in order.
    fn arrivals(&self, cluster: &str) -> Vec<Instant> {
        let mut times: Vec<_> = self
            .apps(cluster)
            .into_iter()
            .flat_map(App::arrivals)
            .collect();
        times.sort_unstable();
        times
    }

    /// How many requests arrived at a cluster's applications.
    fn count(&self, cluster: &str) -> usize {
        self.apps(cluster).into_iter().map(App::count).sum()
    }

    /// What a cluster's applications served.
    fn served(&self, cluster: &str) -> Vec<Served> {
        self.apps(cluster)
            .into_iter()
            .flat_map(App::served)
            .collect()
    }

    /// Waits until so many more requests arrived at a cluster's applications.
    ///
    /// # Errors
    /// When they do not.
    fn wait_for_more(&self, cluster: &str, requests: usize) -> impl Future<Output = Result<()>> {
        async move {
            let (began, before) = (Instant::now(), self.count(cluster));
            while self.count(cluster) < before + requests {
                ensure!(
                    began.elapsed() < PATIENCE,
                    "{} of {requests} requests at {cluster}",
                    self.count(cluster) - before
                );
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        }
    }
}

impl Stage for Mesh {
    async fn enforce(&mut self, policies: &Policies) -> Result<()> {
        let generation = self.apply(policies).await?;
        self.wait_generation(generation).await
    }

    async fn send(&self, caller: &str, call: Call) -> Result<Answer> {
        self.client(caller)?.call(&call).await
    }

    async fn start(&self, caller: &str, load: Load) -> Result<Running> {
        load.target(1.0, self.target(caller)?).start()
    }

    fn apps(&self, cluster: &str) -> Vec<&App> {
        self.endpoints(cluster)
            .map(|endpoint| &endpoint.app)
            .collect()
    }

    fn forget(&self) {
        Self::forget(self);
    }

    async fn lose(&mut self, cluster: &str) -> Result<()> {
        self.kill_cluster(cluster).await;
        Ok(())
    }

    async fn regain(&mut self, cluster: &str) -> Result<()> {
        self.restart_cluster(cluster).await
    }
}
