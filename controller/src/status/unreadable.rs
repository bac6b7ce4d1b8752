//! What is told of a resource that cannot be read: one condition, beside those that it has.
//!
//! The rest of its status is a newer version's, or older than the resource; it is left as it is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::conditions::{Holds, Stated, conditions};
use super::whole_seconds;
use crate::observe::read::Unreadable;

/// The conditions before and now, and the object with the latter; nothing where they are there
/// already.
pub(super) fn told(
    unreadable: &Unreadable,
    kind: &'static str,
    now: &Time,
) -> Option<(Vec<Condition>, Vec<Condition>, DynamicObject)> {
    let mut object = unreadable.object.clone();
    let generation = object.metadata.generation;
    let status = object.data.get("status");
    let listed = status.and_then(|status| status.get("conditions")?.as_array());
    let listed = listed.into_iter().flatten().cloned();
    let before: Vec<Condition> = listed
        .filter_map(|condition| serde_json::from_value(condition).ok())
        .collect();
    let message = format!(
        "this version of the controller cannot read it, so what was made of it stays as it is: {}",
        unreadable.error
    );
    let stated = Stated::new(kind, Holds::False, "Unreadable", message);
    let mut after = conditions(&before, [stated], generation, &whole_seconds(now));
    let others = before.iter().filter(|condition| condition.type_ != kind);
    after.extend(others.cloned());
    if before.len() == after.len() && before.iter().all(|condition| after.contains(condition)) {
        return None;
    }
    let data = object.data.as_object_mut()?;
    let status = data.entry("status").or_insert_with(|| json!({}));
    let status = status.as_object_mut()?;
    status.insert(
        "conditions".to_owned(),
        serde_json::to_value(&after).unwrap_or(Value::Null),
    );
    Some((before, after, object))
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    #[test]
    fn one_condition_is_told_once_and_the_rest_stays() {
        let object = json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "BurstPolicy",
            "metadata": {"name": "worker", "generation": 2},
            "spec": {"shape": "new"},
            "status": {"summary": "2/2", "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                 "lastTransitionTime": "1970-01-01T00:00:01Z"},
                {"type": "Programmed", "status": "True", "reason": "Programmed", "message": "",
                 "lastTransitionTime": "1970-01-01T00:00:01Z"},
            ]},
        });
        let mut unreadable = Unreadable {
            object: serde_json::from_value(object).unwrap(),
            error: "spec.shape: unknown".to_owned(),
        };
        let (before, after, object) = told(&unreadable, "Accepted", &at(9)).unwrap();
        assert_eq!(before.len(), 2);
        assert_eq!(after[0].reason, "Unreadable");
        assert_eq!(after[0].last_transition_time, at(9));
        assert!(after[0].message.ends_with("spec.shape: unknown"));
        assert_eq!(after[1], before[1]);
        assert_eq!(object.data["status"]["summary"], "2/2");
        unreadable.object = object;
        assert!(told(&unreadable, "Accepted", &at(10)).is_none());
    }
}
