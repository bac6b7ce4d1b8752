//! A request and its way through the filter.

use std::collections::{BTreeMap, HashMap};

use wasmtime::{Result, bail, ensure};

use crate::headers::Headers;

/// One HTTP stream of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub(crate) u32);

/// What arrives from downstream.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its headers.
    pub headers: Headers,
    /// Attributes of the stream while its request is handled, by path.
    pub properties: Properties,
    /// Whether a body follows.
    pub body: bool,
}

/// What arrives from upstream.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Its headers.
    pub headers: Headers,
    /// Attributes of the stream while the response is handled; they come on top of the request's, except for
    /// those under `request`, which Envoy does not find any more.
    pub properties: Properties,
}

/// Attributes of a stream.
#[derive(Clone, Debug, Default)]
pub struct Properties(HashMap<Vec<u8>, Vec<u8>>);

impl Properties {
    /// These, and this one (instead of one of the same path).
    #[must_use]
    pub fn with(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Properties {
        self.0
            .insert(path.join("\0").into_bytes(), value.as_ref().to_vec());
        self
    }

    fn get(&self, path: &[u8]) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    fn follow(&mut self, later: &Properties) {
        self.0.retain(|path, _| !path.starts_with(b"request\0"));
        self.0.extend(
            later
                .0
                .iter()
                .map(|(path, value)| (path.clone(), value.clone())),
        );
    }
}

/// What became of a request's headers.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It goes on upstream with these headers.
    Forwarded(Headers),
    /// The filter answered by itself.
    Answered(Answer),
}

impl Outcome {
    /// The headers that go upstream.
    ///
    /// # Errors
    /// When the filter answered by itself.
    pub fn forwarded(self) -> Result<Headers> {
        match self {
            Outcome::Forwarded(headers) => Ok(headers),
            Outcome::Answered(answer) => bail!("answered by the filter: {answer:?}"),
        }
    }

    /// The filter's own answer.
    ///
    /// # Errors
    /// When the request went on.
    pub fn answered(self) -> Result<Answer> {
        match self {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Forwarded(headers) => bail!("the request went on upstream:\n{headers:?}"),
        }
    }
}

/// An answer that the filter gave instead of the upstream.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status that the filter asked for.
    pub status: u32,
    /// The gRPC status that it asked for; −1 leaves it to Envoy.
    pub grpc_status: i32,
    /// For the access log: `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// The headers as they leave the proxy: Envoy passes its own answers through the filter's response side.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// Where a stream is; header maps can be read and changed only while they pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Request,
    Upstream,
    Response,
    Logged,
}

pub(crate) struct Stream {
    pub(crate) plugin: u32,
    pub(crate) phase: Phase,
    pub(crate) request: Headers,
    pub(crate) response: Headers,
    pub(crate) properties: Properties,
    pub(crate) filter_state: BTreeMap<String, Vec<u8>>,
    pub(crate) local_reply: Option<Answer>,
    pub(crate) routes_chosen_anew: u32,
}

impl Stream {
    pub(crate) fn new(plugin: u32, request: &Request) -> Stream {
        Stream {
            plugin,
            phase: Phase::Request,
            request: request.headers.clone(),
            response: Headers::default(),
            properties: request.properties.clone(),
            filter_state: BTreeMap::new(),
            local_reply: None,
            routes_chosen_anew: 0,
        }
    }

    pub(crate) fn begin_response(&mut self, headers: Headers, properties: &Properties) {
        self.phase = Phase::Response;
        self.response = headers;
        self.properties.follow(properties);
    }

    /// The header map of this type, when it can be read now.
    pub(crate) fn map(&self, map_type: u32) -> Option<&Headers> {
        match (map_type, self.phase) {
            (0, Phase::Request | Phase::Logged) => Some(&self.request),
            (2, Phase::Response | Phase::Logged) => Some(&self.response),
            _ => None,
        }
    }

    /// The header map of this type, when it can be changed now. A change of the request's makes Envoy choose
    /// the route anew.
    pub(crate) fn map_mut(&mut self, map_type: u32) -> Option<&mut Headers> {
        match (map_type, self.phase) {
            (0, Phase::Request) => {
                self.routes_chosen_anew += 1;
                Some(&mut self.request)
            }
            (2, Phase::Response) => Some(&mut self.response),
            _ => None,
        }
    }

    pub(crate) fn property(&self, path: &[u8]) -> Option<Vec<u8>> {
        let of_filter_state = || {
            let name = std::str::from_utf8(path).ok()?;
            self.filter_state.get(name).map(Vec::as_slice)
        };
        self.properties
            .get(path)
            .or_else(of_filter_state)
            .map(<[u8]>::to_vec)
    }

    /// The headers of an answer of the filter's as Envoy makes them, before the response side sees them.
    pub(crate) fn local_reply_headers(&self, answer: &Answer) -> Result<Headers> {
        ensure!(
            (200..600).contains(&answer.status),
            "no answer can have the status {}",
            answer.status
        );
        let content_type = self.request.first(b"content-type").unwrap_or_default();
        let mut headers = if content_type.starts_with(b"application/grpc") {
            let grpc_status = match (answer.grpc_status, answer.status) {
                (0.., _) => answer.grpc_status,
                (_, 401) => 16,
                (_, 403) => 7,
                (_, 404) => 12,
                (_, 429 | 502 | 503 | 504) => 14,
                _ => 2,
            };
            Headers::of(&[(":status", "200"), ("content-type", "application/grpc")])
                .with("grpc-status", grpc_status.to_string())
                .with("grpc-message", &answer.body)
        } else {
            Headers::default()
                .with(":status", answer.status.to_string())
                .with("content-length", answer.body.len().to_string())
                .with("content-type", "text/plain")
        };
        for (name, value) in answer.headers.iter() {
            headers.add(name, value);
        }
        Ok(headers)
    }
}
