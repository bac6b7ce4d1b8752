//! The connection to an API server.
//!
//! A member is watched in eight kinds a namespace. kube's own client speaks HTTP/1, which is a
//! connection with TLS for each of them, and a thousand clusters would be many thousands. So the
//! client here speaks HTTP/2, where all of them share one; where that cannot be had, HTTP/1.
//!
//! - An API server takes only so many requests on a connection. Watches that do not end would fill
//!   it, and a write would wait for ever. So after [`STREAMS`] of them another one is opened.
//! - A machine that hangs ends no connection, and who only watches has nothing to write by which to
//!   notice. So it is pinged, and a connection without an answer is given up after 20 s. A deadline
//!   of a call does not do it: it ends the request, and the next one goes over the same connection.
//! - A server that answers pings and nothing else, such as a proxy whose own upstream is gone, is
//!   given up when it does not begin to answer. A watch that has begun may be silent until it is
//!   over, which kube's watcher sees to: one that never had an event gets no bookmarks either.
//!
//! The Lease has a client of its own ([`apart`]). A long list must not stand between a leader and
//! its renewal, and after a deadline the next attempt must take another connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use rustls::client::Resumption;
use tower::timeout::TimeoutLayer;
use tower::{Service, ServiceBuilder};

use super::count::Calls;

/// Where a connection is made within the mesh or across the world, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Pings are so far apart, and are waited for so long.
const PING: Duration = Duration::from_secs(10);
/// An answer begins within this time; a call has a deadline besides.
const ANSWER: Duration = Duration::from_secs(30);
/// Requests on one connection. API servers take 100 by default, and what stands before them often
/// no more either.
const STREAMS: usize = 64;

type Connector = TimeoutConnector<HttpsConnector<HttpConnector>>;

/// A client with as few connections as there can be, whose calls are counted.
///
/// Nothing is tried twice here: the deadlines and back-offs of the callers are all the patience
/// there is. A proxy of the process's environment is not used.
///
/// # Errors
/// When the configuration's certificates, keys or names cannot be used.
pub fn shared(config: &Config, calls: Calls) -> kube::Result<Client> {
    let service = ServiceBuilder::new()
        .layer(calls)
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .layer(TimeoutLayer::new(ANSWER))
        .service(Connections {
            connector: connector(config)?,
            open: Arc::default(),
        });
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// A client that shares its connections with nobody, and whose requests do not share one.
///
/// # Errors
/// As [`shared`].
pub fn apart(config: &Config) -> kube::Result<Client> {
    let mut config = config.clone();
    config.proxy_url = None;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    config.write_timeout = Some(ANSWER);
    Client::try_from(config)
}

fn connector(config: &Config) -> kube::Result<Connector> {
    let mut tcp = HttpConnector::new();
    // TLS stands on it.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut settings = config.rustls_client_config()?;
    // There is one server; room for more would be reserved for every client.
    settings.resumption = Resumption::in_memory_sessions(1);
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(settings)
        .https_or_http();
    if let Some(name) = config.tls_server_name.clone() {
        let name = name
            .try_into()
            .map_err(|error| kube::Error::Service(Box::new(error)))?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let tls = tls.enable_http1().enable_http2().wrap_connector(tcp);
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(Some(CONNECT));
    Ok(connector)
}

/// The connections to one API server.
#[derive(Clone)]
struct Connections {
    connector: Connector,
    open: Arc<Mutex<Vec<Connection>>>,
}

/// One connection with HTTP/2; with HTTP/1 as many as are needed.
#[derive(Clone)]
struct Connection {
    client: legacy::Client<Connector, Body>,
    /// Held by each request that is under way.
    used: Arc<()>,
    /// Held by a request until it has a connection. Of many that find none, as when the one of all
    /// watches broke, the first makes it, and the others find it there.
    making: Arc<tokio::sync::Mutex<()>>,
}

impl Connections {
    /// The first connection that has room.
    fn take(&self) -> Connection {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let free = open
            .iter()
            .find(|connection| Arc::strong_count(&connection.used) <= STREAMS);
        if let Some(connection) = free {
            return connection.clone();
        }
        let connection = Connection {
            client: self.connect(),
            used: Arc::default(),
            making: Arc::default(),
        };
        open.push(connection.clone());
        connection
    }

    fn connect(&self) -> legacy::Client<Connector, Body> {
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A connection with watches on it is not idle, however long nothing is begun on it:
            // forgotten, it would stay open beside its successor.
            .pool_idle_timeout(None)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_keep_alive_while_idle(true)
            .build(self.connector.clone())
    }
}

impl Service<Request<Body>> for Connections {
    type Response = Response<UnsyncBoxBody<Bytes, hyper::Error>>;
    type Error = legacy::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Connection {
            client,
            used,
            making,
        } = self.take();
        async move {
            let making = making.lock_owned().await;
            let mut connection = capture_connection(&mut request);
            let made = async move {
                connection.wait_for_connection_metadata().await;
                drop(making);
            };
            let (response, ()) = tokio::join!(client.request(request), made);
            // It is under way until its body has ended or is dropped.
            Ok(response?.map(|body| {
                body.map_frame(move |frame| {
                    let _ = &used;
                    frame
                })
                .boxed_unsync()
            }))
        }
        .boxed()
    }
}
