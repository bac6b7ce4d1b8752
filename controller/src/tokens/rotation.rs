//! Takes the steps of a rotation, while this process leads.
//!
//! A step is taken when every cluster has had the tokens before it for [`Options::rotation_pause`]:
//! that an API server has an object does not say that istiod has handed it out and that sidecars
//! follow it. A write carries the version that it was decided from, so that neither a user's edit
//! nor a newer leader's step is overwritten. A cluster that has not got them after as long is named
//! in the log and in an Event on the Secret, once as long as it is the same clusters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use spillway_api::MeshCluster;
use spillway_plan::settings::Tokens;
use tokio::sync::watch;

use super::secret::{self, Found, KEY, NAME, NEXT};
use super::settled::{Settled, settled};
use super::step::{Next, Step};
use crate::clusters::call::{Failure, call};
use crate::engine::backoff::Backoff;
use crate::engine::{Authority, Options, Reports, Snapshot};
use crate::status::{Teller, some};

/// While a step waits it is looked at most once in this time, however often clusters report.
const PACE: Duration = Duration::from_millis(100);

/// Rotates the mesh's tokens where the Secret asks for it.
pub struct Rotation {
    secrets: Api<Secret>,
    namespace: String,
    teller: Teller,
    deadline: Duration,
    pause: Duration,
    backoff: Backoff,
    found: watch::Receiver<Option<Found>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    reports: Arc<Reports>,
    /// Since when every cluster has the tokens of this version of the Secret.
    since: Option<(String, Instant)>,
    /// Since when it waits for clusters.
    waiting: Option<Instant>,
    /// What was said last was about this.
    told: Option<String>,
}

impl Rotation {
    /// Rotates what [`super::follow`] finds, by what an engine plans and reports.
    #[must_use]
    pub fn new(
        hub: &Client,
        instance: &str,
        options: &Options,
        found: watch::Receiver<Option<Found>>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        reports: Arc<Reports>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(hub.clone(), &options.system_namespace),
            namespace: options.system_namespace.clone(),
            teller: Teller::new(hub.clone(), instance, options.deadline),
            deadline: options.deadline,
            pause: options.rotation_pause,
            backoff: options.backoff.clone(),
            found,
            snapshot,
            reports,
            since: None,
            waiting: None,
            told: None,
        }
    }

    /// Works until nobody tells of the Secret any more.
    pub async fn run(mut self) {
        let mut reported = self.reports.changed();
        loop {
            reported.borrow_and_update();
            let again = self.look().await;
            tokio::time::sleep(PACE).await;
            tokio::select! {
                found = self.found.changed() => if found.is_err() { return },
                planned = self.snapshot.changed() => if planned.is_err() { return },
                _ = reported.changed(), if self.rotates() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    fn rotates(&self) -> bool {
        let found = self.found.borrow();
        found
            .as_ref()
            .is_some_and(|found| found.kept.next.is_some())
    }

    /// Takes a step if it is time; returns how long to wait at most before the next look.
    async fn look(&mut self) -> Duration {
        let found = self.found.borrow_and_update().clone();
        let snapshot = self.snapshot.borrow_and_update().clone();
        let office = snapshot.office.as_ref().filter(|office| office.holds());
        let (Some(found), Some(office)) = (found, office) else {
            self.since = None;
            return Duration::MAX;
        };
        if found.kept.next == Some(Next::Unusable) {
            let words = format!(
                "{NEXT} is no token: write 8 to 64 of A-Z a-z 0-9 _ -, or nothing to have one made"
            );
            let event = event(EventType::Warning, "NextUnusable", words);
            self.tell(&found, &found.version, event).await;
        }
        let Some(step) = found.kept.step() else {
            self.since = None;
            return Duration::MAX;
        };
        if matches!(step, Step::Settled(_) | Step::Last(_))
            && let Some(wait) = self.wait(&found, &snapshot).await
        {
            return wait;
        }
        self.take(&found, step, office).await
    }

    /// How long a step waits; none where it is time.
    async fn wait(&mut self, found: &Found, snapshot: &Snapshot) -> Option<Duration> {
        match settled(&found.kept.tokens, snapshot, &self.reports) {
            Settled::Unplanned => {
                self.since = None;
                Some(Duration::MAX)
            }
            Settled::Waiting(clusters) => {
                self.since = None;
                let waiting = self.waiting.get_or_insert_with(Instant::now);
                let left = self.pause.saturating_sub(waiting.elapsed());
                if !left.is_zero() {
                    return Some(left);
                }
                let names = some(clusters.keys().map(String::as_str));
                let first = clusters.first_key_value();
                let first = first.map(|(name, why)| format!("{name}: {why}"));
                let words = format!(
                    "{} clusters do not have the tokens yet: {names}; {}",
                    clusters.len(),
                    first.unwrap_or_default()
                );
                // Events about the same are counted and keep their first words: the cluster tells
                // them apart.
                let event = Event {
                    secondary: clusters.keys().next().map(|name| mesh_cluster(name)),
                    ..event(EventType::Warning, "WaitingForClusters", words)
                };
                self.tell(found, &names, event).await;
                Some(Duration::MAX)
            }
            Settled::Yes => {
                self.waiting = None;
                let now = Instant::now();
                let since = self.since.take().filter(|(of, _)| *of == found.version);
                let (_, since) = self
                    .since
                    .insert(since.unwrap_or((found.version.clone(), now)));
                let left = self.pause.saturating_sub(now.duration_since(*since));
                (!left.is_zero()).then_some(left)
            }
        }
    }

    async fn take(&mut self, found: &Found, step: Step, office: &Authority) -> Duration {
        let (data, what, words) = match written(&step) {
            Ok(written) => written,
            Err(error) => return self.failed(&Failure::Unreachable(error.to_string())),
        };
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": found.version},
            "data": data.removed,
            "stringData": data.set,
        }));
        if !office.holds() {
            return Duration::MAX;
        }
        let params = PatchParams::default();
        match call(
            self.deadline,
            self.secrets.patch_metadata(NAME, &params, &patch),
        )
        .await
        {
            Ok(_) => {
                self.backoff.succeed();
                (self.since, self.waiting) = (None, None);
                let event = event(EventType::Normal, what, words.to_owned());
                self.tell(found, &found.version, event).await;
                Duration::MAX
            }
            // The watch brings what is newer.
            Err(failure) if failure.code() == Some(409) => self.backoff.after_failure(),
            Err(failure) => self.failed(&failure),
        }
    }

    fn failed(&mut self, failure: &Failure) -> Duration {
        let pause = self.backoff.after_failure();
        tracing::warn!(secret = NAME, error = %failure, retry = ?pause, "the mesh's tokens could not be rotated");
        pause
    }

    /// Says something, unless what was said last was about the same.
    async fn tell(&mut self, found: &Found, about: &str, event: Event) {
        let told = format!("{} {about}", event.reason);
        if self.told.as_ref() == Some(&told) {
            return;
        }
        self.told = Some(told);
        tracing::info!(
            secret = NAME,
            reason = event.reason,
            detail = event.note,
            "the mesh's tokens are rotated"
        );
        let teller = &self.teller;
        teller
            .of_secret(&self.namespace, NAME, &found.uid, event)
            .await;
    }
}

