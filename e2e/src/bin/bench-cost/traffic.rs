//! The load: a fixed number of connections, each with one request at a time, and the application
//! that answers. Both write and read bytes that were made beforehand, so that on a small machine
//! nearly all of the time is the proxy's.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::scene::Scene;

/// Connections of each cell, where a few are enough.
pub(crate) const CONNECTIONS: usize = 8;

/// An answer's head as an application gives it; a path that begins with `/load` adds what a
/// server's sidecar would.
const ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\n\
    cache-control: no-store\r\n\
    vary: accept-encoding\r\n\
    etag: \"5f2b9d0c3a17\"\r\n\
    x-frame-options: DENY\r\n\
    date: Sat, 21 Nov 2026 10:00:00 GMT\r\n";
const LOAD: &str = "x-spillway-load: primary;900;1\r\nx-spillway-prefix: home-\r\n";
const BODY: &str =
    "{\"orders\":[{\"id\":1001,\"state\":\"packed\"},{\"id\":1002,\"state\":\"sent\"}]}";

/// The application.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A connection ends when its proxy does.
                    let _ = serve(stream).await;
                });
            }
        });
        Ok(Self { address, server })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let plain = format!("{ANSWER}content-length: {}\r\n\r\n{BODY}", BODY.len());
    let load = format!("{ANSWER}{LOAD}content-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut buffer = Vec::with_capacity(8192);
    loop {
        while find(&buffer, b"\r\n\r\n").is_none() {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        if buffer.starts_with(b"GET /seen") {
            let seen = String::from_utf8_lossy(&buffer);
            let length = seen.len();
            let answer = format!("{ANSWER}{LOAD}content-length: {length}\r\n\r\n{seen}");
            stream.write_all(answer.as_bytes()).await?;
        } else if buffer.starts_with(b"GET /load") {
            stream.write_all(load.as_bytes()).await?;
        } else {
            stream.write_all(plain.as_bytes()).await?;
        }
        buffer.clear();
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status line and headers.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: String,
}

/// A connection with one request at a time.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends a request and waits for the whole answer; gives where its body begins.
    async fn exchange(&mut self, request: &[u8]) -> Result<usize> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the proxy closed a connection");
            }
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
                continue;
            };
            let body = end + 4;
            let length = content_length(self.buffer.get(..end).unwrap_or_default())?;
            if self.buffer.len() >= body + length {
                return Ok(body);
            }
        }
    }

    /// The status of the answer that was read last.
    fn is(&self, status: &[u8]) -> bool {
        self.buffer.get(9..12) == Some(status)
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let at = find(head, NAME).context("an answer without content-length")? + NAME.len();
    let digits = head.get(at..).unwrap_or_default().iter();
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// The connections of a cell.
#[derive(Debug)]
pub(crate) struct Connections {
    connections: Vec<Connection>,
    requests: Vec<Vec<u8>>,
    scene: Scene,
}

impl Connections {
    pub(crate) async fn open(to: SocketAddr, scene: Scene, count: usize) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let buffer = Vec::with_capacity(8192);
            connections.push(Connection { stream, buffer });
        }
        let requests = scene.requests();
        Ok(Self {
            connections,
            requests,
            scene,
        })
    }

    /// One request by itself.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        let connection = self.connections.first_mut().context("no connection")?;
        let body = connection.exchange(request).await?;
        let (head, body) = connection.buffer.split_at(body);
        Ok(Answer {
            head: String::from_utf8_lossy(head).into_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
        })
    }

    /// So many requests over all connections.
    ///
    /// # Errors
    /// When fewer or more of them are refused than the scene says: then something else is
    /// measured than what should be.
    pub(crate) async fn run(&mut self, requests: usize) -> Result<()> {
        let each = requests / self.connections.len().max(1);
        let kinds = &self.requests;
        let tasks = self.connections.iter_mut().map(|connection| async move {
            let mut refused = 0_usize;
            for request in kinds.iter().cycle().take(each) {
                connection.exchange(request).await?;
                if connection.is(b"429") {
                    refused += 1;
                } else if !connection.is(b"200") {
                    bail!("{}", String::from_utf8_lossy(&connection.buffer));
                }
            }
            Ok(refused)
        });
        let refused: usize = try_join_all(tasks).await?.into_iter().sum();
        let (least, most) = self.scene.refused(requests);
        if refused < least || refused > most {
            bail!("{:?}: {refused} of {requests} were refused", self.scene);
        }
        Ok(())
    }
}
