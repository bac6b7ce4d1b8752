//! What would change in clusters, as their API servers say.
//!
//! What a cluster is to have comes from the planner, as for the controller. Every change is tried by
//! a dry run, so that what is shown has the defaults and the refusals of the API server that would
//! take it. Nothing is written anywhere.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use spillway_api::MeshCluster;
use spillway_controller::engine::write::FIELD_MANAGER;
use spillway_controller::observe::kinds::Kind;
use spillway_plan::diff::{self, Action};
use spillway_plan::output::{Key, MANAGED_BY};
use spillway_plan::{ControlPlane, Plan, Text};

use super::seen::{DEADLINE, Member};
use crate::connection::{Cluster, Connection};
use crate::reach;

/// What API servers add, and what differs without a difference.
const ADDED: [&str; 5] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "generation",
];

/// An object that would change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) cluster: String,
    pub(super) object: String,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
    /// Why the API server would not take it.
    pub(super) refused: Option<String>,
}

/// What would change in the clusters that are known.
pub(super) async fn changes(
    connection: &Connection,
    hub: &Cluster,
    clusters: &[MeshCluster],
    plan: &Plan,
    members: &BTreeMap<String, Member>,
) -> Vec<(String, Result<Vec<Change>, String>)> {
    let known: Vec<MeshCluster> = clusters
        .iter()
        .filter(|cluster| {
            let name = cluster.name_any();
            plan.control_planes.contains_key(&name) && members.contains_key(&name)
        })
        .cloned()
        .collect();
    let tried = |name: String, client: Client| async move {
        let (Some(wanted), Some(member)) = (plan.control_planes.get(&name), members.get(&name))
        else {
            return Ok(Vec::new());
        };
        let mut changes = Vec::new();
        for (before, after) in ends(wanted, &member.deployed) {
            changes.extend(change(&name, &client, before, after).await);
        }
        Ok(changes)
    };
    reach::ask(connection, hub, &known, DEADLINE, tried).await
}

/// What an API server makes of a change; nothing where that is none.
async fn change(
    cluster: &str,
    client: &Client,
    before: Option<Value>,
    after: Option<Value>,
) -> Option<Change> {
    let object = crate::objects::shown(after.as_ref().or(before.as_ref())?);
    let (after, refused) = match after {
        Some(after) => match try_out(client, &after, before.is_some()).await {
            Ok(tried) => (Some(tried), None),
            Err(why) => (Some(after), Some(why)),
        },
        None => (None, None),
    };
    let (before, after) = (before.map(bare), after.map(bare));
    (before != after).then(|| Change {
        cluster: cluster.to_owned(),
        object,
        before,
        after,
        refused,
    })
}

/// Every object that would change, as it is and as it is to be once all is done: a rule changes in
/// two steps.
fn ends(wanted: &ControlPlane, deployed: &[Text]) -> Vec<(Option<Value>, Option<Value>)> {
    let before: Vec<Value> = deployed.iter().map(Text::value).collect();
    let mut now = before.clone();
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    let mut ends = Vec::new();
    for step in 0..3 {
        for change in diff::changes(wanted, &now) {
            match change.action {
                Action::Apply { key, object } => {
                    now.retain(|other| Key::of(other).as_ref() != Some(&key));
                    now.push(object);
                    keys.insert(key);
                }
                Action::Delete { key, .. } => {
                    now.retain(|other| Key::of(other).as_ref() != Some(&key));
                    keys.insert(key);
                }
                Action::Replace { object, .. } if step == 0 => {
                    let edits = wanted.edits.iter();
                    let mut edits = edits.filter(|edit| Key::of(&edit.after) == Key::of(&object));
                    let before = edits.next().map(|edit| Value::clone(&edit.before));
                    ends.push((before, Some(object)));
                }
                Action::Replace { .. } => {}
            }
        }
    }
    let find = |all: &[Value], key: &Key| {
        all.iter()
            .find(|object| Key::of(object).as_ref() == Some(key))
            .cloned()
    };
    ends.extend(keys.iter().map(|key| (find(&before, key), find(&now, key))));
    ends
}

/// What an API server makes of an object, which it does not keep.
async fn try_out(client: &Client, object: &Value, is_there: bool) -> Result<Value, String> {
    let key = Key::of(object).ok_or("its kind is not known")?;
    let kind = key
        .kind()
        .and_then(Kind::of_ours)
        .ok_or("its kind is not known")?;
    let all: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &key.namespace, &kind.resource());
    let is_ours = object
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some();
    let tried = if is_ours {
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let mut object = object.clone();
        if let (Some(metadata), false) = (
            object.get_mut("metadata").and_then(Value::as_object_mut),
            is_there,
        ) {
            metadata.remove("resourceVersion");
        }
        all.patch(&key.name, &parameters, &Patch::Apply(&object))
            .await
    } else {
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"spec": {"http": object.pointer("/spec/http")}}));
        all.patch(&key.name, &parameters, &patch).await
    };
    let tried = tried.map_err(|error| error.to_string())?;
    serde_json::to_value(tried).map_err(|error| error.to_string())
}

/// Without what API servers add.
fn bare(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ADDED {
            metadata.remove(field);
        }
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object
}
