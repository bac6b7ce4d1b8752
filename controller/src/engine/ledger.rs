//! The statuses of one kind: what is to stand, and what was written.
//!
//! What was written comes back by a watch only later, so it is kept until then: the next status is
//! written on top of the newest object that is known.
//!
//! Many are written at once. One after the other, those of a thousand clusters would take longer
//! than the change that they tell of.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::join_all;
use kube::core::object::HasStatus;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clusters::call::Failure;
use crate::metrics::{Metrics, Resource as Kind};
use crate::status::{Conditions, Published, Publisher};

/// So many are written at once.
const AT_ONCE: usize = 16;

/// A status that is to stand.
pub(super) struct Due<'a, K, S> {
    /// Where the object is.
    pub(super) api: Api<K>,
    /// The object, as a watch brought it.
    pub(super) seen: &'a Arc<K>,
    /// The status, from the object that it is written into.
    pub(super) status: S,
}

/// The objects of one kind that were written and have not come back yet, by UID.
pub(super) struct Ledger<K> {
    kind: Kind,
    written: BTreeMap<String, K>,
}

/// What became of one status.
struct Outcome<K> {
    uid: String,
    /// The newest object that is known; none when it is gone.
    newest: Option<K>,
    is_written: bool,
}

impl<K> Ledger<K>
where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Serialize,
    K::Status: Conditions + PartialEq,
{
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            written: BTreeMap::new(),
        }
    }

    /// Writes the statuses that do not stand yet, as long as `leads`. There are no other objects
    /// than those in `due`.
    ///
    /// # Errors
    /// When the hub does not take one; those under way at the same time are ended before.
    pub(super) async fn write<S>(
        &mut self,
        publisher: &Publisher,
        metrics: &Metrics,
        due: &[Due<'_, K, S>],
        leads: impl Fn() -> bool,
    ) -> Result<(), Failure>
    where
        S: Fn(&K) -> K::Status,
    {
        self.forget(due);
        let due: Vec<_> = due.iter().filter(|due| !due.stands(self)).collect();
        for due in due.chunks(AT_ONCE) {
            if !leads() {
                return Ok(());
            }
            let writes = due.iter().map(|due| due.publish(publisher, self));
            let mut all = Ok(());
            for outcome in join_all(writes).await {
                match outcome {
                    Ok(outcome) => self.note(outcome, metrics),
                    Err(failure) => all = Err(failure),
                }
            }
            all?;
        }
        Ok(())
    }

    /// Forgets what is gone, and what came back as it was written.
    fn forget<S>(&mut self, due: &[Due<'_, K, S>]) {
        let seen = due.iter().map(|due| (due.uid(), due.seen));
        let seen: BTreeMap<String, &Arc<K>> = seen.collect();
        self.written.retain(|uid, written| {
            let seen = seen.get(uid);
            seen.is_some_and(|seen| seen.resource_version() != written.resource_version())
        });
    }

    fn note(&mut self, outcome: Outcome<K>, metrics: &Metrics) {
        if outcome.is_written {
            metrics.stated(self.kind);
        }
        match outcome.newest {
            Some(newest) => self.written.insert(outcome.uid, newest),
            None => self.written.remove(&outcome.uid),
        };
    }
}

impl<K, S> Due<'_, K, S>
where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Serialize,
    K::Status: Conditions + PartialEq,
    S: Fn(&K) -> K::Status,
{
    fn stands(&self, ledger: &Ledger<K>) -> bool {
        let newest = self.newest(ledger);
        newest.status() == Some(&(self.status)(newest))
    }

    async fn publish(
        &self,
        publisher: &Publisher,
        ledger: &Ledger<K>,
    ) -> Result<Outcome<K>, Failure> {
        let mut object = self.newest(ledger).clone();
        let mut is_written = false;
        for _ in 0..2 {
            let status = (self.status)(&object);
            match publisher.publish(&self.api, &object, status).await? {
                Published::Unchanged => break,
                Published::Written(written) => {
                    object = *written;
                    is_written = true;
                    break;
                }
                Published::Outdated => {
                    let newest = publisher.newest(&self.api, &self.seen.name_any()).await?;
                    match newest.filter(|newest| newest.uid() == self.seen.uid()) {
                        Some(newest) => object = newest,
                        None => return Ok(self.outcome(None, false)),
                    }
                }
            }
        }
        Ok(self.outcome(Some(object), is_written))
    }

    fn newest<'b>(&'b self, ledger: &'b Ledger<K>) -> &'b K {
        let written = ledger.written.get(&self.uid());
        let written =
            written.filter(|written| written.meta().generation >= self.seen.meta().generation);
        written.unwrap_or(self.seen)
    }

    fn outcome(&self, newest: Option<K>, is_written: bool) -> Outcome<K> {
        Outcome {
            uid: self.uid(),
            newest,
            is_written,
        }
    }
}

impl<K: Resource, S> Due<'_, K, S> {
    fn uid(&self) -> String {
        self.seen.uid().unwrap_or_default()
    }
}
