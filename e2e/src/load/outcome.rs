//! What became of the requests of a load.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use hyper::HeaderMap;

use crate::analysis::Span;

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// When it was to be sent.
    pub intended: Instant,
    /// When its answer was complete, or given up.
    pub ended: Instant,
    /// The number of its target, in the order in which they were added.
    pub target: usize,
    /// The number of its kind, in the order in which they were added.
    pub call: usize,
    /// The answer's status; 0 when there was none.
    pub status: u16,
    /// gRPC's status.
    pub grpc_status: Option<u16>,
    /// The cluster whose application answered.
    pub served_by: Option<String>,
    /// When it arrived at that application.
    pub arrived: Option<Instant>,
    /// Those headers of the answer that were to be kept.
    pub headers: HeaderMap,
    /// Why there was no answer.
    pub error: Option<String>,
}

impl Reply {
    pub(super) fn new(
        intended: Instant,
        ended: Instant,
        target: usize,
        call: usize,
        result: Result<crate::client::Answer>,
        keep: &[&'static str],
    ) -> Self {
        let mut reply = Self {
            intended,
            ended,
            target,
            call,
            status: 0,
            grpc_status: None,
            served_by: None,
            arrived: None,
            headers: HeaderMap::new(),
            error: None,
        };
        match result {
            Ok(answer) => {
                reply.status = answer.status.as_u16();
                reply.grpc_status = answer.grpc_status();
                reply.served_by = answer.served_by().map(ToOwned::to_owned);
                reply.arrived = answer.arrived();
                for name in keep {
                    for value in answer.headers.get_all(*name) {
                        reply.headers.append(*name, value.clone());
                    }
                }
            }
            Err(error) => reply.error = Some(format!("{error:#}")),
        }
        reply
    }

    /// From the intended time to the end of the answer.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.ended.duration_since(self.intended)
    }

    /// Whether the application served it: 200, and gRPC's status 0 where it is a gRPC call.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == 200 && self.grpc_status.is_none_or(|status| status == 0)
    }
}

/// What became of a load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When it started.
    pub started: Instant,
    /// Every request that was sent, by intended time.
    pub replies: Vec<Reply>,
    /// Requests that the schedule wanted.
    pub intended: usize,
    /// Requests that were not sent since too many were in flight.
    pub dropped: usize,
}

impl Outcome {
    /// Replies whose intended time lies in this span, counted from the start.
    pub fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Reply> {
        let (from, to) = (self.started + from, self.started + to);
        self.replies
            .iter()
            .filter(move |reply| reply.intended >= from && reply.intended < to)
    }

    /// How many answers had this status; 0 counts requests without an answer.
    #[must_use]
    pub fn count_status(&self, status: u16) -> usize {
        self.replies
            .iter()
            .filter(|reply| reply.status == status)
            .count()
    }

    /// How many requests this cluster's applications answered.
    #[must_use]
    pub fn count_served_by(&self, cluster: &str) -> usize {
        let served = self
            .replies
            .iter()
            .filter(|reply| reply.served_by.as_deref() == Some(cluster));
        served.count()
    }

    /// When it was decided that each of the requests goes to this cluster's applications.
    #[must_use]
    pub fn decided(&self, cluster: &str) -> Vec<Span> {
        let served = self.replies.iter();
        served
            .filter(|reply| reply.served_by.as_deref() == Some(cluster))
            .filter_map(|reply| {
                let (from, to) = (reply.intended, reply.arrived?);
                Some(Span { from, to })
            })
            .collect()
    }

    /// Replies that are not [`Reply::is_ok`].
    pub fn failures(&self) -> impl Iterator<Item = &Reply> {
        self.replies.iter().filter(|reply| !reply.is_ok())
    }

    /// Everything was sent, and everything was [`Reply::is_ok`].
    ///
    /// # Errors
    /// When it was not; with some of what was otherwise.
    pub fn all_ok(&self) -> Result<()> {
        let some: Vec<_> = self.failures().take(5).collect();
        ensure!(some.is_empty(), "not ok: {some:?}");
        ensure!(self.dropped == 0, "{} were not sent", self.dropped);
        Ok(())
    }

    /// Latencies in microseconds, of the replies that were answered.
    ///
    /// # Errors
    /// Never, for latencies below an hour.
    pub fn latencies<'a>(replies: impl IntoIterator<Item = &'a Reply>) -> Result<Histogram<u64>> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
        for reply in replies.into_iter().filter(|reply| reply.error.is_none()) {
            histogram.record(u64::try_from(reply.latency().as_micros())?.max(1))?;
        }
        Ok(histogram)
    }
}
