//! What a plan says: objects for every control plane, and a report for every policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use spillway_api::istio::Kind;

use crate::conditions::Condition;
use crate::text::Text;

/// The label of all that is ours.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const SPILLWAY: &str = "spillway";
/// The policies that want an object.
pub const POLICIES: &str = "spillway.dev/policies";
/// The hash of what an object is to be, without its generation.
pub const INTENT: &str = "spillway.dev/intent";
/// Counts up with every change of the intent.
pub const GENERATION: &str = "spillway.dev/generation";

/// A plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What every control plane is to have, by MeshCluster. One that is not here was not reached,
    /// or cannot be written to: leave it as it is.
    pub control_planes: BTreeMap<String, Arc<ControlPlane>>,
    /// What became of every policy, by `NAMESPACE/NAME`.
    pub policies: BTreeMap<String, PolicyReport>,
    /// Why clusters are not used, by MeshCluster.
    pub clusters: BTreeMap<String, String>,
    /// The clusters in which no filter of ours can run: read only, attached twice, or without
    /// Istio, by MeshCluster.
    pub idle: BTreeSet<String>,
    /// The clusters of every fleet, in the order in which they are rungs.
    pub fleets: BTreeMap<String, Vec<String>>,
}

/// What one control plane is to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlPlane {
    /// Objects of ours, in the order in which they are written.
    pub objects: Vec<Object>,
    /// VirtualServices of users with our routes in or, where they are no longer wanted, out.
    pub edits: Vec<Edit>,
    /// Objects about which nothing is known now: neither change nor delete them.
    pub held: BTreeSet<Key>,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its place in [`Kind::ALL`], and with it its place in the order of writes.
    pub order: usize,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object of a kind that is written.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let order = Kind::ALL.iter().position(|known| *known == kind);
        Self {
            order: order.unwrap_or(Kind::ALL.len()),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of an object as an API server gives it; `None` for what is not written.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let kind = object.get("kind")?.as_str()?;
        let kind = Kind::ALL.into_iter().find(|known| known.kind == kind)?;
        let metadata = object.get("metadata")?;
        Some(Self::new(
            kind,
            metadata.get("namespace")?.as_str()?,
            metadata.get("name")?.as_str()?,
        ))
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.get(self.order).copied()
    }
}

/// An object of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The policies that want it, by `NAMESPACE/NAME`.
    pub policies: BTreeSet<String>,
    /// What it is to be. The configuration of a plugin has no generation yet: [`crate::diff`]
    /// gives it one when it differs from what is deployed.
    pub spec: Text,
}

/// More policies than this are not named in an annotation, which has a bounded size.
const MAX_NAMED: usize = 64;

impl Object {
    /// Where it is.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.kind, &self.namespace, &self.name)
    }

    /// The hash of what it is to be.
    #[must_use]
    pub fn intent(&self) -> String {
        crate::names::hash(self.spec.as_str().as_bytes())
    }

    /// The whole object, as it is applied in its `generation`.
    #[must_use]
    pub fn to_value(&self, generation: u64) -> Value {
        let mut spec = self.spec.value();
        if let Some(Value::Object(config)) = spec.get_mut("pluginConfig") {
            config.insert("generation".to_owned(), json!(generation));
        }
        let mut policies: Vec<&str> = self.policies.iter().map(String::as_str).collect();
        let more = policies.len().saturating_sub(MAX_NAMED);
        policies.truncate(MAX_NAMED);
        let mut policies = policies.join(",");
        if more > 0 {
            policies.push_str(&format!(" and {more} more"));
        }
        json!({
            "apiVersion": self.kind.api_version(),
            "kind": self.kind.kind,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {MANAGED_BY: SPILLWAY},
                "annotations": {
                    POLICIES: policies,
                    INTENT: self.intent(),
                    GENERATION: generation.to_string(),
                },
            },
            "spec": spec,
        })
    }
}

/// A change of an object that is a user's.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// As it was read, with its resourceVersion.
    pub before: Arc<Value>,
    /// As it is to be; nothing but `spec.http` differs.
    pub after: Value,
    /// The policies that want our routes in it; none where they are taken out.
    pub policies: BTreeSet<String>,
}

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyReport {
    /// What its owner is told, every type each time.
    pub conditions: Vec<Condition>,
    /// The control planes that should have something of it, by MeshCluster.
    pub control_planes: BTreeSet<String>,
}

/// Whether an object is ours.
pub(crate) fn is_ours(object: &Value) -> bool {
    object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .and_then(|labels: &Map<String, Value>| labels.get(MANAGED_BY))
        .is_some_and(|by| by == SPILLWAY)
}

/// Whether an object of ours names one of these policies. One whose list was cut may name any.
pub(crate) fn names_any(object: &Value, policies: &BTreeSet<String>) -> bool {
    let annotations = object.pointer("/metadata/annotations");
    let named = annotations.and_then(|annotations| annotations.get(POLICIES)?.as_str());
    let mut named = named.into_iter().flat_map(|named| named.split(','));
    named.any(|policy| policy.contains(' ') || policies.contains(policy))
}
