//! What was seen of one member.
//!
//! It is filled by watches and by the answers to our own writes, which come in any order. An
//! object is replaced only by a newer one: resource versions of one API server are numbers that
//! grow. So a writer never takes its own write back for a drift.
//!
//! What was seen stays when a watch breaks: a cluster that is away is not a cluster that is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::DynamicObject;
use serde_json::Value;
use spillway_plan::output::Key;
use spillway_plan::{Endpoints, Observed, Text};
use tokio::sync::watch;

use super::kept::{Entry, Seen, Slice, is_same, seen, version};
use super::kinds::Kind;
use crate::clusters::call::Failure;

/// The label of the root namespace that names a cluster's network.
pub const NETWORK: &str = "topology.istio.io/network";

/// One kind in one namespace; all of a kind that has no namespaces.
pub type Place = (Kind, String);

/// How far the watch of a place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nothing is known yet.
    No,
    /// All that is there was seen.
    Yes,
    /// The API server does not know the kind.
    NotServed,
    /// The account may not look there.
    Forbidden,
}

#[derive(Debug)]
struct Scope {
    watched: Watched,
    /// Why the watch is broken now.
    failure: Option<Failure>,
    objects: BTreeMap<String, Seen>,
}

/// What was seen of one member, and who is told of changes.
#[derive(Debug)]
pub struct Index {
    places: Mutex<BTreeMap<Place, Scope>>,
    /// What a plan is made from, until something of it changes.
    observed: Mutex<Option<Arc<Observed>>>,
    /// Counts changes of objects of ours, and of how far the watches are.
    ours: watch::Sender<u64>,
    /// Counts changes of all that a plan is made from, but for endpoints.
    users: watch::Sender<u64>,
    /// Counts changes of endpoints, which are many.
    endpoints: watch::Sender<u64>,
}

impl Index {
    /// Nothing is known yet. `users` counts the changes of all that a plan is made from, `endpoints`
    /// those of endpoints, which are many; all members may share them.
    #[must_use]
    pub fn new(users: watch::Sender<u64>, endpoints: watch::Sender<u64>) -> Self {
        Self {
            places: Mutex::default(),
            observed: Mutex::default(),
            ours: watch::Sender::new(0),
            users,
            endpoints,
        }
    }

    /// Tells of changes of objects of ours, and of how far the watches are.
    #[must_use]
    pub fn ours(&self) -> watch::Receiver<u64> {
        self.ours.subscribe()
    }

    /// Nothing is complete any more before these namespaces are, too.
    pub fn expect(&self, namespaces: &BTreeSet<String>) {
        for namespace in namespaces {
            for kind in Kind::NAMESPACED {
                self.open((kind, namespace.clone()));
            }
        }
    }

    /// Begins to look somewhere.
    pub fn open(&self, place: Place) {
        let scope = Scope {
            watched: Watched::No,
            failure: None,
            objects: BTreeMap::new(),
        };
        self.places().entry(place).or_insert(scope);
    }

    /// Looks there no more.
    pub fn close(&self, place: &Place) {
        let closed = self.places().remove(place);
        if closed.is_some() {
            self.tell(place.0, true, true);
        }
    }

    /// A watch failed; what was seen stays.
    pub fn failed(&self, place: &Place, failure: Failure) {
        let mut places = self.places();
        let Some(scope) = places.get_mut(place) else {
            return;
        };
        let before = (scope.watched.clone(), scope.failure.is_some());
        match failure.code() {
            // The kind is gone, and its objects with it.
            Some(404) => {
                scope.watched = Watched::NotServed;
                scope.objects.clear();
            }
            Some(403) if scope.watched != Watched::Yes => scope.watched = Watched::Forbidden,
            _ => {}
        }
        scope.failure = Some(failure);
        let watched = scope.watched != before.0;
        drop(places);
        self.tell(place.0, watched || !before.1, watched);
    }

    /// The API server answers again: a watch that goes on where it was says nothing of it.
    pub fn recovered(&self) {
        for scope in self.places().values_mut() {
            scope.failure = None;
        }
    }

    /// All that is there now.
    pub fn replace(&self, place: &Place, objects: Vec<DynamicObject>) {
        let seen: BTreeMap<String, Seen> = objects
            .into_iter()
            .filter_map(|object| seen(place.0, object))
            .collect();
        let mut places = self.places();
        let Some(scope) = places.get_mut(place) else {
            return;
        };
        scope.objects = seen;
        scope.watched = Watched::Yes;
        scope.failure = None;
        drop(places);
        self.tell(place.0, true, true);
    }

    /// An object was made or changed.
    pub fn applied(&self, place: &Place, object: DynamicObject) {
        let Some((name, new)) = seen(place.0, object) else {
            return;
        };
        let mut places = self.places();
        let Some(scope) = places.get_mut(place) else {
            return;
        };
        scope.failure = None;
        let old = scope.objects.get(&name);
        if old.is_some_and(|old| old.version >= new.version) {
            return;
        }
        let same = old.is_some_and(|old| is_same(&old.entry, &new.entry));
        let ours = new.is_ours() || old.is_some_and(Seen::is_ours);
        let users = !(new.is_ours() && old.is_none_or(Seen::is_ours));
        scope.objects.insert(name, new);
        drop(places);
        if !same {
            self.tell(place.0, ours, users);
        }
    }

