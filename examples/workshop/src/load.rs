//! The load: jobs at the frequency of the box, whether or not answers come back (an open loop), so
//! that a slow service is seen and not hidden by a sender that waits for it.
//!
//! Jobs are evenly spaced: 15 a second means one every 66.7 ms.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use spillway_e2e::client::Target;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::board::Board;
use crate::worker::Job;

/// Most jobs under way at one time; a job beyond that is not sent and counts as an error.
const UNDER_WAY: usize = 1_000;
/// How long a reply may take.
const REPLY: Duration = Duration::from_secs(10);

/// The frontend's way into the mesh: the caller's sidecar and the service's name.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    host: String,
}

impl Caller {
    /// A caller of the workers through its sidecar.
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("http://{}/calculate", target.address),
            host: target.host.clone(),
        }
    }

    /// Sends one job and waits for the whole reply, which must be 200.
    async fn send(&self, id: u64) -> anyhow::Result<()> {
        let request = Request::post(&self.url)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(&Job { id })?))?;
        let reply = self.client.request(request).await?;
        ensure!(reply.status() == StatusCode::OK, "reply {}", reply.status());
        reply.into_body().collect().await?;
        Ok(())
    }
}

/// Sends jobs at the given frequency until it is aborted.
pub(crate) async fn run(board: Arc<Board>, caller: Caller, mut frequency: watch::Receiver<u32>) {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut last = Instant::now();
    let mut period = None;
    let mut id = 0;
    loop {
        tokio::select! {
            changed = frequency.changed() => {
                if changed.is_err() {
                    return;
                }
                let per_second = *frequency.borrow_and_update();
                period = Duration::from_secs(1).checked_div(per_second);
                // What the new frequency would have sent before now is not made up for.
                last = period.map_or(last, |period| last.max(Instant::now() - period));
            }
            () = until(period.map(|period| last + period)) => {
                last = period.map_or(last, |period| last + period);
                id += 1;
                board.sent(id);
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    board.failed(id, "too many jobs under way");
                    continue;
                };
                let (board, caller) = (Arc::clone(&board), caller.clone());
                tokio::spawn(async move {
                    let sent = timeout(REPLY, caller.send(id)).await;
                    if let Err(error) = sent.context("no reply in time").flatten() {
                        board.failed(id, &format!("{error:#}"));
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Waits until `due`, or for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
