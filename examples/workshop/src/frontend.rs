//! The frontend: a page with a frequency box, and the events that keep it alive.
//!
//! It listens on the loopback only. The page is one document, one style sheet and one script, all
//! of them ours: it needs nothing from elsewhere, and its content security policy says so.

use std::convert::Infallible;
use std::sync::{Arc, Weak};

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::board::Event;
use crate::fleet;
use crate::settings::Change;
use crate::workshop::{Refused, Workshop};

/// What a page is told when the workshop is about to end.
const ENDING: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// One event on its way to a page.
type Told = Result<sse::Event, Infallible>;

/// The page and what it can ask for. It holds the workshop weakly: a page that is still open does
/// not keep the workshop from ending.
pub(crate) fn router(workshop: Weak<Workshop>) -> Router {
    Router::new()
        .route(
            "/",
            get(|| {
                file(
                    "text/html; charset=utf-8",
                    include_str!("../page/index.html"),
                )
            }),
        )
        .route(
            "/style.css",
            get(|| file("text/css; charset=utf-8", include_str!("../page/style.css"))),
        )
        .route(
            "/page.js",
            get(|| {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("../page/page.js"),
                )
            }),
        )
        .route(
            "/chart.js",
            get(|| {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("../page/chart.js"),
                )
            }),
        )
        .route(
            "/icon.svg",
            get(|| file("image/svg+xml", include_str!("../page/icon.svg"))),
        )
        .route("/events", get(events))
        .route("/settings", post(settings))
        .with_state(workshop)
}

async fn file(
    kind: &'static str,
    text: &'static str,
) -> ([(HeaderName, &'static str); 3], &'static str) {
    let policy = "default-src 'self'; frame-ancestors 'none'";
    (
        [
            (CONTENT_TYPE, kind),
            (CACHE_CONTROL, "no-store"),
            (CONTENT_SECURITY_POLICY, policy),
        ],
        text,
    )
}

/// First the fleet, the settings and the last minute; then all that happens.
async fn events(
    State(workshop): State<Weak<Workshop>>,
) -> Result<Sse<impl Stream<Item = Told>>, StatusCode> {
    let workshop = workshop.upgrade().ok_or(ENDING)?;
    let (in_force, history, receiver) = workshop.board.watch();
    let hello = json!({
        "type": "hello",
        "endpoints": fleet::ENDPOINTS,
        "history": history,
        "settings": in_force,
    });
    let first = stream::once(async move { hello.to_string() });
    let rest = stream::unfold(receiver, |mut receiver| async move {
        next(&mut receiver).await.map(|text| (text, receiver))
    });
    let events = first
        .chain(rest)
        .map(|text| Ok(sse::Event::default().data(text)));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// The next event as JSON. A page that was too slow misses what it missed.
async fn next(receiver: &mut Receiver<Event>) -> Option<String> {
    loop {
        match receiver.recv().await {
            Ok(event) => return serde_json::to_string(&event).ok(),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Changes settings, and answers when they are in force.
async fn settings(State(workshop): State<Weak<Workshop>>, Json(change): Json<Change>) -> Response {
    let Some(workshop): Option<Arc<Workshop>> = workshop.upgrade() else {
        return ENDING.into_response();
    };
    match workshop.change(&change).await {
        Ok(in_force) => Json(in_force).into_response(),
        Err(Refused::Wrong(reasons)) => {
            (StatusCode::BAD_REQUEST, Json(json!({ "reasons": reasons }))).into_response()
        }
        Err(Refused::Failed(error)) => {
            let reasons = [format!("The mesh did not take it: {error:#}")];
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                Json(json!({ "reasons": reasons })),
            )
                .into_response()
        }
    }
}
