//! The watches of one member.
//!
//! One a kind and namespace. Each has its own back-off, and none gives up: a watch that broke goes
//! on where it was, and what was seen before stays in the index. A list that is not answered in
//! time is begun anew; a watch that is silent for too long is cut by the client's own limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use tokio_util::task::AbortOnDropHandle;

use super::index::{Index, Place};
use super::kinds::Kind;
use crate::clusters::call::Failure;
use crate::engine::backoff::Backoff;

/// A kind that is not served may be installed at any time; nothing tells when.
const NOT_SERVED: Duration = Duration::from_secs(10);
/// One that many clusters do without is asked for ever more rarely: a thousand clusters would
/// otherwise be asked a hundred times a second for what none of them has.
const OPTIONAL: Duration = Duration::from_secs(300);
/// The right to look somewhere may be given at any time.
const FORBIDDEN: Duration = Duration::from_secs(30);

/// Watches one member, until it is dropped.
pub struct Observer {
    client: Client,
    index: Arc<Index>,
    deadline: Duration,
    backoff: Backoff,
    watches: BTreeMap<Place, AbortOnDropHandle<()>>,
}

impl Observer {
    /// Begins with the namespaces' labels.
    #[must_use]
    pub fn new(client: Client, index: Arc<Index>, deadline: Duration, backoff: Backoff) -> Self {
        let mut this = Self {
            client,
            index,
            deadline,
            backoff,
            watches: BTreeMap::new(),
        };
        this.watch((Kind::Namespace, String::new()));
        this
    }

    /// Looks into these namespaces and into no others.
    pub fn look_into(&mut self, namespaces: &BTreeSet<String>) {
        let wanted: BTreeSet<Place> = namespaces
            .iter()
            .flat_map(|name| Kind::NAMESPACED.map(|kind| (kind, name.clone())))
            .chain([(Kind::Namespace, String::new())])
            .collect();
        let index = &self.index;
        self.watches.retain(|place, _| {
            let keep = wanted.contains(place);
            if !keep {
                index.close(place);
            }
            keep
        });
        for place in wanted {
            self.watch(place);
        }
    }

    fn watch(&mut self, place: Place) {
        if self.watches.contains_key(&place) {
            return;
        }
        self.index.open(place.clone());
        let watch = Watch {
            client: self.client.clone(),
            index: self.index.clone(),
            deadline: self.deadline,
            pauses: Pauses::new(place.0, self.backoff.clone()),
            place: place.clone(),
            listed: None,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(watch.run()));
        self.watches.insert(place, task);
    }
}

struct Watch {
    client: Client,
    index: Arc<Index>,
    deadline: Duration,
    pauses: Pauses,
    place: Place,
    /// What was listed so far, while a list is under way.
    listed: Option<Vec<DynamicObject>>,
}

type Events = futures_util::stream::BoxStream<'static, watcher::Result<Event<DynamicObject>>>;

impl Watch {
    async fn run(mut self) {
        let mut events = self.events();
        self.listed = Some(Vec::new());
        loop {
            let next = events.next();
            let event = if self.listed.is_some() {
                tokio::time::timeout(self.deadline, next).await
            } else {
                Ok(next.await)
            };
            match event {
                Ok(Some(Ok(event))) => self.take(event),
                Ok(Some(Err(error))) => self.fail(Failure::from(&error)).await,
                Ok(None) => events = self.events(),
                Err(_) => {
                    self.fail(Failure::Deadline(self.deadline)).await;
                    events = self.events();
                }
            }
        }
    }

    fn events(&self) -> Events {
        let (kind, namespace) = &self.place;
        let config = Config {
            label_selector: kind.selector(),
            ..Config::default()
        };
        if *kind == Kind::Namespace {
            let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
            let events = watcher(namespaces, config);
            return events.map(|event| event.map(labels)).boxed();
        }
        let resource = kind.resource();
        watcher(
            Api::namespaced_with(self.client.clone(), namespace, &resource),
            config,
        )
        .boxed()
    }