    /// An object was deleted.
    pub fn deleted(&self, place: &Place, object: &DynamicObject) {
        let version = version(object);
        let mut places = self.places();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let Some(scope) = places.get_mut(place) else {
            return;
        };
        scope.failure = None;
        let newer = |old: &Seen| old.version > version;
        if scope.objects.get(name).is_some_and(newer) {
            return;
        }
        let Some(old) = scope.objects.remove(name) else {
            return;
        };
        drop(places);
        self.tell(place.0, old.is_ours(), !old.is_ours());
    }

    /// An object of ours was deleted by us.
    pub fn removed(&self, place: &Place, name: &str) {
        if let Some(scope) = self.places().get_mut(place) {
            scope.objects.remove(name);
        }
    }

    /// Whether everything was seen that can be.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let places = self.places();
        !places.is_empty() && places.values().all(|scope| scope.watched != Watched::No)
    }

    /// Whether the kinds that are written are not served.
    #[must_use]
    pub fn without_istio(&self) -> bool {
        self.any(|(kind, _), scope| kind.is_written() && scope.watched == Watched::NotServed)
    }

    /// The namespaces that the account may not look into.
    #[must_use]
    pub fn forbidden(&self) -> BTreeSet<String> {
        let places = self.places();
        let forbidden = places
            .iter()
            .filter(|(_, scope)| scope.watched == Watched::Forbidden);
        forbidden.map(|((_, name), _)| name.clone()).collect()
    }

    /// Why the cluster cannot be watched, if some of its watches are broken.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let places = self.places();
        let mut failures = places.values().filter_map(|scope| scope.failure.as_ref());
        failures.find(|failure| !failure.is_local()).cloned()
    }

    /// The namespaces that objects of ours are in.
    #[must_use]
    pub fn inhabited(&self) -> BTreeSet<String> {
        let places = self.places();
        let inhabited = places
            .iter()
            .filter(|(_, scope)| scope.objects.values().any(Seen::is_ours));
        inhabited.map(|((_, name), _)| name.clone()).collect()
    }

    /// The objects of ours.
    #[must_use]
    pub fn deployed(&self) -> Vec<Text> {
        let places = self.places();
        let all = places.values().flat_map(|scope| scope.objects.values());
        all.filter_map(Seen::ours).cloned().collect()
    }

    /// An object that is kept whole.
    #[must_use]
    pub fn found(&self, place: &Place, name: &str) -> Option<Value> {
        let places = self.places();
        places.get(place)?.objects.get(name)?.whole()
    }

    /// Who besides us changed an object of ours last; nothing where nobody did or it is gone.
    #[must_use]
    pub fn changed_by(&self, key: &Key) -> Option<String> {
        let place = (Kind::of_ours(key.kind()?)?, key.namespace.clone());
        let places = self.places();
        let object = places.get(&place)?.objects.get(&key.name)?;
        object.changed_by.clone()
    }

    /// What a plan is made from; nothing as long as not all was seen.
    #[must_use]
    pub fn observed(&self, uid: &str, root_namespace: &str) -> Option<Arc<Observed>> {
        if !self.is_complete() {
            return None;
        }
        let mut known = self.known();
        let observed = known.get_or_insert_with(|| Arc::new(self.observe(uid, root_namespace)));
        Some(observed.clone())
    }

    fn observe(&self, uid: &str, root_namespace: &str) -> Observed {
        let mut observed = Observed {
            uid: uid.to_owned(),
            without_istio: self.without_istio(),
            ..Observed::default()
        };
        for ((kind, namespace), scope) in self.places().iter() {
            for (name, seen) in &scope.objects {
                match &seen.entry {
                    Entry::Labels(labels) => {
                        observed.namespaces.insert(name.clone(), labels.clone());
                    }
                    Entry::Service(service) => observed.services.push(service.clone()),
                    Entry::Slice(slice) => {
                        let key = format!("{namespace}/{}", slice.service);
                        add(observed.endpoints.entry(key).or_default(), slice);
                    }
                    Entry::Users(value) => {
                        let list = match kind {
                            Kind::VirtualService => &mut observed.virtual_services,
                            Kind::DestinationRule => &mut observed.destination_rules,
                            Kind::Gateway => &mut observed.gateways,
                            Kind::ServiceEntry => &mut observed.service_entries,
                            Kind::HttpRoute => &mut observed.http_routes,
                            _ => continue,
                        };
                        list.push(value.clone());
                    }
                    Entry::Ours(_) => {}
                }
            }
        }
        let root = observed.namespaces.get(root_namespace);
        observed.network = root.and_then(|labels| labels.get(NETWORK)).cloned();
        observed
    }

    fn any(&self, holds: impl Fn(&Place, &Scope) -> bool) -> bool {
        self.places()
            .iter()
            .any(|(place, scope)| holds(place, scope))
    }

    fn tell(&self, kind: Kind, ours: bool, users: bool) {
        let count = |sender: &watch::Sender<u64>| {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        };
        if users {
            self.known().take();
        }
        if ours {
            count(&self.ours);
        }
        if users && kind == Kind::EndpointSlice {
            count(&self.endpoints);
        } else if users {
            count(&self.users);
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Observed>>> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Place, Scope>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(endpoints: &mut Endpoints, slice: &Slice) {
    endpoints.ready = endpoints.ready.saturating_add(slice.ready);
    endpoints.ports.extend(slice.ports.clone());
}
