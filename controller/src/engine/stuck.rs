//! Objects that could not be written though their cluster answers.
//!
//! Each waits with its policies' later stages, since what comes after it would lead to what is not
//! there; all else goes on. A conflict is another matter at first: somebody else wrote, so the
//! object is compared anew at once, though not for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use spillway_plan::diff::Stage;
use spillway_plan::output::Key;

use super::due::Due;
use crate::clusters::call::Failure;

/// An object that conflicts so often is left alone for a while.
const CONFLICTS: u32 = 3;

/// The objects of one control plane that could not be written.
#[derive(Default)]
pub(super) struct Stuck {
    objects: BTreeMap<Key, Object>,
    retry_at: Option<Instant>,
}

struct Object {
    failure: Failure,
    policies: BTreeSet<String>,
    stage: Stage,
    conflicts: u32,
}

impl Object {
    fn is_retried_at_once(&self) -> bool {
        self.conflicts < CONFLICTS && self.failure.code() == Some(409)
    }
}

impl Stuck {
    /// Whether a write may be tried now.
    pub(super) fn allows(&self, due: &Due) -> bool {
        if let Some(object) = self.objects.get(&due.key) {
            return object.is_retried_at_once();
        }
        self.objects
            .values()
            .all(|object| object.stage >= due.stage() || object.policies.is_disjoint(&due.policies))
    }

    /// A write failed. Tells whether it is to wait.
    pub(super) fn set_aside(&mut self, due: &Due, failure: Failure) -> bool {
        let before = self.objects.get(&due.key);
        let object = Object {
            failure,
            policies: due.policies.clone(),
            stage: due.stage(),
            conflicts: before
                .map_or(0, |object| object.conflicts)
                .saturating_add(1),
        };
        let waits = !object.is_retried_at_once();
        self.objects.insert(due.key.clone(), object);
        waits
    }

    /// An object could be written.
    pub(super) fn written(&mut self, key: &Key) {
        self.objects.remove(key);
    }

    /// When they are tried again.
    pub(super) fn retry_at(&mut self, at: Instant) {
        self.retry_at = Some(at);
    }

    /// Lets all of them be tried again once it is time.
    pub(super) fn try_again(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.objects.clear();
            self.retry_at = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The policies that wait, and why.
    pub(super) fn failed(&self) -> BTreeMap<String, String> {
        let failed = self.objects.values().flat_map(|object| {
            let policies = object.policies.iter();
            policies.map(|policy| (policy.clone(), object.failure.to_string()))
        });
        failed.collect()
    }
}
