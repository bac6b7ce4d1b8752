//! Plugins that wait for the filter's image.
//!
//! Envoy replaces a running filter by nothing when the image of its successor cannot be had. So a
//! plugin that would have proxies fetch an image, since it is new or names another one than the one
//! that is deployed, is held back until the image was found in its registry. All else goes on:
//! routes, the configuration of plugins whose image runs already, and removals, but for what a
//! plugin that is held back still uses.

use std::collections::BTreeMap;

use serde_json::Value;
use spillway_plan::diff::{Action, Stage};

use super::due::Due;
use super::report::Problem;
use crate::image::Availability;
use crate::observe::index::Index;
use crate::observe::kinds::Kind;

/// Takes out of what is due what has to wait. Returns the policies that wait, and what for.
pub(super) fn hold_back(
    due: &mut Vec<Due>,
    index: &Index,
    image: &Availability,
) -> BTreeMap<String, Problem> {
    let Err(missing) = image else {
        return BTreeMap::new();
    };
    let problem = Problem {
        reason: missing.reason,
        message: missing.message.clone(),
    };
    let mut waiting = BTreeMap::new();
    due.retain(|due| {
        let waits = needs_image(due, index);
        if waits {
            let policies = due.policies.iter();
            waiting.extend(policies.map(|policy| (policy.clone(), problem.clone())));
        }
        !waits
    });
    due.retain(|due| {
        let is_used = || due.policies.iter().any(|name| waiting.contains_key(name));
        due.stage() < Stage::Last || !is_used()
    });
    waiting
}

/// Whether a write has proxies fetch an image that they do not have yet.
fn needs_image(due: &Due, index: &Index) -> bool {
    let Action::Apply { key, object } = &due.change.action else {
        return false;
    };
    let there = index.found(&(Kind::WasmPlugin, key.namespace.clone()), &key.name);
    due.is_plugin() && there.as_ref().and_then(url) != url(object)
}

fn url(plugin: &Value) -> Option<&Value> {
    plugin.pointer("/spec/url")
}
