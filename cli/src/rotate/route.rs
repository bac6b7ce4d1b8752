//! The token of requests: see the controller's module `tokens`.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use spillway_controller::tokens::NAME;

use super::Rotate;
use crate::attach::step;
use crate::connection::Cluster;
use crate::exit::{Exit, Failure};
use crate::policies::MANAGER;
use crate::progress::Progress;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(200);

/// What the Secret says.
#[derive(Debug, PartialEq, Eq)]
struct Tokens {
    sent: String,
    accepted: Option<String>,
    /// Whether one is to follow.
    is_rotated: bool,
}

impl Tokens {
    fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = String::from_utf8_lossy(&data.get("tokens")?.0).into_owned();
        let mut tokens = text.split(',').map(|token| token.trim().to_owned());
        Some(Self {
            sent: tokens.next()?,
            accepted: tokens.next(),
            is_rotated: data.contains_key("next"),
        })
    }

    /// What came of a rotation that began with this token sent.
    fn stage(&self, old: &str) -> Stage {
        match (self.sent == old, &self.accepted, self.is_rotated) {
            (true, None, _) => Stage::Asked,
            (true, Some(_), _) => Stage::Accepted,
            (false, _, true) => Stage::Sent,
            (false, _, false) => Stage::Over,
        }
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

pub(super) async fn run(rotate: &Rotate, hub: &Cluster) -> Result<Exit, Failure> {
    let namespace = &rotate.place.system_namespace;
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
    let shown = format!("Secret {namespace}/{NAME} on {}", hub.name);
    let before = read(hub, &secrets).await?;
    if before.is_rotated {
        step(&format!("{shown}: a rotation is under way"));
    } else {
        let patch = Patch::Merge(json!({"stringData": {"next": ""}}));
        let parameters = PatchParams {
            dry_run: rotate.place.dry_run,
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let asked = secrets.patch(NAME, &parameters, &patch).await;
        asked.map_err(|error| hub.failed("another token cannot be asked for", &error))?;
        let tried = if rotate.place.dry_run {
            " (dry run)"
        } else {
            ""
        };
        step(&format!("{shown}: another token is asked for{tried}"));
    }
    if rotate.place.dry_run {
        return Ok(Exit::Fine);
    }
    follow(rotate, hub, &secrets, before).await
}

/// Tells each stage when it is reached.
async fn follow(
    rotate: &Rotate,
    hub: &Cluster,
    secrets: &Api<Secret>,
    before: Tokens,
) -> Result<Exit, Failure> {
    let progress = Progress::new("the controller rotates the token".to_owned());
    // One that was under way may have been past its first stages.
    let old = match &before.accepted {
        Some(other) if before.is_rotated && is_next(secrets, &before.sent).await => other.clone(),
        _ => before.sent.clone(),
    };
    let began = Instant::now();
    let mut reached = before.stage(&old);
    while reached != Stage::Over {
        tokio::time::sleep(LOOK).await;
        let stage = read(hub, secrets).await?.stage(&old);
        for (passed, words) in Stage::ALL {
            if passed > reached && passed <= stage {
                progress.aside(|| step(words));
            }
        }
        reached = reached.max(stage);
        if began.elapsed() > Duration::from_secs(rotate.timeout) {
            let why = waiting(hub, &rotate.place.system_namespace).await;
            let why = why.unwrap_or_else(|| match reached {
                Stage::Asked => "the controller has said nothing of it; does one lead?".to_owned(),
                _ => "a step waits until every cluster has had the one before for half a minute"
                    .to_owned(),
            });
            return Err(Failure::new(
                Exit::TimedOut,
                format!("the token is not rotated after {} s: {why}", rotate.timeout),
                "Nothing is broken: both tokens count until it goes on. Run it again to follow it.",
            ));
        }
        progress.say(format!("the controller rotates the token ({reached:?})"));
    }
    Ok(Exit::Fine)
}

/// Whether a token is the one that is to follow: the stage of a rotation that somebody else began.
async fn is_next(secrets: &Api<Secret>, token: &str) -> bool {
    let secret = secrets.get_opt(NAME).await.ok().flatten();
    let next = secret.and_then(|secret| secret.data?.remove("next"));
    next.is_some_and(|next| String::from_utf8_lossy(&next.0).trim() == token)
}

async fn read(hub: &Cluster, secrets: &Api<Secret>) -> Result<Tokens, Failure> {
    let secret = secrets.get_opt(NAME).await;
    let secret = secret.map_err(|error| hub.failed("the mesh's token cannot be read", &error))?;
    secret.as_ref().and_then(Tokens::read).ok_or_else(|| {
        Failure::bad_input(
            format!("{} has no Secret {NAME} with a token", hub.name),
            "The controller makes it when it leads; name its namespace by --system-namespace.",
        )
    })
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
        let tokens = |sent: &str, accepted: Option<&str>, is_rotated| Tokens {
            sent: sent.to_owned(),
            accepted: accepted.map(str::to_owned),
            is_rotated,
        };
        for (tokens, stage) in [
            (tokens("old", None, true), Stage::Asked),
            (tokens("old", Some("new"), true), Stage::Accepted),
            (tokens("new", Some("old"), true), Stage::Sent),
            (tokens("new", None, true), Stage::Sent),
            (tokens("new", None, false), Stage::Over),
        ] {
            assert_eq!(tokens.stage("old"), stage, "{tokens:?}");
        }
    }
}
