//! Requests, sent when the schedule says so.
//!
//! The load is open: a service that slows down is not asked less, and latency counts from when a
//! request was to be sent, so that no waiting is left out ("coordinated omission", as Gil Tene calls
//! it). What is in flight is bounded; what would exceed the bound is not sent, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::rate::Plan;

/// Fewer than the files that a process may have open where nobody changed that.
const MOST_IN_FLIGHT: usize = 900;

/// What every request is.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// Which header of the answer has the prefix.
    pub(super) prefix: HeaderName,
    /// After this it is given up.
    pub(super) timeout: Duration,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Reply {
    /// Counted from 0.
    pub(super) number: u64,
    /// From when it was to be sent to the end of the answer.
    pub(super) latency: Duration,
    pub(super) result: Result<Answer, Unanswered>,
    /// Given back when the reply was counted: so replies that wait to be are bounded as well.
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Empty where it has none.
    pub(super) prefix: String,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Unanswered {
    /// There was no connection.
    NoConnection,
    /// The connection broke.
    Broken,
    /// It took too long.
    TimedOut,
    /// The flight was ended before.
    GivenUp,
}

impl Unanswered {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::NoConnection => "without a connection",
            Self::Broken => "whose connection broke",
            Self::TimedOut => "after which nothing came in time",
            Self::GivenUp => "given up with the flight",
        }
    }
}

/// A load that is being sent.
pub(super) struct Running {
    pub(super) replies: mpsc::UnboundedReceiver<Reply>,
    shared: Arc<Shared>,
    thread: thread::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Starts sending; must be called within a tokio runtime.
pub(super) fn start(plan: Plan, call: Call, tls: ClientConfig) -> Running {
    let runtime = tokio::runtime::Handle::current();
    let (sender, replies) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector(tls));
    // A thread of its own: it sleeps to some tens of microseconds, tokio's timer to a millisecond.
    let thread = thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            let call = Arc::new(call);
            let places = Arc::new(Semaphore::new(MOST_IN_FLIGHT));
            let started = Instant::now();
            for number in 0..plan.requests() {
                let intended = started + plan.at(number);
                while !shared.stopped.load(Ordering::Relaxed) && Instant::now() < intended {
                    thread::park_timeout(intended.saturating_duration_since(Instant::now()));
                }
                if shared.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(permit) = Arc::clone(&places).try_acquire_owned() else {
                    shared.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                shared.sent.fetch_add(1, Ordering::Relaxed);
                let (client, call, sender) = (client.clone(), Arc::clone(&call), sender.clone());
                runtime.spawn(async move {
                    let result = send(&client, &call).await;
                    // Nobody listens any more once the flight was given up.
                    let _ = sender.send(Reply {
                        number,
                        latency: intended.elapsed(),
                        result,
                        _permit: permit,
                    });
                });
            }
        }
    });
    Running {
        replies,
        shared,
        thread,
    }
}

impl Running {
    /// Sends nothing more; what is in flight is still answered.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }

    /// How many requests were sent.
    pub(super) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// How many were not sent since too many were in flight.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

fn connector(tls: ClientConfig) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    // TLS stands on it.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

async fn send(client: &HttpClient, call: &Call) -> Result<Answer, Unanswered> {
    let exchange = async {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = call.uri.clone();
        *request.headers_mut() = call.headers.clone();
        let answer = client.request(request).await.map_err(|error| {
            if error.is_connect() {
                Unanswered::NoConnection
            } else {
                Unanswered::Broken
            }
        })?;
        let status = answer.status().as_u16();
        let prefix = answer.headers().get(&call.prefix);
        let prefix = prefix.and_then(|prefix| prefix.to_str().ok());
        let prefix = prefix.unwrap_or_default().to_owned();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|_| Unanswered::Broken)?;
        }
        Ok(Answer { status, prefix })
    };
    let answer = tokio::time::timeout(call.timeout, exchange).await;
    answer.unwrap_or(Err(Unanswered::TimedOut))
}
