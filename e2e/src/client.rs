//! Requests as an application beside its sidecar sends them.

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::{self, Body};

/// Where requests are sent: an address, and the host that they name.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address, for example of a sidecar's outbound listener.
    pub address: SocketAddr,
    /// The `Host` or `:authority`.
    pub host: String,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
}

/// What a request carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// No body.
    None,
    /// So many bytes, with a content-length.
    Sized(usize),
    /// So many chunks of so many bytes with a pause between them, without a content-length.
    Chunked {
        /// How many.
        chunks: usize,
        /// Bytes of each.
        size: usize,
        /// The pause.
        gap: Duration,
    },
    /// One gRPC message of so many bytes (a length-prefixed frame, without a content-length).
    GrpcUnary(usize),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path, with the query.
    pub path: String,
    /// Headers besides the host.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub payload: Payload,
    /// After this it is given up.
    pub timeout: Duration,
}

impl Call {
    /// A GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            payload: Payload::None,
            timeout: Duration::from_secs(30),
        }
    }

    /// A POST.
    #[must_use]
    pub fn post(path: &str, payload: Payload) -> Self {
        Self {
            method: Method::POST,
            payload,
            ..Self::get(path)
        }
    }

    /// A unary gRPC call to the applications' `Unary` method; the target must be HTTP/2.
    #[must_use]
    pub fn grpc_unary(size: usize) -> Self {
        Self::post(crate::app::grpc::UNARY, Payload::GrpcUnary(size))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes when it is given up.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn request(&self, host: &str) -> Result<Request<Body>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("http://{host}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = match self.payload {
            Payload::None => body::full(Bytes::new()),
            Payload::Sized(size) => body::full(vec![b'x'; size]),
            Payload::Chunked { chunks, size, gap } => body::chunked(chunks, size, gap),
            Payload::GrpcUnary(size) => {
                let message = crate::app::grpc::encode(&vec![b'x'; size])?;
                body::frames(futures_util::stream::iter([hyper::body::Frame::data(
                    message,
                )]))
            }
        };
        Ok(request.body(body)?)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The cluster whose application answered.
    #[must_use]
    pub fn served_by(&self) -> Option<&str> {
        self.header(crate::app::SERVED_BY)
    }

    /// When the request arrived at the application, where that is one of this process.
    #[must_use]
    pub fn arrived(&self) -> Option<Instant> {
        let nanos = self.header(crate::app::ARRIVED)?.parse().ok()?;
        crate::app::origin().checked_add(Duration::from_nanos(nanos))
    }

    /// gRPC's status, from the trailers or, when there is no body, the headers.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u16> {
        let value = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.headers.get("grpc-status"))?;
        value.to_str().ok()?.parse().ok()
    }
}

/// A client with its own connections to one target.
#[derive(Clone, Debug)]
pub struct HttpClient {
    host: String,
    inner: Client<HttpConnector<Fixed>, Body>,
}

impl HttpClient {
    /// A client; it connects when it is used.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let mut connector = HttpConnector::new_with_resolver(Fixed(target.address));
        connector.set_nodelay(true);
        let inner = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http2_only(target.http2)
            .build(connector);
        Self {
            host: target.host.clone(),
            inner,
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no whole answer came in time.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        let request = call.request(&self.host)?;
        let exchange = async {
            let (parts, body) = self.send(request).await?.into_parts();
            let body = body
                .collect()
                .await
                .context("the answer's body ended early")?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let body = body.to_bytes();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
                trailers,
            })
        };
        match tokio::time::timeout(call.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer to {} within {:?}", call.path, call.timeout),
        }
    }

    /// Sends a request as it is and gives the answer as soon as its headers are there.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        Ok(self.inner.request(request).await?)
    }

    /// The host that requests name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// A resolver with one address for every name, as interception has.
#[derive(Clone, Debug)]
struct Fixed(SocketAddr);

impl tower_service::Service<Name> for Fixed {
    type Response = std::iter::Once<SocketAddr>;
    type Error = std::io::Error;
    type Future = Ready<std::io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(std::iter::once(self.0)))
    }
}
