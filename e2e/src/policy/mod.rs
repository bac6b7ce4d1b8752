//! Plugin configurations, for both sides, from one description of the policies.
//!
//! The form is that of `docs/reference/plugin-configuration.md`. It is written here a second time
//! on purpose: the tests speak to the filter as the documentation tells others to, not by the
//! filter's own types. What these types cannot say is sent with
//! [`Mesh::apply_raw`](crate::mesh::Mesh::apply_raw).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod terms;

pub use self::terms::{
    Capacity, Destination, Limit, Override, Policy, RouteClass, Rung, Switch, Workload,
};

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

    /// The clusters of [`Mesh::two_clusters`](crate::mesh::Mesh::two_clusters), where "burst" has the
    /// prefix `bursty-`, and one policy.
    #[must_use]
    pub fn two_clusters(policy: Policy) -> Self {
        Self::for_clusters(["primary", "burst"])
            .prefix("burst", "bursty-")
            .policy(policy)
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
