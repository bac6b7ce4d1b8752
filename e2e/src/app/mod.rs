//! Applications behind the sidecars: real servers that write down what reached them.
//!
//! One server speaks HTTP/1.1 and HTTP/2 with prior knowledge, gRPC ([`grpc`]) and
//! WebSocket ([`ws`]) on one port. It runs in the test's own process, so that its time stamps and
//! the load generator's come from one clock. Use a multi-threaded runtime.

pub mod grpc;
mod http;
pub mod ws;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper::{HeaderMap, Method};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::client::Target;
use crate::locks::locked;

/// The header in which an application names its cluster.
pub const SERVED_BY: &str = "x-served-by";

/// The header in which an application says when the request arrived, as only this process reads
/// it: nanoseconds of [`origin`].
pub(crate) const ARRIVED: &str = "x-arrived";

/// Where the nanoseconds of [`ARRIVED`] begin.
pub(crate) fn origin() -> Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *ORIGIN
}

/// How an application answers; can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The status of HTTP answers.
    pub status: u16,
    /// The status of gRPC answers.
    pub grpc_status: u16,
    /// Headers that every answer has.
    pub headers: Vec<(String, String)>,
    /// Request headers that are copied to the answer, as an application does that passes on what
    /// it was given.
    pub pass_on: Vec<String>,
    /// How long a request is served.
    pub service_time: Duration,
    /// Bytes of the answer's body; the cluster's name if not given.
    pub response_bytes: Option<usize>,
    /// Whether the answer waits for the whole request body.
    pub read_body: bool,
    /// What is asked, with a GET of the same path, before each HTTP answer; all headers of its
    /// answer are copied to the application's own, as a careless proxy does.
    pub relay: Option<Target>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: 200,
            grpc_status: 0,
            headers: Vec::new(),
            pass_on: Vec::new(),
            service_time: Duration::ZERO,
            response_bytes: None,
            read_body: true,
            relay: None,
        }
    }
}

impl Behaviour {
    /// An application that always answers 429 with the bounce header, as a gate does.
    #[must_use]
    pub fn bouncing() -> Self {
        Self {
            status: 429,
            headers: vec![("x-spillway-bounce".to_owned(), "1".to_owned())],
            ..Self::default()
        }
    }
}

/// What an application is started with.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// How it answers.
    pub behaviour: Behaviour,
    /// How many requests are served at a time; the others wait in line. Unlimited if not given.
    pub workers: Option<usize>,
    /// Whether the headers of each request are kept; without, memory per request is small.
    pub keep_headers: bool,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            behaviour: Behaviour::default(),
            workers: None,
            keep_headers: true,
        }
    }
}

/// A request that reached the application.
#[derive(Clone, Debug)]
pub struct Served {
    /// When its headers arrived.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Its path, with the query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// The length of its body; 0 for streams and WebSockets.
    pub body_bytes: usize,
    /// Whether the body ended before its time.
    pub aborted: bool,
    /// What followed the body.
    pub trailers: HeaderMap,
}

impl Served {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What the server's tasks share.
#[derive(Debug)]
pub(crate) struct State {
    cluster: String,
    keep_headers: bool,
    behaviour: Mutex<Arc<Behaviour>>,
    workers: Option<Semaphore>,
    arrivals: Mutex<Vec<Instant>>,
    served: Mutex<Vec<Served>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl State {
    fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&locked(&self.behaviour))
    }

    fn record(&self, mut served: Served) {
        if !self.keep_headers {
            served.headers = HeaderMap::new();
        }
        locked(&self.served).push(served);
    }
}

/// Counts a request in until it is dropped.
struct InFlight(Arc<State>);

impl InFlight {
    fn enter(state: &Arc<State>) -> Self {
        let now = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        state.most_in_flight.fetch_max(now, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running application; it stops when this is dropped.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    state: Arc<State>,
    server: Option<JoinHandle<()>>,
}

impl App {
    /// Starts an application of `cluster` at `address` (port 0 for any).
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(cluster: &str, address: SocketAddr, options: AppOptions) -> Result<Self> {
        // Before any request.
        let _ = origin();
        let state = Arc::new(State {
            cluster: cluster.to_owned(),
            keep_headers: options.keep_headers,
            behaviour: Mutex::new(Arc::new(options.behaviour)),
            workers: options.workers.map(Semaphore::new),
            arrivals: Mutex::default(),
            served: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let mut app = Self {
            address,
            state,
            server: None,
        };
        app.restart().await?;
        Ok(app)
    }

    /// Starts it again after [`Self::stop`]; what it has seen is kept.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await;
        let listener = TcpListener::bind(self.address)
            .await
            .with_context(|| format!("an application cannot listen at {}", self.address))?;
        self.address = listener.local_addr()?;
        self.server = Some(tokio::spawn(http::serve(listener, Arc::clone(&self.state))));
        Ok(())
    }

    /// Closes the listener and every connection at once, as when a process is killed.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // Ends with the error that says it was aborted.
            let _ = server.await;
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it answers from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        *locked(&self.state.behaviour) = Arc::new(behaviour);
    }

    /// When each request arrived, in order.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Instant> {
        locked(&self.state.arrivals).clone()
    }

    /// How many requests arrived.
    #[must_use]
    pub fn count(&self) -> usize {
        locked(&self.state.arrivals).len()
    }

    /// The requests whose body was read, in the order in which it ended.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        locked(&self.state.served).clone()
    }

    /// How many arrived by path.
    #[must_use]
    pub fn count_by_path(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for served in locked(&self.state.served).iter() {
            *counts.entry(served.path.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Forgets what it has seen.
    pub fn forget(&self) {
        locked(&self.state.arrivals).clear();
        locked(&self.state.served).clear();
        self.state.most_in_flight.store(0, Ordering::Relaxed);
    }

    /// Requests that are being served.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// The most that were served at a time.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}
