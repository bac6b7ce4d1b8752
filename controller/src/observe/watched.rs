//! One kind that is watched on the hub: what is there, and why the watch is broken.
//!
//! What was seen stays while it is. A change of a status only is none: statuses are our own.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use kube::runtime::reflector::{self, Lookup, Store, store::Writer};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::clusters::call::Failure;
use crate::engine::backoff::Backoff;
/// A kind that is watched.
pub(super) struct Watched<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    /// Why the watch is broken now.
    failure: Arc<Mutex<Option<Failure>>>,
    _task: AbortOnDropHandle<()>,
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Whether the list is there.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.store.wait_until_ready().now_or_never(), Some(Ok(())))
    }

    /// Why the watch is broken now.
    pub(super) fn failure(&self) -> Option<Failure> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of them, in the order of their names.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        let mut all = self.store.state();
        all.sort_by_key(|object| (ResourceExt::namespace(object.as_ref()), object.name_any()));
        all
    }

    /// One of them.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let reference = reflector::ObjectRef::new(name).within(namespace);
        self.store.get(&reference)
    }
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

pub(super) fn follow<K>(
    events: Events<K>,
    backoff: &Backoff,
    changed: &watch::Sender<u64>,
) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let failure = Arc::default();
    let fill = Fill {
        store: store.clone(),
        writer,
        failure: Arc::clone(&failure),
        backoff: backoff.clone(),
        changed: changed.clone(),
    };
    Watched {
        store,
        failure,
        _task: AbortOnDropHandle::new(tokio::spawn(fill.run(events))),
    }
}

/// Fills a store with what a watch brings.
struct Fill<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    writer: Writer<K>,
    failure: Arc<Mutex<Option<Failure>>>,
    backoff: Backoff,
    changed: watch::Sender<u64>,
}

impl<K> Fill<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    async fn run(mut self, mut events: Events<K>) {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let mut matters = matters(&self.store, &event);
                    self.writer.apply_watcher_event(&event);
                    if !matches!(event, Event::Init) {
                        self.backoff.succeed();
                        matters |= self.replace(None).is_some();
                    }
                    if matters {
                        self.tell();
                    }
                }
                Err(error) => {
                    let failure = Failure::from(&error);
                    let pause = self.backoff.after_failure();
                    let before = self.replace(Some(failure.clone()));
                    // Rights that are missing stay so for long, and are said once.
                    if failure.code() != Some(403) || before.as_ref() != Some(&failure) {
                        tracing::warn!(kind = %K::kind(&()), error = %failure, "the hub cannot be watched");
                        self.tell();
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn tell(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn replace(&self, failure: Option<Failure>) -> Option<Failure> {
        let mut known = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, failure)
    }
}

/// Whether a change is more than one of a status, which are our own.
fn matters<K>(store: &Store<K>, event: &Event<K>) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Init | Event::InitApply(_) => false,
        Event::InitDone | Event::Delete(_) => true,
        Event::Apply(new) => {
            let old = store.get(&reflector::ObjectRef::from_obj(new));
            old.is_none_or(|old| trait_of(old.as_ref()) != trait_of(new))
        }
    }
}

/// What differs whenever something other than a status differs. Objects without a generation, such
/// as Secrets, have their version instead.
fn trait_of<K: Resource>(object: &K) -> impl PartialEq + use<K> {
    let meta = object.meta().clone();
    let version = match meta.generation {
        Some(_) => None,
        None => meta.resource_version,
    };
    (
        meta.generation,
        version,
        meta.uid,
        meta.labels,
        meta.deletion_timestamp,
        meta.finalizers,
    )
}
