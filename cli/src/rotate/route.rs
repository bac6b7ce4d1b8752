//! The token of requests: see the controller's module `tokens`.
//!
//! A step of the rotation may be taken when every proxy acts by the one before. The controller
//! cannot see that, and takes it half a minute after all API servers have what proxies are to have.
//! Here proxies are asked, and the step is taken as soon as they all act by it; where one cannot be
//! asked, the controller takes it in its time. Both write the version that they have read: of two
//! that take the same step one succeeds.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use spillway_controller::tokens::step::{Next, Step};
use spillway_controller::tokens::{Kept, NAME};
use spillway_plan::settings::{Token, Tokens};

use super::{Rotate, proxies};
use crate::attach::step;
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::policies::MANAGER;
use crate::progress::Progress;

/// How often is looked at the Secret, and at the proxies.
const LOOK: Duration = Duration::from_millis(200);
const ASK: Duration = Duration::from_secs(1);
/// Routes do not tell by which version a proxy acts. They are written before the plugins that count
/// on them, so they get this time more; so do requests that are under way with what was before.
const SETTLE: Duration = Duration::from_secs(2);

/// The Secret as it was read.
#[derive(Clone)]
struct Read {
    kept: Kept,
    version: Option<String>,
}

impl Read {
    fn from(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key| data.get(key).map(|it| String::from_utf8_lossy(&it.0));
        Some(Self {
            kept: Kept {
                tokens: text("tokens")?.parse().ok()?,
                next: text("next").as_deref().map(Next::from),
            },
            version: secret.metadata.resource_version.clone(),
        })
    }

    /// What a step writes that waits for proxies.
    fn step(&self) -> Option<Value> {
        let text = |tokens: &Tokens| tokens.iter().collect::<Vec<_>>().join(",");
        match self.kept.step()? {
            Step::Settled(tokens) => Some(json!({"stringData": {"tokens": text(&tokens)}})),
            Step::Last(tokens) => {
                Some(json!({"stringData": {"tokens": text(&tokens)}, "data": {"next": null}}))
            }
            Step::Make | Step::Accept(_) | Step::Done => None,
        }
    }
}

/// What came of a rotation that began with this token sent.
fn stage(kept: &Kept, old: &Token) -> Stage {
    let is_sent = kept.tokens.sent() == old;
    match (is_sent, kept.tokens.accepted(), &kept.next) {
        (true, None, _) => Stage::Asked,
        (true, Some(_), _) => Stage::Accepted,
        (false, _, Some(_)) => Stage::Sent,
        (false, _, None) => Stage::Over,
    }
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Asked,
    Accepted,
    Sent,
    Over,
}

impl Stage {
    const ALL: [(Self, &'static str); 3] = [
        (
            Self::Accepted,
            "the new token is accepted, and not sent yet",
        ),
        (
            Self::Sent,
            "every cluster accepts the new token: it is sent, and the old one still accepted",
        ),
        (
            Self::Over,
            "every cluster sends the new token: the old one is not accepted any more",
        ),
    ];
}

pub(super) async fn run(
    rotate: &Rotate,
    connection: &Connection,
    hub: &Cluster,
) -> Result<Exit, Failure> {
    let namespace = &rotate.place.system_namespace;
    let rotation = Rotation {
        rotate,
        connection,
        hub,
        secrets: Api::namespaced(hub.client.clone(), namespace),
    };
    let shown = format!("Secret {namespace}/{NAME} on {}", hub.name);
    let before = rotation.read().await?;
    if before.kept.next.is_some() {
        step(&format!("{shown}: a rotation is under way"));
    } else {
        let tried = if rotate.place.dry_run {
            " (dry run)"
        } else {
            ""
        };
        let asked = rotation.write(json!({"stringData": {"next": ""}})).await;
        asked.map_err(|error| hub.failed("another token cannot be asked for", &error))?;
        step(&format!("{shown}: another token is asked for{tried}"));
    }
    if rotate.place.dry_run {
        return Ok(Exit::Fine);
    }
    rotation.follow(before.kept).await
}

struct Rotation<'a> {
    rotate: &'a Rotate,
    connection: &'a Connection,
    hub: &'a Cluster,
    secrets: Api<Secret>,
}

