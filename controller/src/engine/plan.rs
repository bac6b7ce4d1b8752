//! The one loop that plans.
//!
//! Whatever changes, it makes the whole plan anew: there is one way from what is declared and seen
//! to what is wanted, and no memory in which the two could differ. Changes are gathered first, so
//! that a hundred of them within a second are one plan.
//!
//! Without office ([`Authority`]) it does all of this but give orders, so that a new leader has
//! its connections and its view of the clusters already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use spillway_api::BurstPolicy;
use spillway_plan::{Input, Mesh, Unreadable};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::authority::Authority;
use super::finalizer::{self, Ending};
use super::members::Members;
use super::options::Options;
use super::report::{Reports, Snapshot};
use crate::clusters::call::Failure;
use crate::image::Availability;
use crate::lead::Candidate;
use crate::metrics::Metrics;
use crate::observe::hub::Hub;
use crate::observe::interest;
use crate::observe::read::Unread;
use crate::serve::Pulse;

/// Finalizers are written so many at a time.
const AT_ONCE: usize = 16;
/// While policies are being deleted, clusters that stay away are looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// What an engine is given besides the hub.
pub struct Inputs {
    /// The mesh's settings. Nothing is planned before they are there.
    pub mesh: watch::Receiver<Option<Mesh>>,
    /// Whether the filter's image can be had.
    pub image: watch::Receiver<Availability>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Plans, and gives orders to the clusters.
pub struct Engine {
    hub: Client,
    options: Options,
    reports: Arc<Reports>,
    mesh: watch::Receiver<Option<Mesh>>,
    metrics: Arc<Metrics>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    changed: watch::Sender<u64>,
    endpoints: watch::Sender<u64>,
    /// When the first change was seen that no plan has taken up yet.
    first: Arc<Mutex<Option<Instant>>>,
    members: Members,
    ending: Ending,
}

impl Engine {
    /// An engine for the hub of this identity.
    #[must_use]
    pub fn new(hub: Client, hub_uid: &str, options: Options, inputs: Inputs) -> Self {
        let (changed, endpoints) = (watch::Sender::new(0), watch::Sender::new(0));
        let reports = Arc::<Reports>::default();
        let tell = (changed.clone(), endpoints.clone());
        let members = Members::new(&hub, hub_uid, &options, reports.clone(), &inputs, tell);
        Self {
            hub,
            options,
            reports,
            mesh: inputs.mesh,
            metrics: inputs.metrics,
            first: Arc::default(),
            snapshot: watch::Sender::new(Arc::default()),
            changed,
            endpoints,
            members,
            ending: Ending::default(),
        }
    }

    /// How far the clusters are.
    #[must_use]
    pub fn reports(&self) -> Arc<Reports> {
        self.reports.clone()
    }

    /// What was planned last.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// Works until `end`, and returns when nothing is written any more. With a candidate it gives
    /// orders while that leads, without one always.
    pub async fn run(
        mut self,
        mut candidate: Option<Candidate>,
        pulse: Pulse,
        end: CancellationToken,
    ) {
        let mut office = candidate.is_none().then_some(Authority::Alone);
        let _forwards = self.forwards();
        let mut changed = self.changed.subscribe();
        let mut reported = self.reports.changed();
        let mut hub = self.watch_hub();
        loop {
            pulse.beat(Instant::now());
            tokio::select! {
                () = end.cancelled() => return self.members.end().await,
                () = pulse.rest() => {}
                Some(lease) = elected(&mut candidate, office.is_none()) => {
                    tracing::info!("this process leads");
                    office = Some(Authority::Elected(lease));
                    // What was seen before is older than the office.
                    hub = self.watch_hub();
                }
                () = lost(&mut office) => {
                    tracing::warn!("this process does not lead any more");
                    office = None;
                    self.members.withdraw();
                }
                _ = changed.changed() => {
                    self.gather(&mut changed).await;
                    self.reconcile(&hub, office.as_ref(), &pulse).await;
                }
                _ = reported.changed(), if !self.ending.is_empty() => {
                    self.finalize(&hub, office.as_ref(), &pulse).await;
                }
                () = tokio::time::sleep(LOOK), if !self.ending.is_empty() => {
                    self.finalize(&hub, office.as_ref(), &pulse).await;
                }
            }
        }
    }

    fn watch_hub(&self) -> Hub {
        let Options {
            system_namespace,
            backoff,
            ..
        } = &self.options;
        Hub::watch(&self.hub, system_namespace, backoff, &self.changed)
    }

    /// Endpoints change all the time, the mesh's settings hardly ever: both make a plan. And the
    /// time of the first change is noted.
    fn forwards(&self) -> [AbortOnDropHandle<()>; 3] {
        let forward = |mut from: watch::Receiver<u64>, to: watch::Sender<u64>, pause: Duration| async move {
            while from.changed().await.is_ok() {
                to.send_modify(|count| *count = count.wrapping_add(1));
                tokio::time::sleep(pause).await;
            }
        };
        let endpoints = self.endpoints.subscribe();
        let pause = self.options.endpoints;
        let endpoints = forward(endpoints, self.changed.clone(), pause);
        let (mut mesh, changed) = (self.mesh.clone(), self.changed.clone());
        let mesh = async move {
            while mesh.changed().await.is_ok() {
                changed.send_modify(|count| *count = count.wrapping_add(1));
            }
        };
        // Also while a plan is being made.
        let (mut seen, first) = (self.changed.subscribe(), self.first.clone());
        let stamp = async move {
            while seen.changed().await.is_ok() {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(Instant::now);
            }
        };
        [
            AbortOnDropHandle::new(tokio::spawn(endpoints)),
            AbortOnDropHandle::new(tokio::spawn(mesh)),
            AbortOnDropHandle::new(tokio::spawn(stamp)),
        ]
    }

