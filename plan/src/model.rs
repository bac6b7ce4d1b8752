//! The validated form: what policies say, in types from which objects are built without an error.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use spillway_api::burst_policy::{Bounce, Routing, Scope, UserRetries};
use spillway_api::istio::Kind;
use spillway_core::config::wire;
use spillway_core::rate::Rate;

use crate::names;
use crate::output::Key;

/// One service of one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The policy, as `NAMESPACE/NAME`.
    pub policy: String,
    /// Its id in the header between sidecars.
    pub id: String,
    /// The namespace of policy and service.
    pub namespace: String,
    /// The service.
    pub service: String,
    /// Its full name.
    pub host: String,
    /// The ports that speak HTTP and that the policy is about.
    pub ports: Vec<u16>,
    /// These are all that speak HTTP.
    pub all_ports: bool,
    /// The workload that serves it, as its home has it.
    pub workload: Workload,
    /// The cluster where requests stay, by its name in Istio; the caller's own where none is named.
    pub home: Option<String>,
    /// Where the excess goes, in order; never empty.
    pub rungs: Vec<Rung>,
    /// Clusters of its fleets for which the ladder has no room; a bounced request may reach them.
    pub beyond: BTreeSet<String>,
    /// What the policy says besides.
    pub terms: Terms,
    /// The namespaces that get the caller's side, by control plane. A control plane that is not
    /// here has none, or something in its way.
    pub clients: BTreeMap<String, BTreeSet<String>>,
    /// Which of their workloads; all where it is empty.
    pub selector: BTreeMap<String, String>,
}

/// The pods that serve a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The labels that all of them have.
    pub labels: BTreeMap<String, String>,
    /// The ports on which they listen; all where it is empty.
    pub ports: Vec<u16>,
}

/// A cluster that takes overflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Its name in Istio.
    pub cluster: String,
    /// Its subset and route.
    pub subset: String,
    /// What one calling proxy sends there at most.
    pub max_rate: Option<Rate>,
}

/// What a policy says that is the same for all of its services and clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Spill, or Switch with its limits.
    pub mode: wire::Mode,
    /// The limits of Switch.
    pub switch: Option<Switch>,
    /// What home serves.
    pub capacity: Option<Limit>,
    /// What other clusters serve, by name in Istio.
    pub overrides: BTreeMap<String, Limit>,
    /// Whether bounces are wanted.
    pub bounce: Bounce,
    /// Which bodies may be bounced.
    pub bodies: wire::Bodies,
    /// What counts where the user's own retries meet bounces.
    pub user_retries: UserRetries,
    /// Paths that never leave home.
    pub routes: Vec<wire::Route>,
    /// Whether it acts.
    pub enforcement: wire::Enforcement,
    /// An override with its end.
    pub override_: Option<wire::Override>,
    /// What happens when all is full.
    pub on_exhausted: wire::OnExhausted,
    /// Where the routes stand.
    pub routing: Routing,
}

/// The limits of Switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Above it all spills.
    pub enter: Rate,
    /// Below it all comes home.
    pub leave: Rate,
    /// Whose requests they count.
    pub scope: Scope,
}

/// What a cluster serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Each endpoint.
    PerEndpoint(wire::Amount),
    /// All together.
    Total(wire::Amount),
}

impl Limit {
    /// The row of the filter's table.
    #[must_use]
    pub fn row(self, endpoints: NonZeroU32) -> wire::Capacity {
        let (per_endpoint, total) = match self {
            Self::PerEndpoint(amount) => (Some(amount), None),
            Self::Total(amount) => (None, Some(amount)),
        };
        wire::Capacity {
            per_endpoint,
            total,
            endpoints,
        }
    }
}

impl Target {
    /// It changes something, and does not only count.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.terms.enforcement == wire::Enforcement::Active
    }

    /// What a cluster serves; none where it has no limit.
    #[must_use]
    pub fn limit(&self, cluster: &str) -> Option<Limit> {
        let is_home = self.home.as_deref().is_none_or(|home| home == cluster);
        let base = self.terms.capacity.filter(|_| is_home);
        self.terms.overrides.get(cluster).copied().or(base)
    }
}

/// A service about which nothing is known now, since none of the clusters that could tell was
/// reached yet: what is deployed for it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// The namespace of policy and service.
    pub namespace: String,
    /// The service.
    pub service: String,
    /// The namespaces of its callers.
    pub clients: BTreeSet<String>,
}

impl Unseen {
    /// What may be deployed for it: its rule and routes, and the plugins in which its policy stands.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<Key> {
        let own = names::routes(&self.service);
        let namespace = self.namespace.as_str();
        let plugin = |client: &String| Key::new(Kind::WASM_PLUGIN, client, names::CLIENT);
        let clients = self.clients.iter().map(plugin);
        [
            Key::new(Kind::DESTINATION_RULE, namespace, &own),
            Key::new(Kind::VIRTUAL_SERVICE, namespace, &own),
            Key::new(Kind::WASM_PLUGIN, namespace, names::SERVER),
        ]
        .into_iter()
        .chain(clients)
        .collect()
    }
}
