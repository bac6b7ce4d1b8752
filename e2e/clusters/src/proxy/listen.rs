//! Connections.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Shared, answer};

/// Accepts until it is aborted, which closes the listener and every connection.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors, or a client that is gone: the next one may succeed.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, shared.clone()));
                }
            }
            // A connection that broke is the client's to notice.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let _open = Open::count(&shared);
    stream.set_nodelay(true)?;
    let stream = Mute::new(stream, shared.hangs.subscribe());
    let stream = shared.tls.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let user = certificates
        .and_then(|certificates| certificates.first())
        .and_then(|certificate| shared.authority.user(certificate));
    let streams = Streams::default();
    // It is handed to tasks, which end with the connection.
    let service = service_fn(|request| {
        let (shared, user) = (shared.clone(), user.clone());
        async move { answer::answer(&shared, user.as_ref(), request).await }
    });
    let served = auto::Builder::new(streams)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    served.map_err(|error| anyhow::anyhow!(error))
}

/// A connection that is open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn count(shared: &'a Shared) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The tasks of one connection's requests, which end with it.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while streams.try_join_next().is_some() {}
        streams.spawn(stream);
    }
}

/// A connection on which nothing is said while the proxy hangs: no answer, and with HTTP/2 not even
/// that a ping was heard.
struct Mute {
    stream: TcpStream,
    hangs: watch::Receiver<bool>,
    wait: Option<BoxFuture<'static, ()>>,
}

impl Mute {
    fn new(stream: TcpStream, hangs: watch::Receiver<bool>) -> Self {
        Self {
            stream,
            hangs,
            wait: None,
        }
    }

    fn poll_hang(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.poll_unpin(context));
                self.wait = None;
            }
            if !*self.hangs.borrow() {
                return Poll::Ready(());
            }
            let mut hangs = self.hangs.clone();
            let wait = async move { answer::unless_it_hangs(&mut hangs).await };
            self.wait = Some(wait.boxed());
        }
    }
}

impl AsyncRead for Mute {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Mute {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.poll_hang(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
