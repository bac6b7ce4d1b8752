//! The clusters of the hub, each with its member: who begins and ends with them, what was seen of
//! them together, and who is given which orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use kube::{Client, ResourceExt};
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::Access;
use spillway_plan::{Mesh, Plan};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::authority::Authority;
use super::member::{Member, Origin, Surroundings};
use super::options::Options;
use super::plan::Inputs;
use super::report::{ClusterReport, Reports};
use crate::observe::hub::{Hub, Version};
use crate::observe::index::Index;
use crate::observe::read::Unreadable;

/// All members, by MeshCluster.
pub(super) struct Members {
    surroundings: Surroundings,
    /// Count what a plan is made from, and endpoints.
    tell: (watch::Sender<u64>, watch::Sender<u64>),
    attached: watch::Sender<BTreeSet<String>>,
    interest: watch::Sender<BTreeSet<String>>,
    members: BTreeMap<String, Member>,
}

impl Members {
    pub(super) fn new(
        hub: &Client,
        hub_uid: &str,
        options: &Options,
        reports: Arc<Reports>,
        inputs: &Inputs,
        tell: (watch::Sender<u64>, watch::Sender<u64>),
    ) -> Self {
        let attached = watch::Sender::new(BTreeSet::new());
        let interest = watch::Sender::new(BTreeSet::new());
        Self {
            surroundings: Surroundings {
                hub: hub.clone(),
                hub_uid: hub_uid.to_owned(),
                options: options.clone(),
                reports,
                attached: attached.subscribe(),
                interest: interest.subscribe(),
                image: inputs.image.clone(),
                metrics: inputs.metrics.clone(),
                under_way: TaskTracker::new(),
            },
            tell,
            attached,
            interest,
            members: BTreeMap::new(),
        }
    }

    /// Begins and ends members, as there are clusters. One that cannot be read now neither begins
    /// nor ends.
    pub(super) fn muster(&mut self, hub: &Hub, unreadable: &[Arc<Unreadable>]) {
        let clusters = hub.clusters();
        let secrets = clusters.iter().filter_map(|it| it.spec.secret_ref.as_ref());
        hub.follow_secrets(secrets.map(|secret| secret.namespace.clone()).collect());
        let names = clusters.iter().map(|cluster| cluster.name_any());
        let names: BTreeSet<String> = names.chain(unreadable.iter().map(|it| it.key())).collect();
        self.members.retain(|name, _| {
            let keep = names.contains(name);
            if !keep {
                self.surroundings.reports.remove(name);
            }
            keep
        });
        self.attached.send_replace(names);
        for cluster in clusters {
            let name = cluster.name_any();
            let known = self.members.get(&name);
            let version = cluster.spec.secret_ref.as_ref().map(|it| hub.version(it));
            let before = known.and_then(|member| member.origin.secret.clone());
            let (secret, unwatched) = match version {
                None => (None, None),
                Some(Version::Known(version)) => (version, None),
                Some(Version::NotYet) if known.is_none() => continue,
                Some(Version::NotYet) => (before, None),
                Some(Version::Unwatched(failure)) => (before, Some(failure)),
            };
            self.surroundings.reports.update(&name, |report| {
                report.unwatched_secret = unwatched.map(|failure| failure.to_string());
            });
            let origin = Origin {
                uid: cluster.uid(),
                generation: cluster.metadata.generation,
                secret,
            };
            if known.is_some_and(|it| it.origin == origin) {
                continue;
            }
            let index = Index::new(self.tell.0.clone(), self.tell.1.clone());
            // The old one ends before the new one begins.
            self.members.remove(&name);
            let member = Member::begin(cluster, origin, index, self.surroundings.clone());
            self.members.insert(name, member);
        }
    }

    /// The clusters, and what was seen of them. Nothing is said of one that cannot be read.
    pub(super) fn seen(
        &self,
        clusters: &[Arc<MeshCluster>],
        unreadable: &[Arc<Unreadable>],
        mesh: &Mesh,
    ) -> Vec<spillway_plan::Cluster> {
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
            if let Some(observed) = &observed {
                let network = observed.network.clone();
                let report = |report: &mut ClusterReport| report.network = network;
                self.surroundings.reports.update(&name, report);
            }
            spillway_plan::Cluster {
                resource: cluster.clone(),
                observed,
                deployed: member
                    .map(|member| member.index.deployed())
                    .unwrap_or_default(),
            }
        });
        let unseen = unreadable.iter().map(|it| spillway_plan::Cluster {
            resource: Arc::new(it.cluster()),
            observed: None,
            deployed: Vec::new(),
        });
        seen.chain(unseen).collect()
    }

    /// Gives every control plane that was planned its orders.
    pub(super) fn order(&self, plan: &Plan, since: Instant, office: &Authority) {
        for (name, member) in &self.members {
            let Some(wanted) = plan.control_planes.get(name) else {
                member.withdraw();
                continue;
            };
            let before = self.surroundings.reports.get(name);
            let sequence = member.order(wanted.clone(), &before, since, office);
            self.surroundings.reports.update(name, |report| {
                report.ordered = sequence;
                if report.applied != sequence {
                    report.behind.get_or_insert_with(Instant::now);
                }
            });
        }
    }

    /// Nothing is to be written.
    pub(super) fn withdraw(&self) {
        self.members.values().for_each(Member::withdraw);
    }

    /// Nothing is to be written any more; returns when nothing is under way.
    pub(super) async fn end(&self) {
        self.withdraw();
        self.surroundings.under_way.close();
        self.surroundings.under_way.wait().await;
    }

    /// Has every member look into these namespaces.
    pub(super) fn look_into(&self, namespaces: BTreeSet<String>) {
        for member in self.members.values() {
            member.index.expect(&namespaces);
        }
        self.interest.send_if_modified(|known| {
            let differs = *known != namespaces;
            *known = namespaces;
            differs
        });
    }

    /// Whether every control plane has all that the last plan gives it for a policy, which is
    /// nothing where that is being deleted.
    pub(super) fn have_all(&self, policy: &str, clusters: &[Arc<MeshCluster>]) -> bool {
        let mut written = clusters.iter().filter(|cluster| {
            let own = cluster.name_any();
            let serves = cluster.spec.control_plane.as_ref();
            cluster.spec.access != Access::Discovered && serves.is_none_or(|other| *other == own)
        });
        written.all(|cluster| {
            let name = cluster.name_any();
            let given = self.members.get(&name).is_some_and(Member::has_orders);
            given && self.surroundings.reports.get(&name).is_settled_for(policy)
        })
    }
}
