//! One write to a member.
//!
//! No write replaces what it was not compared with. An object that is there is applied with the
//! resource version that was read. One that is to be created is applied with the version `0`: an
//! API server creates it, and refuses where there is one already, whereas without a version it
//! would merge the two. A deletion names UID and version. So a controller that slept, or that
//! lost the election while a request was under way, replaces nothing that is newer.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use spillway_api::istio;
use spillway_plan::diff::Action;
use spillway_plan::output::{INTENT, Key};

use crate::clusters::call::{Failure, call, find};
use crate::observe::index::{Index, Place};
use crate::observe::kinds::Kind;

/// Who Spillway is among the managers of an object's fields.
pub const FIELD_MANAGER: &str = "spillway";

/// Writes to one member, and keeps its index true.
pub struct Writer<'a> {
    /// The member.
    pub client: &'a Client,
    /// What was seen of it.
    pub index: &'a Index,
    /// For each call.
    pub deadline: Duration,
}

impl Writer<'_> {
    /// Carries out one action.
    ///
    /// # Errors
    /// When the API server does not do it. After a conflict the index holds what is there.
    pub async fn carry_out(&self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Apply { key, object } => self.apply(key, object).await,
            Action::Replace { object, .. } => self.edit(object).await,
            Action::Delete { key, uid } => self.delete(key, uid.clone()).await,
        }
    }

    async fn apply(&self, key: &Key, object: &Value) -> Result<(), Failure> {
        let (api, place) = self.place(key)?;
        let creates = version(object).is_none();
        let first = if creates {
            with_version(object.clone(), "0")
        } else {
            object.clone()
        };
        match self.patch(&api, key, &first).await {
            Ok(applied) => {
                self.index.applied(&place, applied);
                Ok(())
            }
            // 409: there is a newer one. 422: there is one although there should be none.
            Err(failure)
                if failure.code() == Some(409) || creates && failure.code() == Some(422) =>
            {
                self.look_again(key, object, failure).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Something else is there than was thought. What is ours goes into the index, from which the
    /// next look takes it; what somebody took our label from gets it back.
    async fn look_again(&self, key: &Key, object: &Value, failure: Failure) -> Result<(), Failure> {
        let (api, place) = self.place(key)?;
        let Some(found) = find(self.deadline, api.get(&key.name)).await? else {
            self.index.removed(&place, &key.name);
            return Err(failure);
        };
        let is_labelled = spillway_plan::output::MANAGED_BY;
        let labels = found.metadata.labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(is_labelled)) {
            self.index.applied(&place, found);
            return Err(failure);
        }
        let annotations = found.metadata.annotations.as_ref();
        let was_ours = annotations.is_some_and(|annotations| annotations.contains_key(INTENT));
        if version(object).is_some() || !was_ours {
            return Err(Failure::Refused {
                code: 422,
                message: format!(
                    "{} {}/{} is there and is not Spillway's: rename or delete it",
                    place.0.as_str(),
                    key.namespace,
                    key.name
                ),
                retry_after: None,
            });
        }
        let there = found.metadata.resource_version.unwrap_or_default();
        let again = with_version(object.clone(), &there);
        let applied = self.patch(&api, key, &again).await?;
        self.index.applied(&place, applied);
        Ok(())
    }

    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        key: &Key,
        object: &Value,
    ) -> Result<DynamicObject, Failure> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        call(
            self.deadline,
            api.patch(&key.name, &params, &Patch::Apply(object)),
        )
        .await
    }

    /// Our routes in a user's VirtualService. Only `spec.http` is sent, so that nothing else of it
    /// can change, whatever the version in which it was read.
    async fn edit(&self, object: &Value) -> Result<(), Failure> {
        let key = Key::of(object).ok_or(Failure::Answer)?;
        let (api, place) = self.place(&key)?;
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": version(object)},
            "spec": {"http": object.pointer("/spec/http")},
        }));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let edited = call(self.deadline, api.patch(&key.name, &params, &patch)).await?;
        self.index.applied(&place, edited);
        Ok(())
    }

    async fn delete(&self, key: &Key, uid: Option<String>) -> Result<(), Failure> {
        let (api, place) = self.place(key)?;
        let there = self.index.found(&place, &key.name);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: there.as_ref().and_then(version).map(str::to_owned),
                uid,
            }),
            ..DeleteParams::default()
        };
        let deleted = find(self.deadline, api.delete(&key.name, &params)).await;
        match deleted {
            Ok(_) => {
                self.index.removed(&place, &key.name);
                Ok(())
            }
            Err(failure) if failure.code() == Some(409) => {
                match find(self.deadline, api.get(&key.name)).await? {
                    Some(found) => self.index.applied(&place, found),
                    None => self.index.removed(&place, &key.name),
                }
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    fn place(&self, key: &Key) -> Result<(Api<DynamicObject>, Place), Failure> {
        let kind: istio::Kind = key.kind().ok_or(Failure::Answer)?;
        let kind = Kind::of_ours(kind).ok_or(Failure::Answer)?;
        let api = Api::namespaced_with(self.client.clone(), &key.namespace, &kind.resource());
        Ok((api, (kind, key.namespace.clone())))
    }
}

fn version(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion")?.as_str()
}

fn with_version(mut object: Value, version: &str) -> Value {
    if let Some(Value::Object(metadata)) = object.pointer_mut("/metadata") {
        metadata.insert("resourceVersion".to_owned(), version.into());
    }
    object
}