fn event(type_: EventType, reason: &str, words: String) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(words),
        action: "Rotate".to_owned(),
        secondary: None,
    }
}

fn mesh_cluster(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(MeshCluster::api_version(&()).into_owned()),
        kind: Some(MeshCluster::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// The keys that are written, and those that go.
struct Data {
    set: Value,
    removed: Value,
}

/// What a step writes, what it is called, and what it means.
fn written(step: &Step) -> std::io::Result<(Data, &'static str, &'static str)> {
    let text = |tokens: &Tokens| tokens.iter().collect::<Vec<_>>().join(",");
    let set = |set: Value| Data {
        set,
        removed: json!({}),
    };
    Ok(match step {
        Step::Make => (
            set(json!({NEXT: secret::random()?})),
            "TokenMade",
            "a new token was made",
        ),
        Step::Accept(tokens) => (
            set(json!({KEY: text(tokens)})),
            "TokenAccepted",
            "the new token is accepted now, and not sent yet",
        ),
        Step::Settled(tokens) if tokens.accepted().is_none() => (
            set(json!({KEY: text(tokens)})),
            "TokenDropped",
            "a token that is not sent any more is not accepted any more",
        ),
        Step::Settled(tokens) => (
            set(json!({KEY: text(tokens)})),
            "TokenSent",
            "the new token is sent now, and the old one still accepted",
        ),
        Step::Last(tokens) => (
            Data {
                set: json!({KEY: text(tokens)}),
                removed: json!({NEXT: null}),
            },
            "TokenRotated",
            "the old token is not accepted any more: the rotation is over",
        ),
        Step::Done => (
            Data {
                set: json!({}),
                removed: json!({NEXT: null}),
            },
            "TokenRotated",
            "the mesh has the new token alone: the rotation is over",
        ),
    })
}
