//! The life of one cluster: connect, claim, watch, write.
//!
//! Every cluster is a task of its own that waits for nobody. It ends with its MeshCluster, and
//! begins anew when that or its Secret changes; it connects anew when its credentials are not
//! accepted any more, since the Secret may hold others by then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::Access;
use spillway_plan::ControlPlane;
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::authority::Authority;
use super::options::Options;
use super::report::{ClusterReport, Problem, Reports};
use super::worker::{Orders, Site, Worker};
use crate::clusters::call::{Failure, find};
use crate::clusters::claim::Claim;
use crate::clusters::count::Calls;
use crate::clusters::identity::{self, Identity};
use crate::clusters::{client, kubeconfig};
use crate::image::Availability;
use crate::metrics::{Metrics, Peer};
use crate::observe::index::Index;
use crate::observe::member::Observer;

/// The key of a Secret that holds the kubeconfig. Istio's remote secrets have the cluster's name.
const KUBECONFIG: &str = "kubeconfig";

/// What all members share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) hub: Client,
    /// The hub's identity.
    pub(crate) hub_uid: String,
    pub(crate) options: Options,
    pub(crate) reports: Arc<Reports>,
    /// The names of the hub's MeshClusters.
    pub(crate) attached: watch::Receiver<BTreeSet<String>>,
    pub(crate) interest: watch::Receiver<BTreeSet<String>>,
    /// Whether the filter's image can be had.
    pub(crate) image: watch::Receiver<Availability>,
    pub(crate) metrics: Arc<Metrics>,
    /// Passes of workers that are under way.
    pub(crate) under_way: TaskTracker,
}

/// A MeshCluster as it was when its member began: another one is another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) uid: Option<String>,
    pub(crate) generation: Option<i64>,
    /// The resource version of its Secret.
    pub(crate) secret: Option<String>,
}

/// A cluster, as the planning loop holds it.
pub(crate) struct Member {
    pub(crate) origin: Origin,
    pub(crate) index: Arc<Index>,
    orders: watch::Sender<Option<Orders>>,
    _life: AbortOnDropHandle<()>,
}

impl Member {
    pub(crate) fn begin(
        resource: Arc<MeshCluster>,
        origin: Origin,
        index: Index,
        surroundings: Surroundings,
    ) -> Self {
        let index = Arc::new(index);
        let (orders, received) = watch::channel(None);
        let life = Life {
            name: resource.metadata.name.clone().unwrap_or_default(),
            resource,
            index: index.clone(),
            orders: received,
            shared: surroundings,
        };
        Self {
            origin,
            index,
            orders,
            _life: AbortOnDropHandle::new(tokio::spawn(life.run())),
        }
    }

    /// Gives orders, unless they are the same as before. Returns the number of the newest. `since`
    /// is when the change was seen that they follow; what the cluster does not have yet is older.
    pub(crate) fn order(
        &self,
        wanted: Arc<ControlPlane>,
        before: &ClusterReport,
        since: Instant,
        authority: &Authority,
    ) -> u64 {
        let mut sequence = before.ordered.saturating_add(1);
        let is_behind = before.applied != before.ordered;
        self.orders.send_if_modified(|orders| match orders {
            Some(orders) if orders.wanted == wanted && orders.authority.holds() => {
                // Equal, and the plan has it besides.
                orders.wanted = wanted;
                sequence = orders.sequence;
                false
            }
            orders => {
                let older = orders.as_ref().filter(|_| is_behind);
                let since = older.map_or(since, |orders| orders.since.min(since));
                *orders = Some(Orders {
                    since,
                    wanted,
                    sequence,
                    authority: authority.clone(),
                });
                true
            }
        });
        sequence
    }

    /// Nothing is to be written.
    pub(crate) fn withdraw(&self) {
        self.orders
            .send_if_modified(|orders| orders.take().is_some());
    }

    pub(crate) fn has_orders(&self) -> bool {
        self.orders.borrow().is_some()
    }
}

struct Life {
    name: String,
    resource: Arc<MeshCluster>,
    index: Arc<Index>,
    orders: watch::Receiver<Option<Orders>>,
    shared: Surroundings,
}

