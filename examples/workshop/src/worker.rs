//! The worker: it computes a hash and tells the world, as the server of the workshop.
//!
//! It knows nothing of clusters. The filter in its sidecar sets the request header
//! `x-spillway-prefix` to the prefix of the cluster that serves, and the worker puts that before
//! its result, so that whoever reads the answer sees where it was computed.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::channel::CHANNEL;

/// The header in which the filter names the serving cluster's prefix.
pub(crate) const PREFIX_HEADER: &str = "x-spillway-prefix";

/// Rounds of SHA-256 per job: about a millisecond of one core's time.
const ROUNDS: u32 = 8_000;

/// What the frontend asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Number of the job, unique as long as the frontend runs.
    pub(crate) id: u64,
}

/// What a worker answers, and publishes on the channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Number of the job.
    pub(crate) id: u64,
    /// The serving cluster's prefix and the hash in hexadecimal.
    pub(crate) result: String,
    /// Name of the worker that computed it, such as `primary-1`.
    pub(crate) by: String,
}

#[derive(Clone)]
struct Worker {
    name: String,
    redis: MultiplexedConnection,
}

/// Starts a worker at that address. It runs as long as the runtime does.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn start(
    name: &str,
    address: SocketAddr,
    redis: MultiplexedConnection,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("no place for worker {name}"))?;
    let worker = Worker {
        name: name.to_owned(),
        redis,
    };
    let router = Router::new()
        .route("/calculate", post(calculate))
        .with_state(worker);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

async fn calculate(
    State(mut worker): State<Worker>,
    headers: HeaderMap,
    Json(job): Json<Job>,
) -> Result<Json<Answer>, StatusCode> {
    let prefix = headers
        .get(PREFIX_HEADER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let hash = tokio::task::spawn_blocking(move || hash(job.id))
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let answer = Answer {
        id: job.id,
        result: format!("{prefix}{hash}"),
        by: worker.name,
    };
    let message = serde_json::to_string(&answer).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    // A result that nobody can hear of is no result: the caller is told so.
    worker
        .redis
        .publish::<_, _, ()>(CHANNEL, message)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(answer))
}

/// The CPU's task: SHA-256 over its own result, `ROUNDS` times, in hexadecimal.
fn hash(id: u64) -> String {
    let mut digest = Sha256::digest(id.to_be_bytes());
    for _ in 1..ROUNDS {
        digest = Sha256::digest(digest);
    }
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_repeatable_and_differs_by_job() {
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
        assert_eq!(hash(1).len(), 64);
    }
}
