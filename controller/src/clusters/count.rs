//! Counts calls to API servers, in the one place that all of them pass: around the client.

use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::{Method, Request, Response, StatusCode};
use kube::client::Body;
use tower::{Layer, Service};

use crate::metrics::{Metrics, Outcome, Peer, Verb};

/// Where the calls of one client are counted, and as whose.
#[derive(Clone, Debug)]
pub struct Calls {
    metrics: Arc<Metrics>,
    peer: Peer,
}

impl Calls {
    /// Calls to this peer.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, peer: Peer) -> Self {
        let metrics = metrics.clone();
        Self { metrics, peer }
    }
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        let calls = self.clone();
        Counted { inner, calls }
    }
}

/// What calls, counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call {
            calls: self.calls.clone(),
            verb: verb(&request),
            outcome: Outcome::NoAnswer,
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            call.ended(match &answer {
                Ok(response) => outcome(response.status()),
                Err(_) => Outcome::Unreachable,
            });
            answer
        })
    }
}

/// Counted at its end, also where nobody waits for that any more.
struct Call {
    calls: Calls,
    verb: Verb,
    outcome: Outcome,
}

impl Call {
    fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Calls { metrics, peer } = &self.calls;
        metrics.called(*peer, self.verb, self.outcome);
    }
}

/// A read of one object and one of many look alike but for their paths; the library notes what it
/// was asked for.
fn verb(request: &Request<Body>) -> Verb {
    let noted = request.extensions().get::<&'static str>();
    match *request.method() {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => match noted.copied() {
            Some("list" | "list_metadata") => Verb::List,
            Some("watch" | "watch_metadata") => Verb::Watch,
            _ => Verb::Get,
        },
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        401 => Outcome::Unauthorized,
        403 => Outcome::Forbidden,
        404 => Outcome::NotFound,
        409 => Outcome::Conflict,
        429 => Outcome::Throttled,
        400..=499 => Outcome::Refused,
        500.. => Outcome::ServerError,
        _ => Outcome::Ok,
    }
}
