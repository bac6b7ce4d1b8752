//! From the objects that are there to those that are wanted, in an order in which no request is
//! lost.
//!
//! A route that leads to a subset which is not there loses requests; so does a header that leads
//! to a route which is not there, though only the overflow's. So what is used is written before
//! what uses it, and removed after it. A subset that goes away stays until its routes are gone:
//! then the rule is written with the old subsets too, and again without them when nothing else is
//! left to do. So a writer asks again after it has written, until nothing is left; between the
//! stages it gives the proxies time to follow. Within one, routes come before plugins and the
//! server's side before the caller's; removals come after, in reverse.
//!
//! An object whose content differs from what is wanted is written in its next generation, whoever
//! changed it. So generations count up without anybody having to remember them, and an object that
//! is as it should be is not touched.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spillway_api::istio::Kind;

use crate::names;
use crate::output::{self, ControlPlane, Key, Object};
use crate::text::Text;

/// When a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What others will use.
    First,
    /// What uses it.
    Second,
    /// What nobody uses any more.
    Last,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub stage: Stage,
    /// What.
    pub action: Action,
}

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An object of ours, by server-side apply. With the resourceVersion of what it was compared
    /// with, so that a writer that slept replaces nothing newer; without one it is to be created.
    Apply {
        /// Where it is.
        key: Key,
        /// The whole object.
        object: Value,
    },
    /// A user's VirtualService, by update with its resourceVersion.
    Replace {
        /// The whole object.
        object: Value,
        /// No policy wants our routes in it any more.
        takes_out: bool,
    },
    /// An object of ours that nobody wants.
    Delete {
        /// Where it is.
        key: Key,
        /// Its uid, so that a namesake is not deleted.
        uid: Option<String>,
    },
}

/// What has to be written. `actual` are the objects with our label in the control plane's
/// configuration cluster.
#[must_use]
pub fn changes<'a>(
    wanted: &ControlPlane,
    actual: impl IntoIterator<Item = &'a Value>,
) -> Vec<Change> {
    let actual: BTreeMap<Key, &Value> = actual
        .into_iter()
        .filter(|object| output::is_ours(object))
        .filter_map(|object| Some((Key::of(object)?, object)))
        .filter(|(key, _)| !wanted.held.contains(key))
        .collect();
    let mut changes = Vec::new();
    for object in &wanted.objects {
        apply(object, actual.get(&object.key()).copied(), &mut changes);
    }
    for edit in wanted
        .edits
        .iter()
        .filter(|edit| *edit.before != edit.after)
    {
        changes.push(Change {
            stage: Stage::Second,
            action: Action::Replace {
                object: edit.after.clone(),
                takes_out: edit.policies.is_empty(),
            },
        });
    }
    let wanted_keys: BTreeSet<Key> = wanted.objects.iter().map(Object::key).collect();
    for (key, object) in actual {
        if wanted_keys.contains(&key) {
            continue;
        }
        let is_rule = key.kind() == Some(Kind::DESTINATION_RULE);
        changes.push(Change {
            stage: if is_rule { Stage::Last } else { Stage::Second },
            action: Action::Delete {
                uid: text(object, "/metadata/uid"),
                key,
            },
        });
    }
    changes.sort_by_key(|change| (change.stage, rank(&change.action)));
    changes
}

/// The place of a write within its stage.
fn rank(action: &Action) -> u8 {
    let is_plugin = |key: &Key| key.kind() == Some(Kind::WASM_PLUGIN);
    match action {
        Action::Apply { key, .. } if !is_plugin(key) => 0,
        Action::Replace { takes_out, .. } if !takes_out => 0,
        Action::Apply { key, .. } if key.name == names::SERVER => 1,
        Action::Apply { .. } => 2,
        Action::Delete { key, .. } if key.name == names::CLIENT && is_plugin(key) => 3,
        Action::Delete { key, .. } if is_plugin(key) => 4,
        Action::Delete { .. } | Action::Replace { .. } => 5,
    }
}

fn apply(wanted: &Object, actual: Option<&Value>, changes: &mut Vec<Change>) {
    let generation = actual.map_or(0, generation_of);
    if let Some(actual) = actual
        && is_as(&wanted.to_value(generation), actual)
    {
        return;
    }
    let next = generation.saturating_add(1);
    let is_rule = wanted.kind == Kind::DESTINATION_RULE;
    let with_old = actual.filter(|_| is_rule).and_then(|a| with_old(wanted, a));
    let (stage, object) = match with_old {
        None if is_rule => (Stage::First, wanted.to_value(next)),
        None => (Stage::Second, wanted.to_value(next)),
        Some(_) if is_within(wanted, actual) => (Stage::Last, wanted.to_value(next)),
        Some(both) => (Stage::First, both.to_value(next)),
    };
    changes.push(Change {
        stage,
        action: Action::Apply {
            key: wanted.key(),
            object: with_version(object, actual),
        },
    });
}

/// The same once more: an object that is as it should be, in its next generation, so that proxies
/// are given it anew.
#[must_use]
pub fn renewal(wanted: &Object, actual: &Value) -> Change {
    let next = generation_of(actual).saturating_add(1);
    Change {
        stage: Stage::Second,
        action: Action::Apply {
            key: wanted.key(),
            object: with_version(wanted.to_value(next), Some(actual)),
        },
    }
}

/// The wanted rule with the subsets of the actual one that are not wanted any more.
fn with_old(wanted: &Object, actual: &Value) -> Option<Object> {
    let mut spec = wanted.spec.value();
    let subsets = spec.get_mut("subsets")?.as_array_mut()?;
    let more: Vec<Value> = actual
        .pointer("/spec/subsets")?
        .as_array()?
        .iter()
        .filter(|old| subsets.iter().all(|new| new.get("name") != old.get("name")))
        .cloned()
        .collect();
    if more.is_empty() {
        return None;
    }
    subsets.extend(more);
    Some(Object {
        spec: Text::from(&spec),
        ..wanted.clone()
    })
}

/// Whether all that the wanted rule has is there already.
fn is_within(wanted: &Object, actual: Option<&Value>) -> bool {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
    let old = list(actual.and_then(|actual| actual.pointer("/spec/subsets"))).unwrap_or_default();
    list(wanted.spec.value().get("subsets"))
        .unwrap_or_default()
        .iter()
        .all(|subset| old.contains(subset))
}

/// Whether an object has all that is wanted of it: its spec, and our labels and annotations.
fn is_as(wanted: &Value, actual: &Value) -> bool {
    let same = |path: &str| wanted.pointer(path) == actual.pointer(path);
    let has_all = |path: &str| {
        let of = |object: &Value| object.pointer(path).and_then(Value::as_object).cloned();
        let there = of(actual).unwrap_or_default();
        of(wanted)
            .unwrap_or_default()
            .iter()
            .all(|(key, value)| there.get(key) == Some(value))
    };
    same("/spec") && has_all("/metadata/labels") && has_all("/metadata/annotations")
}

fn with_version(mut object: Value, actual: Option<&Value>) -> Value {
    let version = actual.and_then(|actual| text(actual, "/metadata/resourceVersion"));
    if let (Some(version), Some(metadata)) = (version, object.pointer_mut("/metadata"))
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("resourceVersion".to_owned(), Value::String(version));
    }
    object
}

/// The generation that an object says to have.
fn generation_of(object: &Value) -> u64 {
    let annotations = object.pointer("/metadata/annotations");
    annotations
        .and_then(|annotations| annotations.get(output::GENERATION)?.as_str())
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn text(object: &Value, path: &str) -> Option<String> {
    object.pointer(path)?.as_str().map(str::to_owned)
}
