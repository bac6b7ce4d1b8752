//! Acquires, renews and releases the Lease.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use super::Terms;
use super::record::{Record, Step};
use super::term::{Candidate, Held};
use crate::serve::Pulse;

/// Stands in the election: the candidate learns of its outcome while [`Election::run`] runs.
#[must_use]
pub fn stand(client: Client, terms: Terms) -> (Candidate, Election) {
    let (held, receiver) = watch::channel(None);
    let election = Election {
        leases: Api::namespaced(client, &terms.namespace),
        terms,
        held,
        served: 0,
        record: Record::default(),
    };
    (Candidate { held: receiver }, election)
}

/// Acquires, renews and releases the Lease.
pub struct Election {
    leases: Api<LeaseObject>,
    terms: Terms,
    held: watch::Sender<Option<Held>>,
    /// How many terms this process has had.
    served: u64,
    record: Record,
}

impl Election {
    /// Runs until `end`, which comes after the last write: then the Lease is released, so that
    /// another replica need not wait for it to run out.
    pub async fn run(mut self, pulse: Pulse, end: impl Future<Output = ()>) {
        tokio::select! {
            () = self.campaign(&pulse) => {}
            () = end => {}
        }
        self.release().await;
    }

    async fn campaign(&mut self, pulse: &Pulse) {
        let mut complaint = None;
        loop {
            let began = Instant::now();
            pulse.beat(began);
            // An attempt that hangs must not outlast the lease that it is to renew.
            let limit = self.terms.renew_within / 2;
            let problem = match tokio::time::timeout(limit, self.attempt()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if problem.is_some() {
                self.record.doubt(&self.terms);
            }
            if let Some(problem) = &problem
                && complaint.as_ref() != Some(problem)
            {
                tracing::warn!(error = problem, "the lease cannot be read or written");
            }
            complaint = problem;
            self.expire(Instant::now());
            let pause = match self.next(Instant::now()) {
                Step::Wait(left) => left.min(self.terms.retry),
                Step::Look | Step::Renew | Step::Take => self.terms.retry,
            };
            tokio::time::sleep_until((began + pause).into()).await;
        }
    }

    /// One look at the Lease, and what follows from it.
    async fn attempt(&mut self) -> kube::Result<()> {
        self.expire(Instant::now());
        if self.next(Instant::now()) != Step::Renew {
            self.look().await?;
        }
        // The others begin to wait when they see what is written here, which is later.
        let sent = Instant::now();
        let written = match self.next(sent) {
            Step::Wait(_) => {
                self.tell(None);
                return Ok(());
            }
            Step::Look => {
                let lease = Record::created(&self.terms);
                self.leases.create(&PostParams::default(), &lease).await
            }
            Step::Renew => self.replace(&self.record.renewed(&self.terms)).await,
            Step::Take => self.replace(&self.record.taken(&self.terms)).await,
        };
        match written {
            Ok(lease) => {
                self.record.saw(Some(lease), Instant::now());
                self.tell(Some(sent + self.terms.renew_within));
                Ok(())
            }
            // Somebody was faster, or took it away.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                self.look().await?;
                if self.next(Instant::now()) != Step::Renew {
                    self.tell(None);
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn look(&mut self) -> kube::Result<()> {
        let found = self.leases.get_opt(&self.terms.name).await?;
        self.record.saw(found, Instant::now());
        Ok(())
    }

    fn next(&self, now: Instant) -> Step {
        let holds = self.held.borrow().is_some();
        self.record.next(&self.terms, holds, now)
    }

    async fn replace(&self, lease: &LeaseObject) -> kube::Result<LeaseObject> {
        let params = PostParams::default();
        self.leases.replace(&self.terms.name, &params, lease).await
    }

    /// A term that was not renewed ends by itself.
    fn expire(&mut self, now: Instant) {
        if self.held.borrow().is_some_and(|held| held.until <= now) {
            self.tell(None);
        }
    }

    /// Tells the candidate until when it leads.
    fn tell(&mut self, until: Option<Instant>) {
        if until.is_some() {
            // A renewal that was answered too late begins a new term.
            self.expire(Instant::now());
        }
        let before = *self.held.borrow();
        let identity = self.terms.identity.as_str();
        match (before, until) {
            (None, Some(_)) => {
                self.served += 1;
                tracing::info!(identity, "leads from now on");
            }
            (Some(_), None) => tracing::warn!(identity, "leads no longer"),
            _ => {}
        }
        let term = self.served;
        self.held
            .send_replace(until.map(|until| Held { term, until }));
    }

    /// Nothing is written any more from here on; then the Lease is put down where it is ours.
    async fn release(mut self) {
        self.tell(None);
        let released = async {
            // What an interrupted attempt left there is not known.
            self.look().await?;
            match self.record.released(&self.terms) {
                Some(lease) => self.replace(&lease).await.map(drop),
                None => Ok(()),
            }
        };
        match tokio::time::timeout(Duration::from_secs(2), released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease is left to run out"),
            Err(_) => tracing::warn!("the lease is left to run out: no answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An election in which nobody is asked.
    fn election() -> (Candidate, Election) {
        let config = Config::new("http://127.0.0.1:9".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        stand(client, Terms::new("default", "test", "us"))
    }

    #[tokio::test]
    async fn a_term_ends_by_the_clock_alone() {
        let (mut candidate, mut election) = election();
        let now = Instant::now();
        assert!(!candidate.leads(now));
        election.tell(Some(now + 60 * SECOND));
        let lease = candidate.elected().await.unwrap();
        // Nobody tells it anything: it may have been paused in between.
        assert!(lease.still_leads(now + 59 * SECOND) && candidate.leads(now + 59 * SECOND));
        assert!(!lease.still_leads(now + 60 * SECOND) && !candidate.leads(now + 60 * SECOND));
        election.tell(Some(now + 90 * SECOND));
        assert!(lease.still_leads(now + 60 * SECOND));
        election.tell(None);
        assert!(!lease.still_leads(now));
    }

    #[tokio::test]
    async fn what_was_lost_does_not_come_back() {
        let (mut candidate, mut election) = election();
        let soon = Instant::now() + Duration::from_millis(20);
        election.tell(Some(soon));
        let mut first = candidate.elected().await.unwrap();
        first.lost().await;
        // The answer to a renewal came too late.
        election.tell(Some(Instant::now() + 60 * SECOND));
        let second = candidate.elected().await.unwrap();
        assert!(second.still_leads(Instant::now()) && !first.still_leads(Instant::now()));
    }
}