impl Rotation<'_> {
    /// Tells each stage when it is reached, and takes steps that may be taken.
    async fn follow(&self, before: Kept) -> Result<Exit, Failure> {
        let progress = Progress::new("the token is rotated".to_owned());
        // One that was under way may have been past its first stages.
        let sent = before.tokens.sent();
        let old = match (before.tokens.accepted(), &before.next) {
            (Some(other), Some(Next::Made(next))) if next == sent => other.clone(),
            _ => sent.clone(),
        };
        let began = Instant::now();
        let mut reached = stage(&before, &old);
        let mut lacking = Lacking::default();
        while reached != Stage::Over {
            tokio::time::sleep(LOOK).await;
            let now = self.read().await?;
            let stage = stage(&now.kept, &old);
            for (passed, words) in Stage::ALL {
                if passed > reached && passed <= stage {
                    progress.aside(|| step(words));
                }
            }
            reached = reached.max(stage);
            if let Some(count) = lacking.look(self, &now).await {
                progress.aside(|| step(&format!("all proxies act by it ({count})")));
                self.take(&now).await?;
            }
            if began.elapsed() > Duration::from_secs(self.rotate.timeout) {
                return Err(self.late(reached, lacking.why).await);
            }
            progress.say(format!("the token is rotated ({reached:?})"));
        }
        Ok(Exit::Fine)
    }

    /// Takes the step, unless somebody has taken it meanwhile.
    async fn take(&self, now: &Read) -> Result<(), Failure> {
        let Some(mut written) = now.step() else {
            return Ok(());
        };
        if let Some(fields) = written.as_object_mut() {
            let metadata = json!({"resourceVersion": now.version});
            fields.insert("metadata".to_owned(), metadata);
        }
        match self.write(written).await {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(self.hub.failed("the token cannot be rotated", &error)),
        }
    }

    async fn late(&self, reached: Stage, lacking: Option<String>) -> Failure {
        let timeout = self.rotate.timeout;
        let why = match waiting(self.hub, &self.rotate.place.system_namespace).await {
            Some(why) => why,
            None if reached == Stage::Asked => {
                "the controller has said nothing of it; does one lead?".to_owned()
            }
            None => {
                let lacking = lacking.map(|why| format!(" ({why})"));
                format!(
                    "a step waits until every proxy acts by the one before{}, or every cluster has had it for half a minute",
                    lacking.unwrap_or_default()
                )
            }
        };
        Failure::new(
            Exit::TimedOut,
            format!("the token is not rotated after {timeout} s: {why}"),
            "Nothing is broken: both tokens count until it goes on. Run it again to follow it.",
        )
    }

    async fn read(&self) -> Result<Read, Failure> {
        let hub = self.hub;
        let secret = self.secrets.get_opt(NAME).await;
        let secret =
            secret.map_err(|error| hub.failed("the mesh's token cannot be read", &error))?;
        secret.as_ref().and_then(Read::from).ok_or_else(|| {
            Failure::bad_input(
                format!("{} has no Secret {NAME} with a token", hub.name),
                "The controller makes it when it leads; name its namespace by --system-namespace.",
            )
        })
    }

    async fn write(&self, patch: Value) -> kube::Result<()> {
        let parameters = PatchParams {
            dry_run: self.rotate.place.dry_run,
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let written = self.secrets.patch(NAME, &parameters, &patch).await;
        written.map(drop)
    }
}

/// What proxies lack of the step before.
#[derive(Default)]
struct Lacking {
    asked: Option<Instant>,
    /// Since when none lacks anything of this version of the Secret.
    settled: Option<(Option<String>, Instant)>,
    why: Option<String>,
}

impl Lacking {
    /// How many proxies act by what was read, once it is time for the next step.
    async fn look(&mut self, rotation: &Rotation<'_>, now: &Read) -> Option<usize> {
        now.step()?;
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK) {
            return None;
        }
        let tokens = &now.kept.tokens;
        let acting = proxies::acting_by(rotation.connection, rotation.hub, tokens).await;
        self.asked = Some(Instant::now());
        let count = match acting {
            Ok(count) => count,
            Err(why) => {
                (self.why, self.settled) = (Some(why), None);
                return None;
            }
        };
        self.why = None;
        let known = self.settled.take().filter(|(of, _)| *of == now.version);
        let (_, since) = self
            .settled
            .insert(known.unwrap_or((now.version.clone(), Instant::now())));
        (since.elapsed() >= SETTLE).then_some(count)
    }
}

/// What the controller says that it waits for, if it does longer than it would.
async fn waiting(hub: &Cluster, namespace: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(hub.client.clone(), namespace);
    let selector = format!("regarding.name={NAME}");
    let events = events.list(&ListParams::default().fields(&selector)).await;
    let mut events = events.map(|events| events.items).unwrap_or_default();
    events.retain(|event| event.reason.as_deref() == Some("WaitingForClusters"));
    events.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
    events.pop()?.note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_secret_is_a_stage() {
        let old = Token::try_from("token-old".to_owned()).unwrap();
        for (tokens, next, reached) in [
            ("token-old", Some(""), Stage::Asked),
            ("token-old,token-new", Some("token-new"), Stage::Accepted),
            ("token-new,token-old", Some("token-new"), Stage::Sent),
            ("token-new", Some("token-new"), Stage::Sent),
            ("token-new", None, Stage::Over),
        ] {
            let kept = Kept {
                tokens: tokens.parse().unwrap(),
                next: next.map(Next::from),
            };
            assert_eq!(stage(&kept, &old), reached, "{kept:?}");
        }
    }

    /// Only steps that others depend on wait for proxies.
    #[test]
    fn what_is_written_when_proxies_act_by_it() {
        for (tokens, next, written) in [
            ("token-old", "", None),
            ("token-old", "token-new", None),
            (
                "token-old,token-new",
                "token-new",
                Some(json!({"stringData": {"tokens": "token-new,token-old"}})),
            ),
            (
                "token-new,token-old",
                "token-new",
                Some(json!({"stringData": {"tokens": "token-new"}, "data": {"next": null}})),
            ),
            ("token-new", "token-new", None),
        ] {
            let kept = Kept {
                tokens: tokens.parse().unwrap(),
                next: Some(Next::from(next)),
            };
            let version = None;
            assert_eq!(Read { kept, version }.step(), written, "{tokens}");
        }
    }
}