impl Life {
    async fn run(mut self) {
        let mut backoff = self.shared.options.backoff.clone();
        loop {
            let problem = match self.connect().await {
                Ok((client, identity)) => {
                    let too_old = identity.too_old();
                    self.identified(identity);
                    let claim = match too_old {
                        None => self.claim(client.clone()).await,
                        Some(message) => Err(Problem {
                            reason: "KubernetesTooOld",
                            message,
                        }),
                    };
                    match claim {
                        Ok(claim) => {
                            self.report(None);
                            tracing::info!(cluster = self.name, "a cluster is connected");
                            backoff.succeed();
                            self.live(client, claim).await
                        }
                        Err(problem) => problem,
                    }
                }
                Err(problem) => problem,
            };
            let pause = backoff.after_failure();
            tracing::warn!(cluster = self.name, error = problem.message, retry = ?pause, "a cluster is not connected");
            self.report(Some(problem));
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<(Client, Identity), Problem> {
        let client = match self.resource.spec.access {
            Access::Hub => self.shared.hub.clone(),
            Access::Attached | Access::Discovered => self.attach().await?,
        };
        let identity = identity::identity(&client, self.shared.options.deadline).await;
        let identity = identity.map_err(|failure| unreachable(&failure))?;
        Ok((client, identity))
    }

    async fn attach(&self) -> Result<Client, Problem> {
        let missing = |message: String| Problem {
            reason: "NoKubeconfig",
            message,
        };
        let reference = self.resource.spec.secret_ref.as_ref();
        let reference = reference.ok_or_else(|| missing("it names no Secret".to_owned()))?;
        let place = format!("{}/{}", reference.namespace, reference.name);
        let secrets: Api<Secret> = Api::namespaced(self.shared.hub.clone(), &reference.namespace);
        let deadline = self.shared.options.deadline;
        let found = find(deadline, secrets.get(&reference.name)).await;
        let found = found.map_err(|failure| missing(format!("the Secret {place}: {failure}")))?;
        let secret = found.ok_or_else(|| missing(format!("there is no Secret {place}")))?;
        let data = secret.data.unwrap_or_default();
        let istio = self
            .resource
            .spec
            .cluster_name
            .as_ref()
            .unwrap_or(&self.name);
        let text = data.get(KUBECONFIG).or_else(|| data.get(istio)).ok_or_else(|| {
            missing(format!(
                "the Secret {place} has neither the key {KUBECONFIG} nor {istio}: write the kubeconfig there"
            ))
        })?;
        let unusable = |message: String| Problem {
            reason: "KubeconfigUnusable",
            message,
        };
        let config = kubeconfig::config(&text.0, self.shared.options.allow_exec).await;
        let config = config.map_err(|problem| unusable(problem.to_string()))?;
        // The library's words could quote the credentials.
        let calls = Calls::new(&self.shared.metrics, Peer::Member);
        client::shared(&config, calls).map_err(|_| {
            unusable("its certificates or keys cannot be used: write PEM in base64".to_owned())
        })
    }

    /// One that is only read is not claimed.
    async fn claim(&self, client: Client) -> Result<Option<Claim>, Problem> {
        if self.resource.spec.access == Access::Discovered {
            return Ok(None);
        }
        let claim = Claim::take(
            client,
            &self.shared.options.system_namespace,
            &self.shared.hub_uid,
            &self.name,
            self.shared.attached.clone(),
            self.shared.options.deadline,
        );
        claim.await.map(Some).map_err(|error| Problem {
            reason: error.reason(),
            message: error.to_string(),
        })
    }

    /// Watches and writes until the credentials are not accepted any more.
    async fn live(&mut self, client: Client, claim: Option<Claim>) -> Problem {
        let mut observer = Observer::new(
            client.clone(),
            self.index.clone(),
            self.shared.options.deadline,
            self.shared.options.backoff.clone(),
        );
        // Without a claim nothing was noted, and nothing will be.
        let (_nothing, empty) = watch::channel(BTreeSet::new());
        let mut notes = claim.as_ref().map_or(empty, Claim::notes);
        let _worker = claim.map(|claim| self.worker(client.clone(), claim));
        let mut interest = self.shared.interest.clone();
        let mut health = self.index.ours();
        loop {
            let mut namespaces = interest.borrow_and_update().clone();
            namespaces.extend(notes.borrow_and_update().clone());
            observer.look_into(&namespaces);
            health.borrow_and_update();
            let probe = match self.index.failure() {
                None => {
                    self.seen(None);
                    None
                }
                Some(Failure::Credentials) => return unreachable(&Failure::Credentials),
                Some(failure) => {
                    self.seen(Some(unreachable(&failure)));
                    Some(identity::identity(&client, self.shared.options.deadline))
                }
            };
            tokio::select! {
                _ = interest.changed() => {}
                _ = notes.changed() => {}
                _ = health.changed() => {}
                () = self.recover(probe) => {}
            }
        }
    }

    fn worker(&self, client: Client, claim: Claim) -> AbortOnDropHandle<()> {
        let site = Site {
            cluster: self.name.clone(),
            client,
            index: self.index.clone(),
            claim,
            reports: self.shared.reports.clone(),
            options: self.shared.options.clone(),
            image: self.shared.image.clone(),
            metrics: self.shared.metrics.clone(),
            under_way: self.shared.under_way.clone(),
        };
        AbortOnDropHandle::new(tokio::spawn(Worker::new(site).run(self.orders.clone())))
    }

    /// A watch that goes on where it was is silent; so the API server is asked until it answers.
    async fn recover<F>(&self, probe: Option<F>)
    where
        F: Future<Output = Result<Identity, Failure>>,
    {
        let Some(probe) = probe else {
            return std::future::pending().await;
        };
        tokio::time::sleep(self.shared.options.settle).await;
        if probe.await.is_ok() {
            self.index.recovered();
        } else {
            tokio::time::sleep(self.shared.options.deadline).await;
        }
    }

    fn seen(&self, unseen: Option<Problem>) {
        self.shared.reports.update(&self.name, |report| {
            if unseen.is_none() {
                report.last_seen = Some(SystemTime::now());
            }
            report.unseen = unseen;
        });
    }

    /// What was the matter may still be: whether it may be written to is to be found out.
    fn identified(&self, identity: Identity) {
        self.shared
            .reports
            .update(&self.name, |report| report.identity = Some(identity));
    }

    fn report(&self, problem: Option<Problem>) {
        self.shared
            .reports
            .update(&self.name, |report| report.problem = problem);
    }
}

fn unreachable(failure: &Failure) -> Problem {
    Problem {
        reason: failure.reason(),
        message: failure.to_string(),
    }
}