    fn first_change(&self) -> MutexGuard<'_, Option<Instant>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is quiet, but not for ever. Most changes come alone and need not wait long;
    /// who makes two in a row is likely to make a hundred.
    async fn gather(&self, changed: &mut watch::Receiver<u64>) {
        let Options {
            alone,
            quiet,
            gather,
            ..
        } = self.options;
        let mut pause = alone;
        let last = tokio::time::Instant::now() + gather;
        while tokio::time::Instant::now() + pause <= last {
            match tokio::time::timeout(pause, changed.changed()).await {
                Ok(Ok(())) => pause = quiet,
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    async fn reconcile(&mut self, hub: &Hub, office: Option<&Authority>, pulse: &Pulse) {
        if !hub.is_complete() {
            return;
        }
        let since = self.first_change().take().unwrap_or_else(Instant::now);
        let clusters = hub.clusters();
        let policies = hub.policies();
        let unread = hub.unreadable();
        let metas = metas(&policies, &unread);
        self.members.muster(hub, &unread.clusters);
        // Also those of policies that go: their objects are still there.
        let namespaces = interest::namespaces(policies.iter().map(AsRef::as_ref));
        self.members.look_into(namespaces);
        let Some(mesh) = self.mesh.borrow().clone() else {
            return;
        };
        let fleets = hub.fleets();
        let tokens = Some(mesh.tokens.clone());
        let input = Input {
            clusters: self.members.seen(&clusters, &unread.clusters, &mesh),
            fleets: fleets.clone(),
            policies: policies
                .iter()
                .filter(|policy| finalizer::is_live(policy))
                .cloned()
                .collect(),
            unreadable: Unreadable {
                policies: unread
                    .policies
                    .iter()
                    .filter(|policy| !policy.is_ending())
                    .map(|policy| policy.key())
                    .collect(),
                fleets: unread.fleets.iter().map(|fleet| fleet.key()).collect(),
            },
            mesh,
        };
        // A plan for a thousand clusters takes a while; the other tasks go on meanwhile.
        let planning = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            (spillway_plan::plan(&input), began.elapsed())
        });
        let Ok((plan, took)) = planning.await else {
            tracing::error!("the planner failed");
            return;
        };
        self.metrics.planned(took);
        if let Some(office) = office {
            self.members.order(&plan, since, office);
            self.ending.ordered_without(&metas, Instant::now());
        }
        self.snapshot.send_modify(|snapshot| {
            *snapshot = Arc::new(Snapshot {
                sequence: snapshot.sequence.saturating_add(1),
                office: office.cloned(),
                tokens,
                plan: Arc::new(plan),
                policies,
                fleets,
                clusters,
                unread,
            });
        });
        self.finalize(hub, office, pulse).await;
    }

    /// Puts finalizers on new policies, and takes them off those that are cleaned up.
    async fn finalize(&self, hub: &Hub, office: Option<&Authority>, pulse: &Pulse) {
        let Some(office) = office.filter(|office| office.holds()) else {
            return;
        };
        let now = Instant::now();
        let mut clusters = hub.clusters();
        let unread = hub.unreadable();
        clusters.extend(unread.clusters.iter().map(|it| Arc::new(it.cluster())));
        let (client, options) = (&self.hub, &self.options);
        let is_clean = |policy: &ObjectMeta| {
            let waited = self.ending.waited(policy, now);
            let name = format!(
                "{}/{}",
                policy.namespace.as_deref().unwrap_or_default(),
                policy.name.as_deref().unwrap_or_default()
            );
            waited.is_some_and(|waited| {
                waited >= options.abandon_after || self.members.have_all(&name, &clusters)
            })
        };
        let writes = metas(&hub.policies(), &unread)
            .into_iter()
            .filter_map(|policy| {
                let is_ending = policy.deletion_timestamp.is_some();
                let adds = !is_ending && !finalizer::has(&policy);
                let removes = is_ending && finalizer::has(&policy) && is_clean(&policy);
                (adds || removes).then_some((policy, adds))
            });
        let writes = futures_util::stream::iter(writes).map(|(policy, adds)| async move {
            let outcome = if !office.holds() {
                Ok(())
            } else if adds {
                finalizer::add(client, &policy, options.deadline).await
            } else {
                finalizer::remove(client, &policy, options.deadline).await
            };
            pulse.beat(Instant::now());
            self.tell(&policy, outcome);
        });
        writes.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    fn tell(&self, policy: &ObjectMeta, outcome: Result<(), Failure>) {
        let Err(failure) = outcome else {
            return;
        };
        // One that has changed meanwhile is in the next plan.
        if failure.code() != Some(409) {
            tracing::warn!(policy = policy.name, error = %failure, "a finalizer could not be written");
            let (changed, pause) = (self.changed.clone(), self.options.gather);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                changed.send_modify(|count| *count = count.wrapping_add(1));
            });
        }
    }
}

/// The policies, also those that cannot be read but are to go.
fn metas(policies: &[Arc<BurstPolicy>], unread: &Unread) -> Vec<ObjectMeta> {
    let ending = unread.policies.iter().filter(|policy| policy.is_ending());
    let ending = ending.map(|policy| policy.object.metadata.clone());
    let policies = policies.iter().map(|policy| policy.metadata.clone());
    policies.chain(ending).collect()
}

async fn elected(candidate: &mut Option<Candidate>, wanted: bool) -> Option<crate::lead::Lease> {
    match candidate {
        Some(candidate) if wanted => candidate.elected().await,
        _ => std::future::pending().await,
    }
}

async fn lost(office: &mut Option<Authority>) {
    match office {
        Some(office) => office.lost().await,
        None => std::future::pending().await,
    }
}
