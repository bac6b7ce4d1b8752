//! The Secret that holds the tokens: made once, and followed.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use rustls::crypto::ring;
use serde_json::json;
use tokio::sync::watch;

use super::step::{Kept, Next};
use crate::clusters::call::{Failure, call, find};
use crate::engine::backoff::Backoff;

/// The Secret's name.
pub const NAME: &str = "spillway-tokens";
pub(super) const KEY: &str = "tokens";
pub(super) const NEXT: &str = "next";

/// The Secret as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it says.
    pub kept: Kept,
    /// Its resource version.
    pub version: String,
    /// Its UID.
    pub uid: String,
}

/// Tells the tokens, now and whenever they change. Tokens that cannot be used are not told: the
/// ones before stay.
pub async fn follow(
    hub: Client,
    namespace: String,
    deadline: Duration,
    mut backoff: Backoff,
    tokens: watch::Sender<Option<Found>>,
) {
    let secrets: Api<Secret> = Api::namespaced(hub, &namespace);
    while let Err(failure) = create(&secrets, deadline).await {
        tracing::warn!(error = %failure, "the mesh's tokens cannot be read or made");
        tokio::time::sleep(backoff.after_failure()).await;
    }
    let mut seen = watch_object(secrets, NAME).boxed();
    while let Some(found) = seen.next().await {
        match found {
            Ok(secret) => {
                backoff.succeed();
                match secret.as_ref().and_then(read) {
                    Some(read) => {
                        tokens.send_if_modified(|known| known.replace(read.clone()) != Some(read));
                    }
                    None => tracing::error!(
                        secret = NAME,
                        "the mesh's tokens cannot be used: write one or two, each 8 to 64 of A-Z a-z 0-9 _ -, with a comma between them"
                    ),
                }
            }
            Err(_) => tokio::time::sleep(backoff.after_failure()).await,
        }
    }
}

/// Makes the Secret where there is none; of two who do so at once one succeeds.
async fn create(secrets: &Api<Secret>, deadline: Duration) -> Result<(), Failure> {
    if find(deadline, secrets.get_metadata(NAME)).await?.is_some() {
        return Ok(());
    }
    let token = random().map_err(|error| Failure::Unreachable(error.to_string()))?;
    let secret = json!({"metadata": {"name": NAME}, "stringData": {KEY: token}});
    let secret: Secret = serde_json::from_value(secret).map_err(|_| Failure::Answer)?;
    match call(deadline, secrets.create(&PostParams::default(), &secret)).await {
        Err(failure) if failure.code() == Some(409) => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn read(secret: &Secret) -> Option<Found> {
    let data = secret.data.as_ref()?;
    // What is no text is no token either.
    let text = |key| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0));
    let next = text(NEXT);
    Some(Found {
        kept: Kept {
            tokens: text(KEY)?.parse().ok()?,
            next: next.as_deref().map(Next::from),
        },
        version: secret.metadata.resource_version.clone()?,
        uid: secret.metadata.uid.clone()?,
    })
}

/// 128 bits of the operating system's, which need no file: an image may have none.
pub(super) fn random() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    let random = ring::default_provider().secure_random;
    let filled = random.fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
