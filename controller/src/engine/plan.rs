//! The one loop that plans.
//!
//! Whatever changes, it makes the whole plan anew: there is one way from what is declared and seen
//! to what is wanted, and no memory in which the two could differ. Changes are gathered first, so
//! that a hundred of them within a second are one plan.
//!
//! Without office ([`Authority`]) it does all of this but give orders, so that a new leader has
//! its connections and its view of the clusters already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::{Client, ResourceExt};
use spillway_api::mesh_cluster::Access;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use spillway_plan::{Input, Mesh, Plan};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::authority::Authority;
use super::finalizer;
use super::member::{Member, Origin, Surroundings};
use super::options::Options;
use super::report::{Reports, Snapshot};
use crate::clusters::call::Failure;
use crate::lead::Candidate;
use crate::observe::hub::Hub;
use crate::observe::index::Index;
use crate::observe::interest;

/// Finalizers are written so many at a time.
const AT_ONCE: usize = 16;
/// While policies are being deleted, clusters that stay away are looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// Plans, and gives orders to the clusters.
pub struct Engine {
    surroundings: Surroundings,
    mesh: watch::Receiver<Option<Mesh>>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    changed: watch::Sender<u64>,
    endpoints: watch::Sender<u64>,
    attached: watch::Sender<BTreeSet<String>>,
    interest: watch::Sender<BTreeSet<String>>,
    members: BTreeMap<String, Member>,
    /// The policies that the last orders were given without, and since when, by UID.
    ending: BTreeMap<String, Instant>,
}

impl Engine {
    /// An engine for the hub of this identity. It plans nothing before the mesh's settings are
    /// there.
    #[must_use]
    pub fn new(
        hub: Client,
        hub_uid: &str,
        options: Options,
        mesh: watch::Receiver<Option<Mesh>>,
    ) -> Self {
        let attached = watch::Sender::new(BTreeSet::new());
        let interest = watch::Sender::new(BTreeSet::new());
        Self {
            surroundings: Surroundings {
                hub,
                hub_uid: hub_uid.to_owned(),
                options,
                reports: Arc::default(),
                attached: attached.subscribe(),
                interest: interest.subscribe(),
            },
            mesh,
            snapshot: watch::Sender::new(Arc::default()),
            changed: watch::Sender::new(0),
            endpoints: watch::Sender::new(0),
            attached,
            interest,
            members: BTreeMap::new(),
            ending: BTreeMap::new(),
        }
    }

    /// How far the clusters are.
    #[must_use]
    pub fn reports(&self) -> Arc<Reports> {
        self.surroundings.reports.clone()
    }

