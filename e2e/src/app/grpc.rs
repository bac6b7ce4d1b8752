//! gRPC on the wire, both ends: HTTP/2, length-prefixed messages, the status in the trailers.
//!
//! A service of four methods whose messages are plain bytes, one of each kind that gRPC has. That
//! is little enough to be written against HTTP/2 itself, without generated code.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::mpsc;

use super::{Behaviour, InFlight};
use crate::body::{self, Body};
use crate::client::HttpClient;

/// Answers a message with the same message.
pub const UNARY: &str = "/spillway.e2e.Echo/Unary";
/// Answers a message, a number in decimal digits, with so many messages.
pub const SERVER_STREAM: &str = "/spillway.e2e.Echo/ServerStream";
/// Answers any number of messages with their number in decimal digits.
pub const CLIENT_STREAM: &str = "/spillway.e2e.Echo/ClientStream";
/// Answers each message with the same message, as it comes.
pub const BIDI: &str = "/spillway.e2e.Echo/Bidi";

/// How many messages wait between a task and its stream.
const QUEUE: usize = 64;

/// A message with its prefix: no compression, four bytes of length.
pub(crate) fn encode(message: &[u8]) -> Result<Bytes> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).context("a gRPC message below 4 GiB")?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// Messages out of a body.
struct Messages {
    body: Incoming,
    buffer: BytesMut,
    trailers: HeaderMap,
}

impl Messages {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            trailers: HeaderMap::new(),
        }
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(length) = self.buffer.get(1..5).map(|mut length| length.get_u32()) {
                let length = usize::try_from(length)?;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            match self.body.frame().await.transpose()? {
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the stream ended within a message"),
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        self.trailers
                            .extend(frame.into_trailers().unwrap_or_default());
                    }
                },
            }
        }
    }
}

/// A body whose frames are sent through a channel.
fn channel() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let frames = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (sender, body::frames(frames))
}

pub(super) fn serve(
    request: Request<Incoming>,
    behaviour: Arc<Behaviour>,
    in_flight: InFlight,
) -> Response<Body> {
    let (sender, body) = channel();
    tokio::spawn(async move {
        let path = request.uri().path().to_owned();
        let mut status = behaviour.grpc_status;
        tokio::time::sleep(behaviour.service_time).await;
        if answer(&path, Messages::new(request.into_body()), &sender)
            .await
            .is_err()
        {
            // INTERNAL: the call broke off, or was none of ours.
            status = 13;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status));
        // The caller may be gone.
        let _ = sender.send(Frame::trailers(trailers)).await;
        drop(in_flight);
    });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

async fn answer(
    path: &str,
    mut messages: Messages,
    sender: &mpsc::Sender<Frame<Bytes>>,
) -> Result<()> {
    match path {
        UNARY | BIDI => {
            while let Some(message) = messages.next().await? {
                sender.send(Frame::data(encode(&message)?)).await?;
            }
        }
        SERVER_STREAM => {
            let wanted = messages.next().await?.context("one message")?;
            let wanted: usize = std::str::from_utf8(&wanted)?.parse()?;
            for number in 0..wanted {
                let message = encode(number.to_string().as_bytes())?;
                sender.send(Frame::data(message)).await?;
            }
        }
        CLIENT_STREAM => {
            let mut count = 0_usize;
            while messages.next().await?.is_some() {
                count += 1;
            }
            sender
                .send(Frame::data(encode(count.to_string().as_bytes())?))
                .await?;
        }
        _ => bail!("no such method"),
    }
    Ok(())
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct GrpcEnd {
    /// gRPC's status.
    pub status: u16,
    /// gRPC's message.
    pub message: Option<String>,
}

/// An open call: messages go both ways until each side has ended.
pub struct GrpcCall {
    sender: Option<mpsc::Sender<Frame<Bytes>>>,
    response: tokio::task::JoinHandle<Result<Response<Incoming>>>,
    state: Option<(StatusCode, HeaderMap, Messages)>,
}

impl GrpcCall {
    /// Opens a call; `client` must speak HTTP/2.
    ///
    /// # Errors
    /// When a header is not valid.
    pub fn open(client: &HttpClient, path: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let (sender, body) = channel();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", client.host()))
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body)?;
        let client = client.clone();
        let response = tokio::spawn(async move { client.send(request).await });
        Ok(Self {
            sender: Some(sender),
            response,
            state: None,
        })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the call has ended.
    pub async fn send(&self, message: &[u8]) -> Result<()> {
        let sender = self.sender.as_ref().context("the call was closed")?;
        Ok(sender.send(Frame::data(encode(message)?)).await?)
    }

    /// Says that no message will follow.
    pub fn close(&mut self) {
        self.sender = None;
    }

    /// The answer's status and headers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn headers(&mut self) -> Result<(StatusCode, HeaderMap)> {
        let (status, headers, _) = self.answer().await?;
        Ok((*status, headers.clone()))
    }

    /// The next message of the answer; `None` at its end.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn receive(&mut self) -> Result<Option<Bytes>> {
        self.answer().await?.2.next().await
    }

    /// Closes the call, passes over the messages that are left, and tells how it ended.
    ///
    /// # Errors
    /// When the stream breaks, or ends without a status.
    pub async fn end(mut self) -> Result<GrpcEnd> {
        self.close();
        let (_, headers, messages) = self.answer().await?;
        while messages.next().await?.is_some() {}
        let field = |name: &str| {
            let value = messages.trailers.get(name).or_else(|| headers.get(name))?;
            Some(value.to_str().ok()?.to_owned())
        };
        let status = field("grpc-status").context("no grpc-status")?.parse()?;
        Ok(GrpcEnd {
            status,
            message: field("grpc-message"),
        })
    }

    async fn answer(&mut self) -> Result<&mut (StatusCode, HeaderMap, Messages)> {
        if self.state.is_none() {
            let (parts, body) = (&mut self.response).await??.into_parts();
            self.state = Some((parts.status, parts.headers, Messages::new(body)));
        }
        self.state.as_mut().context("the answer is kept")
    }
}
