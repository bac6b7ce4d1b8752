//! Writes statuses to the hub, and events about what changed in them.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::TypeMeta;
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spillway_api::{BurstPolicyStatus, FleetStatus, MeshClusterStatus};

use super::events::events;
use super::tell::recorder;
use super::unreadable;
use crate::clusters::call::{Failure, call, find};
use crate::observe::read::Unreadable;

/// What became of a status.
#[derive(Debug)]
pub enum Published<K> {
    /// It was written, and this is the object now.
    Written(Box<K>),
    /// It stood there already.
    Unchanged,
    /// The object has changed since it was read, or is gone: compute the status from what the
    /// watch brings next.
    Outdated,
}

/// A status with conditions.
pub trait Conditions {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
}

impl Conditions for BurstPolicyStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

impl Conditions for FleetStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

impl Conditions for MeshClusterStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

/// Publishes in the name of one replica. It does not ask whether that leads.
#[derive(Clone)]
pub struct Publisher {
    recorder: Recorder,
    deadline: Duration,
}

impl Publisher {
    /// Every call to the hub ends within `deadline`.
    #[must_use]
    pub fn new(hub: Client, instance: &str, deadline: Duration) -> Self {
        Self {
            recorder: recorder(hub, instance),
            deadline,
        }
    }

    /// Writes a status where it differs from the one that `object` came with. It carries the
    /// object's resourceVersion, so that a status never replaces one that is about a newer object
    /// or that a newer leader wrote.
    ///
    /// # Errors
    /// When the hub does not take it, or does not answer in time. Events that get lost are logged
    /// and are no error.
    pub async fn publish<K>(
        &self,
        api: &Api<K>,
        object: &K,
        status: K::Status,
    ) -> Result<Published<K>, Failure>
    where
        K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + Serialize,
        K::Status: Conditions + PartialEq,
    {
        if object.status() == Some(&status) {
            return Ok(Published::Unchanged);
        }
        let told = object.status().map(Conditions::conditions);
        let told = events(told.unwrap_or_default(), status.conditions());
        let mut changed = object.clone();
        *changed.status_mut() = Some(status);
        let (name, params) = (object.name_any(), PostParams::default());
        let written = api.replace_status(&name, &params, &changed);
        let written = match call(self.deadline, written).await {
            Ok(written) => written,
            Err(failure) if matches!(failure.code(), Some(404 | 409)) => {
                return Ok(Published::Outdated);
            }
            Err(failure) => return Err(failure),
        };
        self.send(told, &name, &object.object_ref(&())).await;
        Ok(Published::Written(Box::new(written)))
    }

    /// Reads the object of this name; none when it is gone.
    ///
    /// # Errors
    /// When the hub does not answer in time, or refuses.
    pub async fn newest<K>(&self, api: &Api<K>, name: &str) -> Result<Option<K>, Failure>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        find(self.deadline, api.get(name)).await
    }

    /// Says of a resource that it cannot be read, unless that was said already; by the condition of
    /// this type, and by an event. One that has changed meanwhile comes again by itself.
    ///
    /// # Errors
    /// When the hub does not take it, or does not answer in time.
    pub async fn publish_unreadable<K>(
        &self,
        hub: &Client,
        unreadable: &Unreadable,
        kind: &'static str,
        now: &Time,
    ) -> Result<(), Failure>
    where
        K: Resource<DynamicType = ()>,
    {
        let Some((before, after, mut object)) = unreadable::told(unreadable, kind, now) else {
            return Ok(());
        };
        let resource = ApiResource::erase::<K>(&());
        object.types = Some(TypeMeta::resource::<K>());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(hub.clone(), &namespace, &resource),
            None => Api::all_with(hub.clone(), &resource),
        };
        let (name, params) = (object.name_any(), PostParams::default());
        let written = api.replace_status(&name, &params, &object);
        match call(self.deadline, written).await {
            Ok(_) => {
                let about = object.object_ref(&resource);
                self.send(events(&before, &after), &name, &about).await;
                Ok(())
            }
            Err(failure) if matches!(failure.code(), Some(404 | 409)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn send(&self, events: Vec<Event>, name: &str, about: &ObjectReference) {
        for event in events {
            let sent = self.recorder.publish(&event, about);
            if let Err(failure) = call(self.deadline, sent).await {
                tracing::warn!(object = name, %failure, "an event was not taken");
                // The others would be waited for as long.
                break;
            }
        }
    }
}
