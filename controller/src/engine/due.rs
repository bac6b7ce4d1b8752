//! The writes that a control plane lacks, and whom each concerns.
//!
//! A write that fails is reported to the policies behind the object, and holds up only theirs. An
//! object of ours names them in an annotation; what is to be removed, or taken from a policy, still
//! names those that wanted it.

use std::collections::BTreeSet;

use serde_json::Value;
use spillway_api::istio::Kind;
use spillway_plan::diff::{self, Action, Change, Stage};
use spillway_plan::output::{Key, POLICIES};
use spillway_plan::{ControlPlane, Text};

use crate::observe::index::Index;
use crate::observe::kinds;

/// A write that is due.
pub(super) struct Due {
    pub(super) change: Change,
    pub(super) key: Key,
    /// The policies that want the object, or wanted what is there.
    pub(super) policies: BTreeSet<String>,
    /// The object is as it should be, and proxies are to be given it anew.
    pub(super) renews: bool,
}

impl Due {
    pub(super) const fn stage(&self) -> Stage {
        self.change.stage
    }

    /// Whether it gives proxies a configuration.
    pub(super) fn is_plugin(&self) -> bool {
        let applies = matches!(self.change.action, Action::Apply { .. });
        applies && self.key.kind() == Some(Kind::WASM_PLUGIN)
    }

    /// Whether it writes into a user's object.
    pub(super) const fn is_edit(&self) -> bool {
        matches!(self.change.action, Action::Replace { .. })
    }

    /// Whether an object goes away.
    pub(super) const fn is_removal(&self) -> bool {
        matches!(self.change.action, Action::Delete { .. })
    }

    /// As in a log line.
    pub(super) const fn verb(&self) -> &'static str {
        match self.change.action {
            Action::Apply { .. } => "apply",
            Action::Replace { .. } => "edit",
            Action::Delete { .. } => "delete",
        }
    }
}

/// All of them, in the order in which they are to be made.
pub(super) fn all(wanted: &ControlPlane, index: &Index) -> Vec<Due> {
    let deployed: Vec<Value> = index.deployed().iter().map(Text::value).collect();
    let changes = diff::changes(wanted, &deployed).into_iter();
    let due = changes.filter_map(|change| {
        let key = key_of(&change.action)?;
        let policies = policies_of(wanted, index, &change.action, &key);
        Some(Due {
            change,
            key,
            policies,
            renews: false,
        })
    });
    due.collect()
}

/// The write that gives proxies an object anew which is as it should be.
pub(super) fn renewal(wanted: &ControlPlane, index: &Index, key: &Key) -> Option<Due> {
    let object = wanted.objects.iter().find(|object| object.key() == *key)?;
    let kind = kinds::Kind::of_ours(key.kind()?)?;
    let there = index.found(&(kind, key.namespace.clone()), &key.name)?;
    Some(Due {
        change: diff::renewal(object, &there),
        key: key.clone(),
        policies: object.policies.clone(),
        renews: true,
    })
}

fn key_of(action: &Action) -> Option<Key> {
    match action {
        Action::Apply { key, .. } | Action::Delete { key, .. } => Some(key.clone()),
        Action::Replace { object, .. } => Key::of(object),
    }
}

fn policies_of(
    wanted: &ControlPlane,
    index: &Index,
    action: &Action,
    key: &Key,
) -> BTreeSet<String> {
    let kind = key.kind().and_then(kinds::Kind::of_ours);
    let there = kind.and_then(|kind| index.found(&(kind, key.namespace.clone()), &key.name));
    let mut policies = there.as_ref().map(named_in).unwrap_or_default();
    match action {
        Action::Apply { object, .. } => policies.extend(named_in(object)),
        Action::Replace { .. } => {
            let mut edits = wanted.edits.iter();
            let edit = edits.find(|edit| Key::of(&edit.before).as_ref() == Some(key));
            policies.extend(edit.into_iter().flat_map(|edit| edit.policies.clone()));
        }
        Action::Delete { .. } => {}
    }
    policies
}

/// The policies that an object of ours names.
fn named_in(object: &Value) -> BTreeSet<String> {
    let annotations = object.pointer("/metadata/annotations");
    let named = annotations.and_then(|annotations| annotations.get(POLICIES)?.as_str());
    let named = named.into_iter().flat_map(|named| named.split(','));
    named.map(str::to_owned).collect()
}
