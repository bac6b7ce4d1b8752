//! Connections.

use std::sync::Arc;

use anyhow::Result;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
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
    answer::unless_it_hangs(&mut shared.hangs.subscribe()).await;
    stream.set_nodelay(true)?;
    let stream = shared.tls.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let user = certificates
        .and_then(|certificates| certificates.first())
        .and_then(|certificate| shared.authority.user(certificate));
    let service = service_fn(|request| answer::answer(&shared, user.as_ref(), request));
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}
