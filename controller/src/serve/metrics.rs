//! What the controller counts.
//!
//! Every label is an enum: the number of series is known when the program is built, whatever users
//! name their objects and however many clusters there are. What happened in one cluster or to one
//! policy stands in its status.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// A kind that is written into clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// Ours, with subsets.
    DestinationRule,
    /// Ours, or a user's that routes are merged into.
    VirtualService,
    /// Ours.
    WasmPlugin,
    /// What a hub claims a cluster with, or what else is ours.
    Other,
}

/// What became of a write into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Applied {
    /// It was written.
    Written,
    /// It was deleted.
    Deleted,
    /// Somebody else wrote first, and it is planned anew.
    Conflict,
    /// The API server refused it.
    Refused,
    /// There was no answer, or one about the server's own trouble.
    Failed,
}

/// A call to a cluster's API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Call {
    /// One object is read.
    Get,
    /// Objects are read.
    List,
    /// Objects are watched; counted when the watch begins.
    Watch,
    /// An object is written.
    Apply,
    /// An object is deleted.
    Delete,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// There was no answer in time.
    Timeout,
    /// There was no connection.
    Unreachable,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 429.
    Throttled,
    /// Another 4xx.
    Refused,
    /// 5xx.
    ServerError,
}

/// How a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ClusterState {
    /// It has everything.
    Ready,
    /// It is being written to.
    Pending,
    /// It could not be written to.
    Failed,
    /// Its API server does not answer.
    Unreachable,
    /// It can be read only.
    Discovered,
}

/// How a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PolicyState {
    /// Every cluster has it.
    Programmed,
    /// Some do not have it yet.
    Pending,
    /// Some could not be written to.
    Failed,
    /// It cannot be carried out as written.
    Refused,
}

/// What was found out about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ImageResult {
    /// It can be had.
    Available,
    /// It cannot.
    Unavailable,
}

/// A resource of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Resource {
    /// `BurstPolicy`
    BurstPolicy,
    /// `Fleet`
    Fleet,
    /// `MeshCluster`
    MeshCluster,
}

/// Of writes into clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApplyLabels {
    /// What was written.
    pub kind: Kind,
    /// What became of it.
    pub result: Applied,
}

/// Of repaired drift.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// What had been changed by somebody else.
    pub kind: Kind,
}

/// Of calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// Which.
    pub call: Call,
    /// What became of it.
    pub outcome: Outcome,
}

/// Of clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClusterLabels {
    /// How they are.
    pub state: ClusterState,
}

/// Of policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PolicyLabels {
    /// How they are.
    pub state: PolicyState,
}

/// Of looks into registries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ImageLabels {
    /// What came of it.
    pub result: ImageResult,
}

/// Of statuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabels {
    /// Whose.
    pub resource: Resource,
}

/// Everything that is counted, under the prefix `spillway_controller_`.
pub struct Metrics {
    registry: Registry,
    leader: Gauge,
    /// Writes into clusters.
    pub applies: Family<ApplyLabels, Counter>,
    /// Objects of ours that somebody else had changed or deleted, and that were put right.
    pub repairs: Family<KindLabels, Counter>,
    /// Calls to the clusters' API servers.
    pub calls: Family<CallLabels, Counter>,
    /// Clusters, by how they are.
    pub clusters: Family<ClusterLabels, Gauge>,
    /// Policies, by how they are.
    pub policies: Family<PolicyLabels, Gauge>,
    /// From a change on the hub until one cluster has it.
    pub propagation: Histogram,
    /// How long planning takes.
    pub plan: Histogram,
    /// Looks into registries.
    pub images: Family<ImageLabels, Counter>,
    /// Statuses that were written.
    pub statuses: Family<StatusLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("spillway_controller");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "What runs", Info::new(version));
        // 10 ms to 82 s, and 0.1 ms to 0.8 s: each twice the one before.
        let propagation = Histogram::new(exponential_buckets(0.01, 2.0, 14));
        let plan = Histogram::new(exponential_buckets(0.0001, 2.0, 14));
        let mut this = Self {
            leader: Gauge::default(),
            applies: Family::default(),
            repairs: Family::default(),
            calls: Family::default(),
            clusters: Family::default(),
            policies: Family::default(),
            propagation,
            plan,
            images: Family::default(),
            statuses: Family::default(),
            registry,
        };
        this.register();
        this
    }
}

impl Metrics {
    /// OpenMetrics as text, which Prometheus reads.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "leader",
            "1 in the replica that writes, 0 in those that stand by",
            self.leader.clone(),
        );
        registry.register(
            "applies",
            "Writes into clusters, by kind and by what became of them",
            self.applies.clone(),
        );
        registry.register(
            "repairs",
            "Objects of Spillway's that somebody else had changed or deleted, put right",
            self.repairs.clone(),
        );
        registry.register(
            "cluster_calls",
            "Calls to the API servers of clusters, by what became of them",
            self.calls.clone(),
        );
        registry.register(
            "clusters",
            "Clusters, by their state",
            self.clusters.clone(),
        );
        registry.register(
            "policies",
            "Policies, by their state",
            self.policies.clone(),
        );
        registry.register_with_unit(
            "propagation",
            "From a change on the hub until one cluster has it",
            Unit::Seconds,
            self.propagation.clone(),
        );
        registry.register_with_unit(
            "plan",
            "How long it takes to plan everything",
            Unit::Seconds,
            self.plan.clone(),
        );
        registry.register(
            "image_checks",
            "Looks into registries for the filter's image, by what came of them",
            self.images.clone(),
        );
        registry.register(
            "status_writes",
            "Statuses that were written on the hub",
            self.statuses.clone(),
        );
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// Never in practice: a string can be written to.
    pub fn encode(&self, leads: bool) -> Result<String, fmt::Error> {
        self.leader.set(leads.into());
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_can_read_it() {
        let metrics = Metrics::default();
        let labels = ApplyLabels {
            kind: Kind::WasmPlugin,
            result: Applied::Written,
        };
        metrics.applies.get_or_create(&labels).inc();
        metrics.propagation.observe(0.25);
        let state = ClusterState::Unreachable;
        metrics
            .clusters
            .get_or_create(&ClusterLabels { state })
            .set(3);
        let text = metrics.encode(true).unwrap();
        for line in [
            "# TYPE spillway_controller_applies counter",
            r#"spillway_controller_applies_total{kind="WasmPlugin",result="Written"} 1"#,
            r#"spillway_controller_clusters{state="Unreachable"} 3"#,
            r#"spillway_controller_propagation_seconds_bucket{le="0.32"} 1"#,
            "spillway_controller_leader 1",
            concat!(
                "spillway_controller_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(
            metrics
                .encode(false)
                .unwrap()
                .contains("spillway_controller_leader 0\n")
        );
    }
}