    fn take(&mut self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.listed = Some(Vec::new()),
            Event::InitApply(object) => {
                let object = self.typed(object);
                self.listed.get_or_insert_default().push(object);
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                self.index.replace(&self.place, listed);
                self.pauses.succeed();
            }
            Event::Apply(object) => {
                self.pauses.succeed();
                let object = self.typed(object);
                self.index.applied(&self.place, object);
            }
            Event::Delete(object) => {
                self.pauses.succeed();
                self.index.deleted(&self.place, &object);
            }
        }
    }

    /// A list of a built-in kind does not say of what kind its items are.
    fn typed(&self, mut object: DynamicObject) -> DynamicObject {
        object.types = Some(kube::core::TypeMeta {
            api_version: self.place.0.resource().api_version,
            kind: self.place.0.as_str().to_owned(),
        });
        object
    }

    async fn fail(&mut self, failure: Failure) {
        let Some(pause) = self.pauses.after(&failure) else {
            return;
        };
        tracing::debug!(
            kind = self.place.0.as_str(),
            namespace = self.place.1,
            error = %failure,
            "a watch is broken"
        );
        self.index.failed(&self.place, failure);
        tokio::time::sleep(pause).await;
    }
}

/// How long a watch waits after failures.
struct Pauses {
    backoff: Backoff,
    /// While the kind is not served.
    not_served: Backoff,
}

impl Pauses {
    const fn new(kind: Kind, backoff: Backoff) -> Self {
        let rarest = if kind.is_optional() {
            OPTIONAL
        } else {
            NOT_SERVED
        };
        Self {
            backoff,
            not_served: Backoff::new(NOT_SERVED, rarest),
        }
    }

    /// After this failure; not at all where kube's watcher begins a new list by itself.
    fn after(&mut self, failure: &Failure) -> Option<Duration> {
        match failure.code() {
            // The list has expired.
            Some(410) => None,
            Some(404) => Some(self.not_served.after_failure()),
            Some(403) => Some(FORBIDDEN),
            _ => {
                let asked = failure.retry_after().unwrap_or_default();
                Some(asked.max(self.backoff.after_failure()))
            }
        }
    }

    fn succeed(&mut self) {
        self.backoff.succeed();
        self.not_served.succeed();
    }
}

fn labels(event: Event<PartialObjectMeta<Namespace>>) -> Event<DynamicObject> {
    let object = |meta: PartialObjectMeta<Namespace>| DynamicObject {
        types: None,
        metadata: meta.metadata,
        data: serde_json::Value::Null,
    };
    match event {
        Event::Apply(meta) => Event::Apply(object(meta)),
        Event::Delete(meta) => Event::Delete(object(meta)),
        Event::Init => Event::Init,
        Event::InitApply(meta) => Event::InitApply(object(meta)),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Failure {
        Failure::Refused {
            code,
            message: "no".to_owned(),
            retry_after: None,
        }
    }

    /// How often a kind is asked for in a day in which it is not served.
    fn asked(kind: Kind) -> u32 {
        let mut pauses = Pauses::new(kind, Backoff::new(NOT_SERVED, NOT_SERVED));
        let (mut day, mut asked) = (Duration::ZERO, 0);
        while day < Duration::from_secs(24 * 3600) {
            day += pauses.after(&refused(404)).unwrap_or_default();
            asked += 1;
        }
        asked
    }

    #[test]
    fn what_many_clusters_do_without_is_asked_for_ever_more_rarely() {
        let (routes, gateways) = (asked(Kind::HttpRoute), asked(Kind::Gateway));
        // Pauses are between half and the whole of 300 s, and of 10 s.
        assert!((288..600).contains(&routes), "{routes}");
        assert!((8640..=17280).contains(&gateways), "{gateways}");
    }

    #[test]
    fn one_that_was_served_and_is_gone_is_asked_for_soon_again() {
        let mut pauses = Pauses::new(Kind::HttpRoute, Backoff::new(NOT_SERVED, NOT_SERVED));
        for _ in 0..10 {
            pauses.after(&refused(404));
        }
        assert!(pauses.after(&refused(404)) > Some(NOT_SERVED));
        pauses.succeed();
        assert!(pauses.after(&refused(404)) <= Some(NOT_SERVED));
        assert_eq!(pauses.after(&refused(410)), None);
        assert_eq!(pauses.after(&refused(403)), Some(FORBIDDEN));
    }
}
