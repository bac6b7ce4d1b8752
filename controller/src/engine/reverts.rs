//! Users' VirtualServices that somebody else keeps putting back.
//!
//! Where routes are merged into a user's object, a GitOps tool may own that object and take the
//! routes out again. Both would go on for ever, and every turn is a push to all proxies. So an
//! object that was put back three times within ten minutes is left alone until the first of these
//! times is ten minutes ago, or until what is to be written there changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use spillway_plan::ControlPlane;
use spillway_plan::output::Key;

const MOST: usize = 3;

/// What was written into users' objects, and when.
#[derive(Debug)]
pub(crate) struct Reverts {
    /// In this time they are counted.
    within: Duration,
    written: BTreeMap<Key, Written>,
}

#[derive(Debug)]
struct Written {
    routes: Value,
    /// Of the last writes with these routes.
    at: Vec<Instant>,
}

impl Reverts {
    /// Nothing yet; counted within this time.
    pub(crate) const fn new(within: Duration) -> Self {
        Self {
            within,
            written: BTreeMap::new(),
        }
    }

    /// Whether an object is to be left alone.
    pub(crate) fn is_fought(&self, key: &Key, after: &Value, now: Instant) -> bool {
        let written = self.written.get(key).filter(|it| it.routes == ours(after));
        written.is_some_and(|it| it.left(self.within, now).is_some())
    }

    /// When the first object need not be left alone any more.
    pub(crate) fn next(&self, now: Instant) -> Option<Duration> {
        let written = self.written.values();
        written.filter_map(|it| it.left(self.within, now)).min()
    }

    /// The policies whose routes somebody keeps taking out, and what to do.
    pub(crate) fn fought(&self, wanted: &ControlPlane, now: Instant) -> Vec<(String, String)> {
        let edits = wanted
            .edits
            .iter()
            .filter(|edit| *edit.before != edit.after);
        let fought = edits.filter_map(|edit| {
            let key = Key::of(&edit.after)?;
            self.is_fought(&key, &edit.after, now)
                .then_some((edit, key))
        });
        fought
            .flat_map(|(edit, Key { namespace, name, .. })| {
                let message = format!(
                    "the routes in the VirtualService {namespace}/{name} were taken out three times in ten minutes and are left out now: put them into its source, as `spillway-controller --source DIR --target DIR` writes them"
                );
                let policies = edit.policies.iter();
                policies.map(move |policy| (policy.clone(), message.clone()))
            })
            .collect()
    }

    /// An object was written.
    pub(crate) fn wrote(&mut self, key: &Key, after: &Value, now: Instant) {
        let routes = ours(after);
        let written = self.written.entry(key.clone()).or_insert(Written {
            routes: Value::Null,
            at: Vec::new(),
        });
        if written.routes != routes {
            written.routes = routes;
            written.at.clear();
        }
        written.at.push(now);
        if written.at.len() > MOST + 1 {
            written.at.remove(0);
        }
    }

    /// Forgets the objects that are not wanted any more.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&Key) -> bool) {
        self.written.retain(|key, _| wanted(key));
    }
}

impl Written {
    /// For how long the object is left alone.
    fn left(&self, within: Duration, now: Instant) -> Option<Duration> {
        // The first write is not a reaction to anybody.
        let first = self.at.first().filter(|_| self.at.len() > MOST)?;
        let left = within.saturating_sub(now.saturating_duration_since(*first));
        (!left.is_zero()).then_some(left)
    }
}

/// The routes of ours in a VirtualService.
fn ours(object: &Value) -> Value {
    let routes = object.pointer("/spec/http").and_then(Value::as_array);
    let ours = routes.into_iter().flatten().filter(|route| {
        let name = route.get("name").and_then(Value::as_str);
        name.is_some_and(|name| name.starts_with(spillway_plan::names::PREFIX))
    });
    ours.cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spillway_api::istio::Kind;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(600);

    fn object(prefix: &str) -> Value {
        json!({"spec": {"http": [
            {"name": "spillway-a", "match": [{"headers": {"x": {"prefix": prefix}}}]},
            {"name": "users", "timeout": "1s"},
        ]}})
    }

    #[test]
    fn the_third_revert_within_ten_minutes_ends_it() {
        let key = Key::new(Kind::VIRTUAL_SERVICE, "shop", "worker");
        let mut reverts = Reverts::new(WITHIN);
        let begin = Instant::now();
        let minute = |n: u32| begin + Duration::from_secs(60) * n;
        for n in 0..4 {
            assert!(!reverts.is_fought(&key, &object("a"), minute(n)), "{n}");
            reverts.wrote(&key, &object("a"), minute(n));
        }
        assert!(reverts.is_fought(&key, &object("a"), minute(4)));
        assert_eq!(reverts.next(minute(4)), Some(minute(10) - minute(4)));
        // What is to be written has changed, or the fight is over.
        assert!(!reverts.is_fought(&key, &object("b"), minute(4)));
        assert!(!reverts.is_fought(&key, &object("a"), minute(10)));
        assert_eq!(reverts.next(minute(10)), None);
        reverts.wrote(&key, &object("b"), minute(5));
        assert!(!reverts.is_fought(&key, &object("b"), minute(5)));
    }

    #[test]
    fn slow_reverts_are_put_right_for_ever() {
        let key = Key::new(Kind::VIRTUAL_SERVICE, "shop", "worker");
        let mut reverts = Reverts::new(WITHIN);
        let begin = Instant::now();
        for n in 0..20 {
            let now = begin + Duration::from_secs(300) * n;
            assert!(!reverts.is_fought(&key, &object("a"), now), "{n}");
            assert_eq!(reverts.next(now), None);
            reverts.wrote(&key, &object("a"), now);
        }
    }
}
