//! What the controller counts.
//!
//! Every label is an enum: the number of series is known when the program is built, whatever users
//! name their objects and however many clusters there are. What happened in one cluster or to one
//! policy stands in its status.

mod labels;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use self::labels::{
    Applied, ClusterState, ImageResult, Kind, Outcome, Peer, PolicyState, Resource, Verb,
};
use self::labels::{
    ApplyLabels, CallLabels, ClusterLabels, ImageLabels, KindLabels, PolicyLabels, StatusLabels,
};

/// Everything that is counted, under the prefix `spillway_controller_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leader: Gauge,
    applies: Family<ApplyLabels, Counter>,
    repairs: Family<KindLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    clusters: Family<ClusterLabels, Gauge>,
    policies: Family<PolicyLabels, Gauge>,
    propagation: Histogram,
    plan: Histogram,
    image: Gauge,
    images: Family<ImageLabels, Counter>,
    statuses: Family<StatusLabels, Counter>,
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
            image: Gauge::default(),
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

    /// An object was written into a cluster, or could not be.
    pub fn applied(&self, kind: Kind, result: Applied) {
        let labels = ApplyLabels { kind, result };
        self.applies.get_or_create(&labels).inc();
    }

    /// An object of ours that somebody else had changed or deleted was put right.
    pub fn repaired(&self, kind: Kind) {
        self.repairs.get_or_create(&KindLabels { kind }).inc();
    }

    /// An API server was called.
    pub fn called(&self, peer: Peer, verb: Verb, outcome: Outcome) {
        let labels = CallLabels {
            peer,
            verb,
            outcome,
        };
        self.calls.get_or_create(&labels).inc();
    }

    /// A change reached one cluster so long after it was seen.
    pub fn propagated(&self, after: Duration) {
        self.propagation.observe(after.as_secs_f64());
    }

    /// Everything was planned in this time.
    pub fn planned(&self, took: Duration) {
        self.plan.observe(took.as_secs_f64());
    }

    /// A registry was asked for the filter's image.
    pub fn looked(&self, result: ImageResult) {
        self.image.set((result == ImageResult::Available).into());
        self.images.get_or_create(&ImageLabels { result }).inc();
    }

    /// A status was written.
    pub fn stated(&self, resource: Resource) {
        self.statuses
            .get_or_create(&StatusLabels { resource })
            .inc();
    }

    /// How the clusters and policies are now. One who does not lead does not know, and tells none:
    /// all replicas together would count each of them twice.
    pub fn states(
        &self,
        clusters: &BTreeMap<ClusterState, i64>,
        policies: &BTreeMap<PolicyState, i64>,
    ) {
        for state in ClusterState::ALL {
            let count = clusters.get(&state).copied().unwrap_or_default();
            let labels = ClusterLabels { state };
            self.clusters.get_or_create(&labels).set(count);
        }
        for state in PolicyState::ALL {
            let count = policies.get(&state).copied().unwrap_or_default();
            let labels = PolicyLabels { state };
            self.policies.get_or_create(&labels).set(count);
        }
    }

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
            "Calls to the API servers of the hub and of its clusters, by what became of them",
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
            "From when a change was seen until one cluster has it in full",
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
            "image_available",
            "1 where the filter's image could be had at the last look, 0 where it could not",
            self.image.clone(),
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
        metrics.applied(Kind::WasmPlugin, Applied::Written);
        metrics.propagated(Duration::from_millis(250));
        metrics.called(Peer::Member, Verb::Patch, Outcome::Conflict);
        metrics.states(
            &BTreeMap::from([(ClusterState::Unreachable, 3)]),
            &BTreeMap::new(),
        );
        let text = metrics.encode(true).unwrap();
        for line in [
            "# TYPE spillway_controller_applies counter",
            r#"spillway_controller_applies_total{kind="WasmPlugin",result="Written"} 1"#,
            r#"spillway_controller_cluster_calls_total{peer="Member",verb="Patch",outcome="Conflict"} 1"#,
            r#"spillway_controller_clusters{state="Unreachable"} 3"#,
            r#"spillway_controller_clusters{state="Ready"} 0"#,
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
        metrics.states(&BTreeMap::new(), &BTreeMap::new());
        let gone = r#"spillway_controller_clusters{state="Unreachable"} 0"#;
        assert!(metrics.encode(true).unwrap().contains(gone));
    }
}
