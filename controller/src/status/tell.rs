//! Events about objects that have no status of ours.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};

use crate::clusters::call::call;

/// Tells of Secrets, in the name of one replica.
pub(crate) struct Teller {
    recorder: Recorder,
    deadline: Duration,
}

impl Teller {
    pub(crate) fn new(hub: Client, instance: &str, deadline: Duration) -> Self {
        Self {
            recorder: recorder(hub, instance),
            deadline,
        }
    }

    /// Tells of a Secret. An event that gets lost is logged and is no error.
    pub(crate) async fn of_secret(&self, namespace: &str, name: &str, uid: &str, event: Event) {
        let secret = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let sent = self.recorder.publish(&event, &secret);
        if let Err(failure) = call(self.deadline, sent).await {
            tracing::warn!(namespace, secret = name, error = %failure, "an event was not taken");
        }
    }
}

/// Whose events they are.
pub(super) fn recorder(hub: Client, instance: &str) -> Recorder {
    let reporter = Reporter {
        controller: "spillway-controller".to_owned(),
        instance: Some(instance.to_owned()),
    };
    Recorder::new(hub, reporter)
}
