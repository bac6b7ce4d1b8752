//! What is kept of an object that was seen: what a plan or a writer asks for, and no more.
//!
//! Of an EndpointSlice that is a count: there are thousands of them, and they change all the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::DynamicObject;
use serde_json::Value;
use spillway_plan::output::{INTENT, MANAGED_BY, SPILLWAY};
use spillway_plan::{Text, names};

use super::kinds::Kind;
use crate::engine::write::FIELD_MANAGER;

/// The label of EndpointSlices that names their service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is kept of an object.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A plan reads them again and again …
    Users(Arc<Value>),
    /// … and one of these whenever something of its cluster has changed.
    Ours(Text),
    Service(Arc<Service>),
    Slice(Slice),
    Labels(BTreeMap<String, String>),
}

/// What is kept of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) service: String,
    pub(super) ready: u32,
    pub(super) ports: BTreeMap<String, u16>,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) version: u64,
    pub(super) entry: Entry,
    /// Who changed it last besides us, where it is ours.
    pub(super) changed_by: Option<String>,
}

impl Seen {
    /// An object of a kind that is kept whole.
    pub(super) fn whole(&self) -> Option<Value> {
        match &self.entry {
            Entry::Users(value) => Some(Value::clone(value)),
            Entry::Ours(text) => Some(text.value()),
            _ => None,
        }
    }

    /// An object of ours.
    pub(super) const fn ours(&self) -> Option<&Text> {
        match &self.entry {
            Entry::Ours(text) => Some(text),
            _ => None,
        }
    }

    pub(super) const fn is_ours(&self) -> bool {
        self.ours().is_some()
    }
}

/// Whether an object has our label, or had it before somebody took it off: then it still has our
/// name and our annotation, and would otherwise pass for a user's that is in the way.
fn is_ours(value: &Value) -> bool {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str);
    let annotations = value.pointer("/metadata/annotations");
    let labels = value.pointer("/metadata/labels");
    let has_name = text("/metadata/name").is_some_and(|name| name.starts_with(names::PREFIX));
    labels.and_then(|labels| labels.get(MANAGED_BY)?.as_str()) == Some(SPILLWAY)
        || has_name && annotations.is_some_and(|annotations| annotations.get(INTENT).is_some())
}

/// Whether a change is none: a status or a heartbeat.
pub(super) fn is_same(old: &Entry, new: &Entry) -> bool {
    match (old, new) {
        (Entry::Slice(old), Entry::Slice(new)) => old == new,
        (Entry::Labels(old), Entry::Labels(new)) => old == new,
        _ => false,
    }
}

pub(super) fn version(object: &DynamicObject) -> u64 {
    let version = object.metadata.resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

/// What is kept of an object, by its name; nothing of one that cannot be read.
pub(super) fn seen(kind: Kind, mut object: DynamicObject) -> Option<(String, Seen)> {
    let version = version(&object);
    let name = object.metadata.name.clone()?;
    let fields = object.metadata.managed_fields.take().unwrap_or_default();
    let entry = match kind {
        Kind::Namespace => Entry::Labels(object.metadata.labels.unwrap_or_default()),
        Kind::Service => Entry::Service(Arc::new(object.try_parse().ok()?)),
        Kind::EndpointSlice => Entry::Slice(slice(&object.try_parse().ok()?)?),
        _ => {
            let value = serde_json::to_value(object).ok()?;
            if is_ours(&value) {
                Entry::Ours(Text::from(&value))
            } else {
                Entry::Users(Arc::new(value))
            }
        }
    };
    let mut seen = Seen {
        version,
        entry,
        changed_by: None,
    };
    if seen.is_ours() {
        seen.changed_by = other_manager(fields);
    }
    Some((name, seen))
}

fn other_manager(fields: Vec<ManagedFieldsEntry>) -> Option<String> {
    let others = fields
        .into_iter()
        .filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    others.max_by_key(|entry| entry.time.clone())?.manager
}

fn slice(slice: &EndpointSlice) -> Option<Slice> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
    // No word about readiness means ready.
    let ready = |endpoint: &&k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let count = slice.endpoints.iter().flatten().filter(ready).count();
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port?).ok()?;
        Some((port.name.clone().unwrap_or_default(), number))
    });
    Some(Slice {
        service,
        ready: u32::try_from(count).unwrap_or(u32::MAX),
        ports: ports.collect(),
    })
}
