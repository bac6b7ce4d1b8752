//! What the controller tells about itself over HTTP.
//!
//! There are two addresses. One is for the cluster: `/healthz`, `/readyz` and `/metrics`, which
//! change nothing. The other, on the loopback interface, is for whoever may enter the pod
//! (`kubectl port-forward`): `/loglevel`, which does.

mod health;
mod level;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::health::{Health, Need, Pulse};
pub(crate) use self::level::known as known_level;
pub use self::level::{Format, LevelError, LogLevel, log_to};
use crate::lead::Candidate;
use crate::metrics::Metrics;

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// Whether it lives and is ready.
    pub health: Health,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Whether it leads; nothing where there is no election.
    pub candidate: Option<Candidate>,
    /// What it logs.
    pub level: LogLevel,
}

/// Both listeners.
pub struct Server {
    public: TcpListener,
    admin: TcpListener,
}

impl Server {
    /// Takes both addresses.
    ///
    /// # Errors
    /// When one is taken.
    pub async fn bind(public: SocketAddr, admin: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            public: TcpListener::bind(public).await?,
            admin: TcpListener::bind(admin).await?,
        })
    }

    /// Where it listens for the cluster, and for who is in the pod.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.public.local_addr()?, self.admin.local_addr()?))
    }

    /// Serves until `end`; what is being answered then is answered.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, served: Served, end: CancellationToken) -> std::io::Result<()> {
        let admin = Router::new()
            .route("/loglevel", get(level).put(set_level))
            .with_state(served.level.clone());
        let public = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(served);
        let ended = end.clone();
        tokio::try_join!(
            axum::serve(self.public, public)
                .with_graceful_shutdown(async move { end.cancelled().await }),
            axum::serve(self.admin, admin)
                .with_graceful_shutdown(async move { ended.cancelled().await }),
        )?;
        Ok(())
    }
}

async fn healthz(State(served): State<Served>) -> impl IntoResponse {
    verdict(served.health.alive(Instant::now()))
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    verdict(served.health.ready(Instant::now()))
}

fn verdict(problems: Vec<String>) -> (StatusCode, String) {
    if problems.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
    }
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    let leads = served
        .candidate
        .as_ref()
        .is_none_or(|candidate| candidate.leads(Instant::now()));
    let kind = [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)];
    match served.metrics.encode(leads) {
        Ok(text) => (StatusCode::OK, kind, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn level(State(level): State<LogLevel>) -> impl IntoResponse {
    level.get() + "\n"
}

async fn set_level(State(level): State<LogLevel>, body: String) -> impl IntoResponse {
    match level.set(body.trim()) {
        Ok(()) => (StatusCode::OK, level.get() + "\n"),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
