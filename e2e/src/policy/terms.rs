//! The terms of one policy, as the documentation describes them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::topology::Service;

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
    /// A policy `worker` for a service as [`Service::worker`]
    /// makes it, whose home is `home` and whose overflow goes to `rungs` in this order.
    #[must_use]
    pub fn worker(home: &str, rungs: &[&str]) -> Self {
        Self::for_service(&Service::worker(), home, rungs)
    }

    /// A policy for a service, with the service's workload as its id.
    #[must_use]
    pub fn for_service(service: &Service, home: &str, rungs: &[&str]) -> Self {
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

    /// Sends all away above one rate and brings all home below the other: each caller by its own
    /// rate, or all by that of the service where these clusters' endpoints are counted.
    #[must_use]
    pub fn switch<'a>(
        mut self,
        (enter, leave): (&str, &str),
        shared: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Self {
        let shared = shared.into_iter();
        self.mode = Some("Switch");
        self.switch = Some(Switch {
            enter: enter.to_owned(),
            leave: leave.to_owned(),
            endpoints: shared
                .map(|(cluster, endpoints)| (cluster.to_owned(), endpoints))
                .collect(),
        });
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