    /// What was planned last.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// Works until `end`. With a candidate it gives orders while that leads, without one always.
    pub async fn run(mut self, mut candidate: Option<Candidate>, end: CancellationToken) {
        let mut office = candidate.is_none().then_some(Authority::Alone);
        let _forwards = self.forwards();
        let mut changed = self.changed.subscribe();
        let mut reported = self.surroundings.reports.changed();
        let mut hub = self.watch_hub();
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                Some(lease) = elected(&mut candidate, office.is_none()) => {
                    tracing::info!("this process leads");
                    office = Some(Authority::Elected(lease));
                    // What was seen before is older than the office.
                    hub = self.watch_hub();
                }
                () = lost(&mut office) => {
                    tracing::warn!("this process does not lead any more");
                    office = None;
                    self.members.values().for_each(Member::withdraw);
                }
                _ = changed.changed() => {
                    self.gather(&mut changed).await;
                    self.reconcile(&hub, office.as_ref()).await;
                }
                _ = reported.changed(), if !self.ending.is_empty() => {
                    self.finalize(&hub, office.as_ref()).await;
                }
                () = tokio::time::sleep(LOOK), if !self.ending.is_empty() => {
                    self.finalize(&hub, office.as_ref()).await;
                }
            }
        }
    }

    fn watch_hub(&self) -> Hub {
        let Surroundings { hub, options, .. } = &self.surroundings;
        Hub::watch(
            hub,
            &options.system_namespace,
            &options.backoff,
            &self.changed,
        )
    }

    /// Endpoints change all the time, the mesh's settings hardly ever: both make a plan.
    fn forwards(&self) -> [AbortOnDropHandle<()>; 2] {
        let forward = |mut from: watch::Receiver<u64>, to: watch::Sender<u64>, pause: Duration| async move {
            while from.changed().await.is_ok() {
                to.send_modify(|count| *count = count.wrapping_add(1));
                tokio::time::sleep(pause).await;
            }
        };
        let endpoints = self.endpoints.subscribe();
        let pause = self.surroundings.options.endpoints;
        let endpoints = forward(endpoints, self.changed.clone(), pause);
        let (mut mesh, changed) = (self.mesh.clone(), self.changed.clone());
        let mesh = async move {
            while mesh.changed().await.is_ok() {
                changed.send_modify(|count| *count = count.wrapping_add(1));
            }
        };
        [
            AbortOnDropHandle::new(tokio::spawn(endpoints)),
            AbortOnDropHandle::new(tokio::spawn(mesh)),
        ]
    }

    /// Waits until all is quiet, but not for ever.
    async fn gather(&self, changed: &mut watch::Receiver<u64>) {
        let Options { quiet, gather, .. } = self.surroundings.options;
        let last = tokio::time::Instant::now() + gather;
        while tokio::time::Instant::now() + quiet <= last {
            match tokio::time::timeout(quiet, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    async fn reconcile(&mut self, hub: &Hub, office: Option<&Authority>) {
        if !hub.is_complete() {
            return;
        }
        let clusters = hub.clusters();
        let policies = hub.policies();
        self.muster(&clusters, &hub.secrets());
        // Also those of policies that go: their objects are still there.
        let namespaces = interest::namespaces(policies.iter().map(AsRef::as_ref));
        for member in self.members.values() {
            member.index.expect(&namespaces);
        }
        self.interest.send_if_modified(|known| {
            let differs = *known != namespaces;
            *known = namespaces;
            differs
        });
        let Some(mesh) = self.mesh.borrow().clone() else {
            return;
        };
        let fleets = hub.fleets();
        let input = Input {
            clusters: self.seen(&clusters, &mesh),
            fleets: fleets.iter().map(|fleet| Fleet::clone(fleet)).collect(),
            policies: policies
                .iter()
                .filter(|policy| finalizer::is_live(policy))
                .map(|policy| BurstPolicy::clone(policy))
                .collect(),
            mesh,
        };
        // A plan for a thousand clusters takes a while; the other tasks go on meanwhile.
        let Ok(plan) = tokio::task::spawn_blocking(move || spillway_plan::plan(&input)).await
        else {
            tracing::error!("the planner failed");
            return;
        };
        if let Some(office) = office {
            self.order(&plan, office);
            self.remember_ending(&policies);
        }
        self.snapshot.send_modify(|snapshot| {
            *snapshot = Arc::new(Snapshot {
                sequence: snapshot.sequence.saturating_add(1),
                office: office.cloned(),
                plan: Arc::new(plan),
                policies,
                fleets,
                clusters,
            });
        });
        self.finalize(hub, office).await;
    }

    /// Begins and ends members.
    fn muster(&mut self, clusters: &[Arc<MeshCluster>], secrets: &BTreeMap<String, String>) {
        let names: BTreeSet<String> = clusters.iter().map(|cluster| cluster.name_any()).collect();
        self.members.retain(|name, _| {
            let keep = names.contains(name);
            if !keep {
                self.surroundings.reports.remove(name);
            }
            keep
        });
        self.attached.send_replace(names);
        let system = &self.surroundings.options.system_namespace;
        for cluster in clusters {
            let reference = cluster.spec.secret_ref.as_ref();
            let reference = reference.filter(|secret| secret.namespace == *system);
            let origin = Origin {
                uid: cluster.uid(),
                generation: cluster.metadata.generation,
                secret: reference.and_then(|secret| secrets.get(&secret.name).cloned()),
            };
            let name = cluster.name_any();
            if self
                .members
                .get(&name)
                .is_some_and(|it| it.origin == origin)
            {
                continue;
            }
            let index = Index::new(self.changed.clone(), self.endpoints.clone());
            // The old one ends before the new one begins.
            self.members.remove(&name);
            let member = Member::begin(cluster.clone(), origin, index, self.surroundings.clone());
            self.members.insert(name, member);
        }
    }

    /// The clusters, and what was seen of them.
    fn seen(&self, clusters: &[Arc<MeshCluster>], mesh: &Mesh) -> Vec<spillway_plan::Cluster> {
        let reports = self.surroundings.reports.all();
        let seen = clusters.iter().map(|cluster| {
            let name = cluster.name_any();
            let identity = reports
                .get(&name)
                .and_then(|report| report.identity.as_ref());
            let member = self.members.get(&name);
            let observed = identity.zip(member).and_then(|(identity, member)| {
                member.index.observed(&identity.uid, &mesh.root_namespace)
            });
            spillway_plan::Cluster {
                resource: MeshCluster::clone(cluster),
                observed,
                deployed: member
                    .map(|member| member.index.deployed())
                    .unwrap_or_default(),
            }
        });
        seen.collect()
    }

    fn order(&self, plan: &Plan, office: &Authority) {
        for (name, member) in &self.members {
            let Some(wanted) = plan.control_planes.get(name) else {
                member.withdraw();
                continue;
            };
            let last = self.surroundings.reports.get(name).ordered;
            let sequence = member.order(wanted.clone(), last, office);
            self.surroundings
                .reports
                .update(name, |report| report.ordered = sequence);
        }
    }

    fn remember_ending(&mut self, policies: &[Arc<BurstPolicy>]) {
        let ending: BTreeSet<String> = policies
            .iter()
            .filter(|policy| policy.metadata.deletion_timestamp.is_some())
            .filter_map(|policy| policy.uid())
            .collect();
        self.ending.retain(|uid, _| ending.contains(uid));
        for uid in ending {
            self.ending.entry(uid).or_insert_with(Instant::now);
        }
    }

    /// Puts finalizers on new policies, and takes them off those that are cleaned up.
    async fn finalize(&self, hub: &Hub, office: Option<&Authority>) {
        let Some(office) = office.filter(|office| office.holds()) else {
            return;
        };
        let clusters = hub.clusters();
        let Surroundings {
            hub: client,
            options,
            ..
        } = &self.surroundings;
        let writes = hub.policies().into_iter().filter_map(|policy| {
            let is_ending = policy.metadata.deletion_timestamp.is_some();
            let adds = !is_ending && !finalizer::has(&policy);
            let removes = is_ending && finalizer::has(&policy) && self.is_clean(&policy, &clusters);
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
            self.tell(&policy, outcome);
        });
        writes.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    fn tell(&self, policy: &BurstPolicy, outcome: Result<(), Failure>) {
        let Err(failure) = outcome else {
            return;
        };
        // One that has changed meanwhile is in the next plan.
        if failure.code() != Some(409) {
            tracing::warn!(policy = policy.name_any(), error = %failure, "a finalizer could not be written");
            let (changed, pause) = (self.changed.clone(), self.surroundings.options.gather);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                changed.send_modify(|count| *count = count.wrapping_add(1));
            });
        }
    }

    /// Whether nothing of a policy that is being deleted is left, as far as one can wait for it.
    fn is_clean(&self, policy: &BurstPolicy, clusters: &[Arc<MeshCluster>]) -> bool {
        let since = policy.uid().and_then(|uid| self.ending.get(&uid));
        let Some(since) = since else {
            return false;
        };
        let patience = self.surroundings.options.abandon_after;
        if since.elapsed() >= patience {
            return true;
        }
        clusters
            .iter()
            .filter(|cluster| cluster.spec.access != Access::Discovered)
            .filter(|cluster| {
                let own = cluster.name_any();
                cluster
                    .spec
                    .control_plane
                    .as_ref()
                    .is_none_or(|other| *other == own)
            })
            .all(|cluster| {
                let name = cluster.name_any();
                let given = self.members.get(&name).is_some_and(Member::has_orders);
                given && self.surroundings.reports.get(&name).is_settled()
            })
    }
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
