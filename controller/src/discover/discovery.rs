//! Makes and deletes the MeshClusters of clusters that nobody attached, while this process leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, ResourceExt};
use spillway_api::MeshCluster;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::changes::{Changes, Younger, changes};
use super::secrets::{self, Secrets};
use crate::clusters::call::{Failure, call, find};
use crate::engine::backoff::Backoff;
use crate::engine::{Authority, Options, Snapshot};
use crate::status::Teller;

/// Makes MeshClusters out of the remote secrets of some namespaces.
pub struct Discovery {
    clusters: Api<MeshCluster>,
    teller: Teller,
    deadline: Duration,
    backoff: Backoff,
    secrets: watch::Receiver<Secrets>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    /// The Secrets that were said to come too late, by UID, and their clusters.
    told: BTreeSet<(String, String)>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

impl Discovery {
    /// Begins to watch these namespaces. What there is of MeshClusters, and whether this process
    /// leads, it learns from an engine.
    #[must_use]
    pub fn new(
        hub: &Client,
        instance: &str,
        options: &Options,
        namespaces: &[String],
        snapshot: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        let none = namespaces.iter().map(|name| (name.clone(), None));
        let (told, secrets) = watch::channel(none.collect());
        let watch = |namespace: &String| {
            let (hub, backoff) = (hub.clone(), options.backoff.clone());
            let watch = secrets::watch(hub, namespace.clone(), backoff, told.clone());
            AbortOnDropHandle::new(tokio::spawn(watch))
        };
        Self {
            clusters: Api::all(hub.clone()),
            teller: Teller::new(hub.clone(), instance, options.deadline),
            deadline: options.deadline,
            backoff: options.backoff.clone(),
            secrets,
            snapshot,
            told: BTreeSet::new(),
            _watches: namespaces.iter().map(watch).collect(),
        }
    }

    /// Works until nobody plans any more.
    pub async fn run(mut self) {
        loop {
            let secrets = self.secrets.borrow_and_update().clone();
            let snapshot = self.snapshot.borrow_and_update().clone();
            let office = snapshot.office.as_ref().filter(|office| office.holds());
            let mut again = Duration::MAX;
            if let Some(office) = office {
                let unread = snapshot.unread.clusters.iter();
                let unread = unread.map(|it| Arc::new(it.cluster()));
                let all: Vec<_> = snapshot.clusters.iter().cloned().chain(unread).collect();
                let changes = changes(&secrets, &all);
                if self.carry_out(changes, office).await {
                    self.backoff.succeed();
                } else {
                    again = self.backoff.after_failure();
                }
            }
            tokio::select! {
                told = self.secrets.changed() => if told.is_err() { return },
                planned = self.snapshot.changed() => if planned.is_err() { return },
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Whether all of it was done.
    async fn carry_out(&mut self, changes: Changes, office: &Authority) -> bool {
        let mut done = true;
        for cluster in &changes.delete {
            if !office.holds() {
                return false;
            }
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: cluster.uid(),
                    resource_version: cluster.resource_version(),
                }),
                ..DeleteParams::default()
            };
            let name = cluster.name_any();
            let deleted = find(self.deadline, self.clusters.delete(&name, &params)).await;
            done &= tell(&name, "delete", deleted.map(drop));
        }
        for cluster in &changes.make {
            if !office.holds() {
                return false;
            }
            let params = PostParams::default();
            let made = call(self.deadline, self.clusters.create(&params, cluster)).await;
            done &= tell(&cluster.name_any(), "create", made.map(drop));
        }
        for younger in &changes.younger {
            self.tell_younger(younger).await;
        }
        done
    }

    /// Says of a Secret that it comes too late, once.
    async fn tell_younger(&mut self, younger: &Younger) {
        let Younger {
            secret,
            cluster,
            older,
        } = younger;
        if !self.told.insert((secret.uid.clone(), cluster.clone())) {
            return;
        }
        let note = format!(
            "the older Secret {older} tells of the cluster {cluster} too, and counts: take it out of one of the two"
        );
        tracing::warn!(
            namespace = secret.namespace,
            secret = secret.name,
            note,
            "two remote secrets tell of one cluster"
        );
        let event = Event {
            type_: EventType::Warning,
            reason: "ClusterToldTwice".to_owned(),
            note: Some(note),
            action: "Discover".to_owned(),
            secondary: None,
        };
        self.teller
            .of_secret(&secret.namespace, &secret.name, &secret.uid, event)
            .await;
    }
}

/// Says what became of a write, and whether it need not be tried again.
fn tell(cluster: &str, what: &'static str, outcome: Result<(), Failure>) -> bool {
    match outcome {
        Ok(()) => {
            tracing::info!(cluster, action = what, "a discovered cluster was written");
            true
        }
        // Somebody else was there first: the next plan knows of it.
        Err(failure) if failure.code() == Some(409) => true,
        Err(failure) => {
            tracing::warn!(cluster, action = what, error = %failure, "a discovered cluster could not be written");
            false
        }
    }
}
