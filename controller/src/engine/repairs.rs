//! Objects of ours that somebody else keeps changing.
//!
//! What differs from the intent is put right at once: a drift is mostly somebody's mistake. But
//! where another controller writes the same object, both would go on for ever, and every turn is a
//! push to all proxies. So the first repairs of an object come at once, and each one after them
//! waits twice as long as the one before, up to [`LONGEST`]: the object is put right again and
//! again, and the proxies are not kept busy. Who does it is told.
//!
//! It is about one object at a time, and about one content of it: a new intent is written at once,
//! and so is what differs in other objects. An object that stayed as it should for [`FORGOTTEN`]
//! begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use spillway_plan::diff::Action;
use spillway_plan::output::{INTENT, Key, MANAGED_BY, POLICIES, SPILLWAY};

use super::due::Due;

/// So many repairs of an object come at once.
const AT_ONCE: u32 = 3;
/// Before the first repair that waits.
const SHORTEST: Duration = Duration::from_secs(1);
/// Before the last ones.
const LONGEST: Duration = Duration::from_secs(300);
/// Longer than any wait, or a fight would be forgotten while it goes on.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What was written into objects of ours, and when.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    written: BTreeMap<Key, Written>,
}

#[derive(Debug)]
struct Written {
    content: Content,
    policies: BTreeSet<String>,
    /// Who had changed it before, where that is known: nobody tells who deletes.
    by: Option<String>,
    /// How often this content was written anew.
    again: u32,
    last: Instant,
}

/// What an object is to be: its intent and the policies that it names; nothing where it is to be
/// gone.
type Content = Option<[String; 2]>;

impl Repairs {
    /// Whether the object may not be written yet.
    pub(super) fn hold(&self, due: &Due, now: Instant) -> bool {
        let same = self.same(due, now);
        same.is_some_and(|written| written.left(now).is_some())
    }

    /// The object was written over what this manager had made of it. Says whether the next repair
    /// will have to wait.
    pub(super) fn wrote(&mut self, due: &Due, by: Option<String>, now: Instant) -> bool {
        let again = self.same(due, now);
        let again = again.map_or(0, |written| written.again.saturating_add(1));
        let written = Written {
            content: content(&due.change.action),
            policies: due.policies.clone(),
            by,
            again,
            last: now,
        };
        self.written.insert(due.key.clone(), written);
        again >= AT_ONCE
    }

    /// The policies whose objects are fought over, and what to tell their owners.
    pub(super) fn fights(&self, now: Instant) -> Vec<(String, String)> {
        let fights = self.written.iter().filter(|(_, it)| it.left(now).is_some());
        fights
            .flat_map(|(key, it)| {
                let by = it.by.as_ref();
                let by = by.map_or("somebody".to_owned(), |by| format!("the field manager {by}"));
                let message = format!(
                    "the {} {}/{} is changed again and again by {by}, and is put right ever less often: let nobody else write objects with the label {MANAGED_BY}: {SPILLWAY}",
                    key.kind().map_or("", |kind| kind.kind),
                    key.namespace,
                    key.name,
                );
                it.policies.iter().map(move |policy| (policy.clone(), message.clone()))
            })
            .collect()
    }

    /// When a fight is over, or goes on.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.written.values().filter_map(|it| it.left(now)).min()
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self, now: Instant) {
        self.written.retain(|_, written| written.is_recent(now));
    }

    fn same(&self, due: &Due, now: Instant) -> Option<&Written> {
        let written = self.written.get(&due.key)?;
        let is_same = written.content == content(&due.change.action);
        (is_same && written.is_recent(now)).then_some(written)
    }
}

impl Written {
    /// How long the next repair has to wait; nothing where it may come at once.
    fn left(&self, now: Instant) -> Option<Duration> {
        let waited = self.again.checked_sub(AT_ONCE)?;
        let pause = SHORTEST.saturating_mul(1 << waited.min(16)).min(LONGEST);
        let left = pause.saturating_sub(now.saturating_duration_since(self.last));
        (!left.is_zero()).then_some(left)
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FORGOTTEN
    }
}

fn content(action: &Action) -> Content {
    let (Action::Apply { object, .. } | Action::Replace { object, .. }) = action else {
        return None;
    };
    let annotations = object.pointer("/metadata/annotations");
    let text = |name: &str| {
        let text = annotations.and_then(|annotations| annotations.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    Some([text(INTENT), text(POLICIES)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spillway_api::istio::Kind;
    use spillway_plan::diff::{Change, Stage};

    use super::*;

    fn due(name: &str, intent: Option<&str>) -> Due {
        let key = Key::new(Kind::VIRTUAL_SERVICE, "shop", name);
        let action = match intent {
            Some(intent) => Action::Apply {
                key: key.clone(),
                object: json!({"metadata": {"annotations": {INTENT: intent}}}),
            },
            None => Action::Delete {
                key: key.clone(),
                uid: None,
            },
        };
        let stage = Stage::Second;
        Due {
            change: Change { stage, action },
            key,
            policies: BTreeSet::from(["shop/worker".to_owned()]),
            renews: false,
        }
    }

    fn write(repairs: &mut Repairs, due: &Due, now: Instant) -> bool {
        repairs.wrote(due, Some("another".to_owned()), now)
    }

    #[test]
    fn the_first_repairs_come_at_once_and_then_ever_slower() {
        let mut repairs = Repairs::default();
        let due = due("spillway-worker", Some("a"));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..16 {
            let wait = repairs.next(now);
            assert_eq!(repairs.hold(&due, now), wait.is_some());
            waits.push(wait.map_or(0, |wait| wait.as_secs()));
            now += wait.unwrap_or_default();
            assert!(!repairs.hold(&due, now));
            write(&mut repairs, &due, now);
        }
        let expected = [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300];
        assert_eq!(waits, expected);
        let (policy, message) = repairs.fights(now).remove(0);
        assert_eq!(policy, "shop/worker");
        assert!(message.starts_with(
            "the VirtualService shop/spillway-worker is changed again and again by the field manager another"
        ));
    }

    #[test]
    fn a_new_intent_another_object_and_a_quiet_time_begin_anew() {
        let mut repairs = Repairs::default();
        let now = Instant::now();
        let a = due("spillway-worker", Some("a"));
        let slow: Vec<bool> = (0..6).map(|_| write(&mut repairs, &a, now)).collect();
        assert_eq!(slow, [false, false, false, true, true, true]);
        assert!(repairs.hold(&a, now));
        assert!(!repairs.hold(&due("spillway-worker", Some("b")), now));
        assert!(!repairs.hold(&due("spillway-worker", None), now));
        assert!(!repairs.hold(&due("spillway-other", Some("a")), now));
        // It stayed right for as long as the next repair would have waited.
        assert_eq!(repairs.next(now), Some(4 * SHORTEST));
        assert!(repairs.fights(now + 4 * SHORTEST).is_empty());
        // Begun again soon, it is the same fight; much later it is another one.
        assert!(write(&mut repairs, &a, now + LONGEST));
        assert!(!write(&mut repairs, &a, now + LONGEST + FORGOTTEN));
        repairs.forget(now + LONGEST + 2 * FORGOTTEN);
        assert!(repairs.written.is_empty());
    }
}
