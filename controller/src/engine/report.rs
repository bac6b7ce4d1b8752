//! How far every cluster is: what the workers say, for statuses, metrics and finalizers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use spillway_plan::Plan;
use spillway_plan::settings::Tokens;
use tokio::sync::watch;

use super::authority::Authority;
use crate::clusters::identity::Identity;
use crate::image::Returned;
use crate::observe::read::Unread;

/// Why a cluster is not connected, or not written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In CamelCase, as in a condition.
    pub reason: &'static str,
    /// In words, without credentials.
    pub message: String,
}

/// How far one cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// Who it is; none as long as it never answered.
    pub identity: Option<Identity>,
    /// Its network, as its mesh says.
    pub network: Option<String>,
    /// Why it cannot be reached or may not be written to.
    pub problem: Option<Problem>,
    /// Why it cannot be watched now; what was seen before still counts.
    pub unseen: Option<Problem>,
    /// Why changes of its Secret are not noticed before its connection fails.
    pub unwatched_secret: Option<String>,
    /// The last intent that it was given, counted up; 0 where there was none yet.
    pub ordered: u64,
    /// The last intent of which it has all that can be written now.
    pub reached: u64,
    /// The last intent that it has in full.
    pub applied: u64,
    /// Since when it lacks something that it was given; none when it has all.
    pub behind: Option<Instant>,
    /// Policies that it could not be given, by `NAMESPACE/NAME`, and why.
    pub failed: BTreeMap<String, String>,
    /// Policies whose plugins wait for the filter's image, by `NAMESPACE/NAME`, and why.
    pub waiting: BTreeMap<String, Problem>,
    /// The namespaces that the account may not look into.
    pub forbidden: Vec<String>,
    /// When its API server last answered a write or was found to be as it should.
    pub last_seen: Option<SystemTime>,
    /// The last return of the filter's image that its plugins were written anew for.
    pub renewed: Returned,
    /// Writes that the API server carried out, since the start.
    pub writes: u64,
    /// Objects of ours that somebody else had changed or deleted, since the start.
    pub repairs: u64,
}

impl ClusterReport {
    /// Whether it has all that it should.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.problem.is_none()
            && self.unseen.is_none()
            && self.failed.is_empty()
            && self.applied == self.ordered
    }

    /// Whether it has all that it should of one policy, whatever others wait for.
    #[must_use]
    pub fn is_settled_for(&self, policy: &str) -> bool {
        self.problem.is_none()
            && self.unseen.is_none()
            && !self.failed.contains_key(policy)
            && !self.waiting.contains_key(policy)
            && self.ordered > 0
            && self.reached == self.ordered
    }
}

/// The reports of all clusters, by MeshCluster.
#[derive(Debug)]
pub struct Reports {
    clusters: Mutex<BTreeMap<String, ClusterReport>>,
    changed: watch::Sender<u64>,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            clusters: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Reports {
    /// Tells of changes.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, ClusterReport> {
        self.clusters().clone()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, cluster: &str) -> ClusterReport {
        self.clusters().get(cluster).cloned().unwrap_or_default()
    }

    /// Changes one.
    pub fn update(&self, cluster: &str, change: impl FnOnce(&mut ClusterReport)) {
        let mut clusters = self.clusters();
        let report = clusters.entry(cluster.to_owned()).or_default();
        let before = ClusterReport {
            last_seen: None,
            ..report.clone()
        };
        change(report);
        let changed = before
            != ClusterReport {
                last_seen: None,
                ..report.clone()
            };
        drop(clusters);
        if changed {
            self.changed
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Forgets one.
    pub fn remove(&self, cluster: &str) {
        self.clusters().remove(cluster);
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn clusters(&self) -> MutexGuard<'_, BTreeMap<String, ClusterReport>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was planned last, and from what.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By whose authority it is carried out; none while another process leads.
    pub office: Option<Authority>,
    /// The policies of the hub, also those that are not planned.
    pub policies: Vec<Arc<BurstPolicy>>,
    /// The fleets of the hub.
    pub fleets: Vec<Arc<Fleet>>,
    /// The clusters of the hub.
    pub clusters: Vec<Arc<MeshCluster>>,
    /// What of them cannot be read.
    pub unread: Unread,
    /// Counts plans; 0 before the first.
    pub sequence: u64,
    /// The tokens that it was made with.
    pub tokens: Option<Tokens>,
    /// The plan.
    pub plan: Arc<Plan>,
}
