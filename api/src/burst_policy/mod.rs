//! `BurstPolicy`: which services overflow, above what, and to where.
//!
//! It stands beside its services on the hub, attached to them as Gateway API attaches policies.
//! What a rule of the schema cannot tell is validated by the planner.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;
use crate::schema;

mod behaviour;
mod capacity;
mod clients;
mod status;

pub use behaviour::{
    Bodies, Bounce, Class, Enforcement, Force, Mode, OnExhausted, Override, Route, RouteMatch,
    Routing, Scope, SwitchLimits, UserRetries,
};
pub use capacity::{Amount, Capacity, CapacityOverride};
pub use clients::{Clients, WorkloadSelector};
pub use status::{ApplyState, BurstPolicyStatus, ClusterState};

/// What people declare about services that may overflow into other clusters.
#[derive(Clone, Debug, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "BurstPolicy",
    plural = "burstpolicies",
    singular = "burstpolicy",
    shortname = "bp",
    category = "spillway",
    namespaced,
    status = "BurstPolicyStatus",
    derive = "PartialEq",
    doc = "Lets services overflow into other clusters while their demand exceeds what home can serve.",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.targetRefs[0].name",
        description = "The first service that overflows"
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Spill: the excess only; Switch: all, with hysteresis"
    ),
    printcolumn(
        name = "Enforcement",
        type_ = "string",
        json_path = ".spec.enforcement",
        description = "Shadow decides and counts, and changes nothing"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether it can be carried out as written"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether every cluster has it"
    ),
    printcolumn(
        name = "Clusters",
        type_ = "string",
        json_path = ".status.summary",
        description = "Clusters that have it, of those that should"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Home",
        type_ = "string",
        json_path = ".spec.home",
        description = "Empty: the caller's own cluster",
        priority = 1
    ),
    printcolumn(
        name = "Bounce",
        type_ = "string",
        json_path = ".spec.bounce",
        description = "Whether a full service may turn requests away to be repeated elsewhere",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].message",
        description = "Why it is not accepted, or what is to be known about it",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.home) || !self.overflow.exists(r, has(r.cluster) && r.cluster == self.home)")
        .message("home is a rung of overflow too: leave it out of overflow, requests stay home as long as there is room"),
    validation = Rule::new("self.mode == 'Switch' ? has(self.switch) : true")
        .message("mode Switch needs its limits: write switch: {enter: \"15/s\", leave: \"10/s\"}"),
    validation = Rule::new("self.mode == 'Switch' ? true : !has(self.switch)")
        .message("switch belongs to mode Switch: write mode: Switch, or leave switch out"),
    validation = Rule::new("self.mode == 'Spill' ? has(self.capacity) : true")
        .message("mode Spill spills what exceeds the capacity: write capacity: {perEndpoint: {rate: \"50/s\"}}, or total"),
    validation = Rule::new("self.onExhausted == 'Shed' ? has(self.capacity) : true")
        .message("onExhausted: Shed sheds what exceeds the capacity: write a capacity, or onExhausted: Home")
)]
pub struct BurstPolicySpec {
    /// The services that overflow, each by itself.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, a.name == b.name && (has(a.sectionName) ? a.sectionName : '') == (has(b.sectionName) ? b.sectionName : '')))")
            .message("a service stands here twice: name it once, or each time with another sectionName"),
        validation = Rule::new("self.all(a, has(a.sectionName) || self.exists_one(b, a.name == b.name))")
            .message("a service stands here with and without sectionName: without means all of its ports, so leave the others out")
    )]
    pub target_refs: Vec<TargetRef>,

    /// The cluster where requests stay as long as there is room; by default the caller's own.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,

    /// Where the excess goes, in this order.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, (has(a.cluster) ? a.cluster : '') == (has(b.cluster) ? b.cluster : '') && (has(a.fleet) ? a.fleet : '') == (has(b.fleet) ? b.fleet : '')))")
            .message("a cluster or fleet is a rung already: name it once, at the place where it is to be tried first")
    )]
    pub overflow: Vec<Rung>,

    /// The excess only, or all above a limit, with hysteresis.
    #[serde(default)]
    pub mode: Mode,

    /// The limits of mode Switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchLimits>,

    /// What home serves. Without a home, what each cluster serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,

    /// Who calls. By default the workloads of the policy's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,

    /// Whether a full service may turn a request away, to be repeated in another cluster before
    /// the caller notices.
    #[serde(default)]
    pub bounce: Bounce,

    /// Which requests may be turned away, by their bodies: Envoy has to keep a body to repeat it.
    #[serde(default)]
    pub bodies: Bodies,

    /// What happens to bounces where the user's own retries would change their meaning.
    #[serde(default)]
    pub user_retries: UserRetries,

    /// Requests that are treated otherwise, by their path.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, a.match.pathPrefix == b.match.pathPrefix))")
            .message("a pathPrefix stands here twice: write each once")
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,

    /// Whether it acts, or decides and counts only.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// All home, or all to the first rung, for a time.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub override_: Option<Override>,

    /// What happens when home and all rungs are full.
    #[serde(default)]
    pub on_exhausted: OnExhausted,

    /// Whether the routes stand in a VirtualService of Spillway's own, or in the user's.
    #[serde(default)]
    pub routing: Routing,
}

/// A service, as Gateway API's policies refer to their targets.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// The core group.
    #[schemars(extend("enum" = [""]))]
    #[serde(default)]
    pub group: String,
    /// Services only.
    #[serde(default)]
    pub kind: TargetKind,
    /// The name of a Service in the policy's namespace.
    #[schemars(schema_with = "schema::service_name")]
    pub name: String,
    /// The name of one of its ports; by default all of them.
    #[schemars(schema_with = "schema::port_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// What a policy may target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum TargetKind {
    /// A Service of the core group.
    #[default]
    Service,
}

/// Where excess goes: a cluster, or a fleet's clusters in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cluster) != has(self.fleet)")
        .message("write one of cluster and fleet")
)]
pub struct Rung {
    /// A MeshCluster.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A Fleet.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// What one calling proxy sends to one of its clusters at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Rate>,
}
