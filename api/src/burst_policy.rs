//! `BurstPolicy`: which services overflow, above what, and to where.
//!
//! It stands beside its services on the hub, attached to them as Gateway API attaches policies.
//! What a rule of the schema cannot tell is validated by the planner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;
use crate::schema;

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

/// How a policy spills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Mode {
    /// The excess only.
    #[default]
    Spill,
    /// All or nothing, with hysteresis.
    Switch,
}

/// The limits of mode Switch.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.enter.matches('^[0-9]{1,7}/[smh]$') || !self.leave.matches('^[0-9]{1,7}/[smh]$') || int(self.enter.split('/')[0]) * (self.enter.endsWith('s') ? 3600 : self.enter.endsWith('m') ? 60 : 1) > int(self.leave.split('/')[0]) * (self.leave.endsWith('s') ? 3600 : self.leave.endsWith('m') ? 60 : 1)")
        .message("leave must be below enter: write a lower rate, such as enter: \"15/s\", leave: \"10/s\"")
)]
pub struct SwitchLimits {
    /// Above it all requests leave home.
    pub enter: Rate,
    /// Below it all come back.
    pub leave: Rate,
}

/// What clusters serve. The amount written here is that of home, or of each cluster where no home
/// is named; a rung has a limit only where `overrides` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.perEndpoint) && has(self.total))")
        .message("write one of perEndpoint and total"),
    validation = Rule::new("has(self.perEndpoint) || has(self.total) || (has(self.overrides) && size(self.overrides) > 0)")
        .message("a capacity says nothing: write perEndpoint: {rate: \"50/s\"}, or total")
)]
pub struct Capacity {
    /// What each ready endpoint serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_endpoint: Option<Amount>,
    /// What all ready endpoints of the cluster serve together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Amount>,
    /// What other clusters serve. One that names a cluster goes before one that names its fleet.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, (has(a.cluster) ? a.cluster : '') == (has(b.cluster) ? b.cluster : '') && (has(a.fleet) ? a.fleet : '') == (has(b.fleet) ? b.fleet : '')))")
            .message("a cluster or fleet has a capacity already: write it once")
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<CapacityOverride>,
}

/// What one cluster serves, or each cluster of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cluster) != has(self.fleet)")
        .message("write one of cluster and fleet"),
    validation = Rule::new("has(self.perEndpoint) != has(self.total)")
        .message("write one of perEndpoint and total")
)]
pub struct CapacityOverride {
    /// A MeshCluster.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A Fleet.
    #[schemars(schema_with = "schema::object_name")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// What each ready endpoint serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_endpoint: Option<Amount>,
    /// What all ready endpoints of the cluster serve together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Amount>,
}

/// A rate, a number of requests at once, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.rate) || has(self.concurrency)")
        .message("write a rate, a concurrency, or both")
)]
pub struct Amount {
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Requests in flight.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// Which workloads call the services.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clients {
    /// Their namespaces; by default the policy's own.
    #[schemars(schema_with = "schema::namespaces")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Which of their workloads; by default all.
    #[serde(default, skip_serializing_if = "WorkloadSelector::is_empty")]
    pub selector: WorkloadSelector,
}

/// Workloads by their labels, as in Istio's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// All of these labels are there.
    #[schemars(schema_with = "schema::match_labels")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    /// It takes in every workload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty()
    }
}

/// Whether requests may be turned away by a full service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Bounce {
    /// They may, as long as Envoy repeats them only in clusters that the policy names.
    #[default]
    On,
    /// They may not; callers learn of the load from answers.
    Off,
    /// They may, into any cluster that has endpoints of the service.
    AnyCluster,
}

/// Which requests may be turned away, by their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Bodies {
    /// Those without a body.
    Never,
    /// Also those of at most 64 KiB, and gRPC.
    #[default]
    Small,
    /// Also those of unknown length.
    Buffered,
}

/// What counts where a user's own retries meet bounces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum UserRetries {
    /// The user's: bounces are off there.
    #[default]
    Respect,
    /// Spillway's, in the routes and subsets that it adds.
    Replace,
}

/// How a part of the requests is treated.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Which requests.
    pub r#match: RouteMatch,
    /// How.
    pub class: Class,
}

/// Which requests.
#[derive(Clone, Debug, PartialEq, Eq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// What their path begins with.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.startsWith('/')").message("write a path that begins with /")
    )]
    pub path_prefix: String,
}

/// How requests are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Class {
    /// They never leave home.
    Never,
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Enforcement {
    /// It does.
    #[default]
    Active,
    /// It decides, counts and logs, and changes nothing.
    Shadow,
}

/// A decision by hand. It ends by itself.
#[derive(Clone, Debug, PartialEq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Where all requests go.
    pub force: Force,
    /// When it ends, as in `2026-12-01T08:00:00Z`.
    #[x_kube(
        validation = Rule::new("self > timestamp('2020-01-01T00:00:00Z')")
            .message("write the time at which the override ends, such as \"2026-12-01T08:00:00Z\"; it lies long ago")
    )]
    pub until: Time,
}

/// Where an override sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Force {
    /// All home.
    Home,
    /// All to the first rung.
    Overflow,
}

/// What happens when home and all rungs are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OnExhausted {
    /// Home serves it all the same.
    #[default]
    Home,
    /// The caller gets 503 (gRPC: RESOURCE_EXHAUSTED) with the reason.
    Shed,
}

/// Where the routes stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Routing {
    /// In a VirtualService of Spillway's own, which is written only while the user has none.
    #[default]
    Own,
    /// In the user's VirtualServices, before each of the user's routes; taken out again by name.
    Merge,
}

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BurstPolicyStatus {
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Programmed`, and what is to be known besides.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Clusters that have the policy, of those that should, such as `11/12`.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How many clusters should have it.
    #[serde(default)]
    pub desired: u32,
    /// How many have it in its newest generation.
    #[serde(default)]
    pub applied: u32,
    /// How many could not be written to.
    #[serde(default)]
    pub failed: u32,
    /// The clusters by name: those that do not have it first, at most 64.
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterState>,
}

/// What became of a policy in one cluster.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// The MeshCluster.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The generation that was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// How far it is.
    pub state: ApplyState,
    /// Why it is not applied.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When this state began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// How far one cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum ApplyState {
    /// It has the newest generation.
    Applied,
    /// It is to be written.
    Pending,
    /// The last write failed.
    Failed,
}
