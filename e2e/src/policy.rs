//! Plugin configurations, for both sides, from one description of the policies.
//!
//! The form is that of `docs/reference/plugin-configuration.md`. It is written here a second time
//! on purpose: the tests speak to the filter as the documentation tells others to, not by the
//! filter's own types. What these types cannot say is sent with
//! [`Mesh::apply_raw`](crate::mesh::Mesh::apply_raw).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The mesh token of a mesh that names none.
pub const DEFAULT_TOKEN: &str = "mesh-token-1";

/// Whose side a plugin serves, and with it the plugin's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// The caller's, on outbound listeners.
    Client,
    /// The service's, on inbound listeners.
    Server,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The plugin's name, which is also its root id.
    #[must_use]
    pub fn plugin(self) -> &'static str {
        match self {
            Self::Client => "spillway-client",
            Self::Server => "spillway-server",
        }
    }
}

/// All that a plugin configuration holds but `version`, `generation` and `side`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policies {
    /// The mesh token that is sent, and one more that is accepted.
    pub tokens: Vec<String>,
    /// The header that carries the serving cluster's prefix, if it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_header: Option<String>,
    /// The clusters, by name.
    pub clusters: BTreeMap<String, ClusterRow>,
    /// The policies.
    pub policies: Vec<Policy>,
}

impl Policies {
    /// Clusters without prefixes, and no policy.
    #[must_use]
    pub fn for_clusters<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            tokens: vec![DEFAULT_TOKEN.to_owned()],
            prefix_header: None,
            clusters: names
                .into_iter()
                .map(|name| (name.to_owned(), ClusterRow::default()))
                .collect(),
            policies: Vec::new(),
        }
    }

    /// Gives a cluster its prefix.
    #[must_use]
    pub fn prefix(mut self, cluster: &str, prefix: &str) -> Self {
        self.clusters.insert(
            cluster.to_owned(),
            ClusterRow {
                prefix: prefix.to_owned(),
            },
        );
        self
    }

    /// Adds a policy.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policies.push(policy);
        self
    }

    /// The plugin configuration of one side.
    #[must_use]
    pub fn document(&self, generation: u64, side: Side) -> Value {
        let mut document = json!(self);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("version".to_owned(), json!(1));
            fields.insert("generation".to_owned(), json!(generation));
            fields.insert("side".to_owned(), json!(side));
        }
        document
    }
}

/// A row of the table of clusters.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterRow {
    /// The tag of the cluster.
    pub prefix: String,
}

/// One policy. What is `None` or empty is left out, so that the filter's defaults hold.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its id in the header between sidecars.
    pub id: String,
    /// Its name in the metrics.
    pub name: String,
    /// The destinations that the caller's side finds it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
    /// The workload that the server's side finds it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Where requests stay as long as there is room; the caller's own cluster if not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The rungs, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overflow: Vec<Rung>,
    /// `Spill` or `Switch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// The limits of `Switch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<Switch>,
    /// What the clusters serve, by cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Capacity>,
    /// `On` or `Off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounce: Option<&'static str>,
    /// `Never`, `Small` or `Buffered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<&'static str>,
    /// Requests that never leave home.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteClass>,
    /// `Active` or `Shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<&'static str>,
    /// All home, or all to the first rung, for a time.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub override_: Option<Override>,
    /// `Home` or `Shed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exhausted: Option<&'static str>,
}

impl Policy {
    /// A policy `worker` for a service as [`Service::worker`](crate::topology::Service::worker)
    /// makes it, whose home is `home` and whose overflow goes to `rungs` in this order.
    #[must_use]
    pub fn worker(home: &str, rungs: &[&str]) -> Self {
        Self::for_service(&crate::topology::Service::worker(), home, rungs)
    }

    /// A policy for a service, with the service's workload as its id.
    #[must_use]
    pub fn for_service(service: &crate::topology::Service, home: &str, rungs: &[&str]) -> Self {
        Self {
            id: service.workload.clone(),
            name: format!("{}/{}", service.namespace, service.workload),
            destinations: vec![Destination {
                host: service.host.clone(),
                ports: vec![service.port],
            }],
            workload: Some(Workload {
                labels: service.labels.clone(),
                ports: vec![service.app_port],
            }),
            home: Some(home.to_owned()),
            overflow: rungs
                .iter()
                .map(|cluster| Rung {
                    cluster: (*cluster).to_owned(),
                    max_rate: None,
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Gives the service in a cluster a total rate (such as `"15/s"`) over so many endpoints.
    #[must_use]
    pub fn total_rate(mut self, cluster: &str, rate: &str, endpoints: u32) -> Self {
        let limit = Limit {
            rate: Some(rate.to_owned()),
            concurrency: None,
        };
        let capacity = Capacity {
            total: Some(limit),
            per_endpoint: None,
            endpoints,
        };
        self.capacity.insert(cluster.to_owned(), capacity);
        self
    }

    /// Gives each of so many endpoints of the service in a cluster a rate.
    #[must_use]
    pub fn rate_per_endpoint(mut self, cluster: &str, rate: &str, endpoints: u32) -> Self {
        let limit = Limit {
            rate: Some(rate.to_owned()),
            concurrency: None,
        };
        let capacity = Capacity {
            total: None,
            per_endpoint: Some(limit),
            endpoints,
        };
        self.capacity.insert(cluster.to_owned(), capacity);
        self
    }

    /// Lets each of so many endpoints of the service in a cluster serve so many requests at a time.
    #[must_use]
    pub fn concurrency_per_endpoint(
        mut self,
        cluster: &str,
        concurrency: u32,
        endpoints: u32,
    ) -> Self {
        let limit = Limit {
            rate: None,
            concurrency: Some(concurrency),
        };
        let capacity = Capacity {
            total: None,
            per_endpoint: Some(limit),
            endpoints,
        };
        self.capacity.insert(cluster.to_owned(), capacity);
        self
    }

    /// Changes it by a closure, where a field has no method of its own.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A host and its ports; no ports means all.
#[derive(Clone, Debug, Serialize)]
pub struct Destination {
    /// The service's host.
    pub host: String,
    /// The service's ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// Which workloads serve the policy.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// All of these must be equal.
    pub labels: BTreeMap<String, String>,
    /// The application's ports.
    pub ports: Vec<u16>,
}

/// A cluster that takes overflow.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rung {
    /// Its name.
    pub cluster: String,
    /// What one calling proxy sends there at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<String>,
}

/// The limits of the mode `Switch`.
#[derive(Clone, Debug, Serialize)]
pub struct Switch {
    /// All leave above it.
    pub enter: String,
    /// All return below it.
    pub leave: String,
    /// Endpoints of the service by cluster: all callers share the limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, u32>,
}

/// What the service in a cluster serves.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Each endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_endpoint: Option<Limit>,
    /// All endpoints together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Limit>,
    /// How many endpoints there are.
    pub endpoints: u32,
}

/// A rate, a number of requests at a time, or both.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Such as `"15/s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Requests at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// How a part of the requests is treated.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteClass {
    /// Requests whose path begins so.
    pub path_prefix: String,
    /// `Never`.
    pub class: &'static str,
}

/// A decision by hand, for a time.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// `Home` or `Overflow`.
    pub force: &'static str,
    /// When it ends, in seconds of the Unix epoch.
    pub until_unix_seconds: u64,
}
