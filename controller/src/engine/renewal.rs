//! Plugins that are written anew since the filter's image can be had again.
//!
//! An agent that cannot fetch the image gives its Envoy nothing instead of the filter, and does not
//! try again before it is handed the plugin once more. So what started while the registry was away
//! would be without the filter for as long as nobody changes a policy. When the image has returned,
//! every plugin is written in its next generation, its content as before: istiod hands out what has
//! changed in its `spec`, and in nothing else of an object. Agents that have the image do not fetch
//! it again, and Envoys that run the filter are given a configuration as at any change of a policy.
//!
//! Nobody can tell which sidecars lack the filter without asking each of them, which the controller
//! could not reach; so all of a cluster's plugins are written, once for each return, each cluster
//! at a time of its own: see [`super::options::Options::spread`]. How often there is a return is
//! bounded in [`crate::image::follow`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use spillway_api::istio;
use spillway_plan::ControlPlane;
use spillway_plan::output::{Key, Object};

use super::backoff;
use crate::image::{Availability, Returned};
use crate::observe::index::Index;
use crate::observe::kinds::Kind;

/// How far the plugins of one control plane are.
pub(super) struct Renewal {
    spread: Duration,
    /// The last return that they were written for.
    answered: Returned,
    pending: Option<Pending>,
}

/// A return that is being answered.
struct Pending {
    returned: Returned,
    /// Not before.
    at: Instant,
    /// What was there then and was not written since.
    left: BTreeSet<Key>,
}

impl Renewal {
    pub(super) const fn new(spread: Duration, answered: Returned) -> Self {
        Self {
            spread,
            answered,
            pending: None,
        }
    }

    /// Takes note of whether the image can be had.
    pub(super) fn look(
        &mut self,
        image: &Availability,
        wanted: &ControlPlane,
        index: &Index,
        now: Instant,
    ) {
        let Ok(returned) = *image else {
            // Its return will come after this one.
            self.pending = None;
            return;
        };
        let seen = self.pending.as_ref().map(|pending| pending.returned);
        if seen.unwrap_or(self.answered) < returned {
            self.pending = Some(Pending {
                returned,
                at: now + backoff::part_of(self.spread),
                left: plugins(wanted, index).map(Object::key).collect(),
            });
        }
        if let Some(pending) = &mut self.pending {
            // What nobody wants any more is not written.
            let there: BTreeSet<Key> = plugins(wanted, index).map(Object::key).collect();
            pending.left.retain(|key| there.contains(key));
        }
        self.settle();
    }

    /// What is to be written now.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &Key> {
        let pending = self.pending.iter().filter(move |it| it.at <= now);
        pending.flat_map(|pending| &pending.left)
    }

    /// A plugin was written, for whatever reason.
    pub(super) fn wrote(&mut self, key: &Key) {
        if let Some(pending) = &mut self.pending {
            pending.left.remove(key);
        }
        self.settle();
    }

    /// When something will be due.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let pending = self.pending.as_ref()?;
        Some(pending.at.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// The last return that all was written for.
    pub(super) const fn answered(&self) -> Returned {
        self.answered
    }

    fn settle(&mut self) {
        if let Some(done) = self.pending.take_if(|pending| pending.left.is_empty()) {
            self.answered = done.returned;
        }
    }
}

/// The plugins that are wanted and there.
fn plugins<'w>(wanted: &'w ControlPlane, index: &Index) -> impl Iterator<Item = &'w Object> {
    wanted.objects.iter().filter(|object| {
        let place = (Kind::WasmPlugin, object.namespace.clone());
        object.kind == istio::Kind::WASM_PLUGIN && index.found(&place, &object.name).is_some()
    })
}
