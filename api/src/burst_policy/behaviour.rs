//! How a policy acts: each of its choices with the default first.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;

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
    /// Whose requests these limits count.
    #[serde(default)]
    pub scope: Scope,
}

/// Whose requests the limits of mode Switch count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Scope {
    /// Each caller's own: a caller leaves and returns by itself.
    #[default]
    Caller,
    /// Those of all callers together, which leave and return together.
    Service,
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
