//! The parsed form: what the filter works with, for one cluster.

use alloc::string::String;
use alloc::vec::Vec;

use super::{ConfigErrors, check};
use crate::caller::Force;
use crate::header::Hop;
use crate::index::Index;
use crate::rate::{Capacity, RateLimit};
use crate::switch;
use crate::table::Table;
use crate::totals;

use super::wire::{Bodies, Side};

/// A configuration in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Counts up with every change.
    pub generation: u64,
    /// Whose side the plugin serves.
    pub side: Side,
    /// The header that carries a cluster's prefix.
    pub prefix_header: String,
    /// This cluster's prefix; empty means none.
    pub prefix: String,
    /// This cluster; empty where it is not in the table.
    pub own: String,
    /// The policies that concern this cluster.
    pub policies: Vec<Policy>,
    /// Ids of policies that were passed over, since they name no home and this cluster is not in
    /// the table.
    pub passed_over: Vec<String>,
    pub(super) tokens: Vec<String>,
    pub(super) by_host: Index<String, (u16, usize)>,
    pub(super) by_id: Index<String, usize>,
}

/// A policy as one cluster's sidecars see it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Travels in the header.
    pub id: String,
    /// Labels metrics.
    pub name: String,
    /// Where requests stay.
    pub home: String,
    /// The home's header value up to N.
    pub home_hop: Vec<u8>,
    /// The ladder without home.
    pub rungs: Vec<Rung>,
    /// Spill or Switch.
    pub mode: Mode,
    /// The capacity of an endpoint in this cluster; `None`: no gate, no load header.
    pub capacity: Option<Capacity>,
    /// Whether requests may be bounced.
    pub bounce: bool,
    /// Which bodies may be bounced.
    pub bodies: Bodies,
    /// Path prefixes of requests that never leave home.
    pub never: Vec<String>,
    /// Decide and count only.
    pub shadow: bool,
    /// An override.
    pub force: Option<Override>,
    /// Shed what does not fit anywhere.
    pub shed: bool,
    /// The workload that serves it.
    pub workload: Option<Workload>,
}

/// A rung.
#[derive(Clone, Debug)]
pub struct Rung {
    /// The cluster.
    pub cluster: String,
    /// The subset in the name of its Envoy cluster.
    pub subset: String,
    /// The header value up to N.
    pub hop: Vec<u8>,
    /// What this proxy sends there at most.
    pub max_rate: Option<RateLimit>,
}

/// Spill or Switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The excess only.
    Spill,
    /// All or nothing, by the caller's own rate.
    Switch(switch::Limits),
    /// All or nothing, by the rate of the whole service.
    SwitchService(totals::Limits),
}

/// An override with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// To where.
    pub force: Force,
    /// Until when, ns since 1970 UTC.
    pub until: u64,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// All of these labels are equal.
    pub labels: Table<String>,
    /// The application's ports; none means all.
    pub ports: Vec<u16>,
}

impl Config {
    /// Reads a document for a sidecar of cluster `own`.
    ///
    /// # Errors
    /// All that is wrong with it, each with its path.
    pub fn parse(document: &[u8], own: &str) -> Result<Self, ConfigErrors> {
        check::parse(document, own)
    }

    /// The policy for a destination as it stands in `xds.cluster_name`
    /// (`outbound|PORT|SUBSET|HOST`).
    #[must_use]
    pub fn policy_for_cluster(&self, envoy_cluster: &str) -> Option<usize> {
        let name = EnvoyCluster::parse(envoy_cluster)?;
        if name.direction != "outbound" {
            return None;
        }
        self.by_host
            .get(name.host)
            .find(|(port, _)| *port == 0 || *port == name.port)
            .map(|(_, policy)| *policy)
    }

    /// The policy that a request's header names, if the header has one of our tokens.
    #[must_use]
    pub fn policy_for_hop(&self, hop: &Hop<'_>) -> Option<usize> {
        let known = self
            .tokens
            .iter()
            .fold(false, |known, token| known | same(token, hop.token));
        if known {
            self.policy_for_id(hop.policy)
        } else {
            None
        }
    }

    /// The policy of this id.
    #[must_use]
    pub fn policy_for_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).next().copied()
    }
}

/// Compares without telling by its time where the first difference is.
fn same(ours: &str, theirs: &str) -> bool {
    ours.len() == theirs.len()
        && ours
            .bytes()
            .zip(theirs.bytes())
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

/// The name that istiod gives an Envoy cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvoyCluster<'a> {
    /// `outbound` or `inbound`.
    pub direction: &'a str,
    /// The service's port, or on the server the application's.
    pub port: u16,
    /// The subset; empty without.
    pub subset: &'a str,
    /// The service's full name; empty on the server.
    pub host: &'a str,
}

impl<'a> EnvoyCluster<'a> {
    /// Reads `outbound|80|v1|reviews.default.svc.cluster.local`.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(4, '|');
        Some(Self {
            direction: parts.next()?,
            port: parts.next()?.parse().ok()?,
            subset: parts.next()?,
            host: parts.next()?,
        })
    }
}
