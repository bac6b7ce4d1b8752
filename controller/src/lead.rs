//! Leader election: of several replicas one writes.
//!
//! The election is a `Lease` of the API server, as Kubernetes' own components hold it. The holder
//! renews it; who sees it unrenewed for its duration may take it. Nobody's wall clock matters: a
//! candidate measures by its own monotonic clock how long the Lease has stood there unchanged, and
//! the times inside it are for people.
//!
//! A leader stops *before* others may begin. It may write until [`Terms::renew_within`] after the
//! last renewal was **sent**; the others wait for [`Terms::duration`] after they **saw** it. What
//! lies between the two is for requests that are under way. A leader that was paused and wakes up
//! finds by [`Lease::still_leads`] that its time is over, without asking anybody; so that check
//! stands before every write. A request that was sent in time and arrives too late is not caught
//! here: writes carry a resourceVersion for that.
//!
//! A [`Lease`] is one term. One that was lost never comes back to life, also when the same process
//! is elected again: what was planned in between belongs to somebody else's state.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

/// Which Lease, and for how long it is held.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who holds it; see [`identity`].
    pub identity: String,
    /// How long the others wait for a holder that does not renew.
    pub duration: Duration,
    /// How long a holder writes after its last renewal; less than `duration`.
    pub renew_within: Duration,
    /// How often the holder renews, and the others look.
    pub retry: Duration,
}

impl Terms {
    /// With the times of Kubernetes' own components: after a leader was killed another one leads
    /// within 17 s.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// An identity that no other process has, nor this one after a restart: a container that is
/// started again keeps the pod's name.
#[must_use]
pub fn identity(name: &str) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{name}_{random:016x}")
}

/// A term that has not run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Counts the terms of this process.
    term: u64,
    until: Instant,
}

/// Where a process learns that it was elected.
#[derive(Clone, Debug)]
pub struct Candidate {
    held: watch::Receiver<Option<Held>>,
}

impl Candidate {
    /// Waits until this process leads. `None` when the election has ended.
    pub async fn elected(&mut self) -> Option<Lease> {
        let lasts = |held: &Held| Instant::now() < held.until;
        let held = self.held.wait_for(|held| held.as_ref().is_some_and(lasts));
        let term = held.await.ok()?.as_ref()?.term;
        Some(Lease {
            term,
            held: self.held.clone(),
        })
    }

    /// Whether this process leads.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        self.held.borrow().is_some_and(|held| now < held.until)
    }
}

/// One term of office.
#[derive(Clone, Debug)]
pub struct Lease {
    term: u64,
    held: watch::Receiver<Option<Held>>,
}

impl Lease {
    /// Whether a request may be sent now that must arrive only while this process leads.
    #[must_use]
    pub fn still_leads(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Until when this process may write; `None` once the term is over. The deadline of a write
    /// need not be later.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        let held = *self.held.borrow();
        held.filter(|held| held.term == self.term)
            .map(|held| held.until)
    }

    /// Waits until the term is over.
    pub async fn lost(&mut self) {
        while let Some(until) = self.until() {
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = self.held.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Stands in the election: the candidate learns of its outcome while [`Election::run`] runs.
#[must_use]
pub fn stand(client: Client, terms: Terms) -> (Candidate, Election) {
    let (held, receiver) = watch::channel(None);
    let election = Election {
        leases: Api::namespaced(client, &terms.namespace),
        terms,
        held,
        served: 0,
        seen: None,
    };
    (Candidate { held: receiver }, election)
}

/// The Lease, and since when it has stood there like that.
#[derive(Debug)]
struct Seen {
    lease: LeaseObject,
    since: Instant,
}

/// Acquires, renews and releases the Lease.
pub struct Election {
    leases: Api<LeaseObject>,
    terms: Terms,
    held: watch::Sender<Option<Held>>,
    /// How many terms this process has had.
    served: u64,
    seen: Option<Seen>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing is known of the Lease.
    Look,
    /// It is ours: keep it.
    Renew,
    /// It can be had.
    Take,
    /// It is somebody else's, for so long.
    Wait(Duration),
}

impl Election {
    /// Runs until `end`, which comes after the last write: then the Lease is released, so that
    /// another replica need not wait for it to run out.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        tokio::select! {
            () = self.campaign() => {}
            () = end => {}
        }
        self.release().await;
    }

    async fn campaign(&mut self) {
        let mut complaint = None;
        loop {
            let began = Instant::now();
            // An attempt that hangs must not outlast the lease that it is to renew.
            let limit = self.terms.renew_within / 2;
            let problem = match tokio::time::timeout(limit, self.attempt()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if problem.is_some() {
                // Whether a request that failed was carried out is not known: look again.
                self.seen
                    .take_if(|seen| holder(&seen.lease) == self.terms.identity);
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
            Step::Look => self.create().await,
            Step::Renew => self.replace(0).await,
            Step::Take => self.replace(1).await,
        };
        match written {
            Ok(lease) => {
                self.saw(Some(lease), Instant::now());
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
        self.saw(found, Instant::now());
        Ok(())
    }

    fn next(&self, now: Instant) -> Step {
        let Some(seen) = &self.seen else {
            return Step::Look;
        };
        match holder(&seen.lease) {
            "" => Step::Take,
            holder if holder == self.terms.identity => {
                // What was lost is taken anew, as a new term.
                if self.held.borrow().is_some() {
                    Step::Renew
                } else {
                    Step::Take
                }
            }
            _ => {
                // The holder's own duration counts, also where it is set otherwise than here.
                let spec = seen.lease.spec.as_ref();
                let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
                let duration = seconds
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .map_or(self.terms.duration, Duration::from_secs);
                let left = (seen.since + duration).saturating_duration_since(now);
                if left.is_zero() {
                    Step::Take
                } else {
                    Step::Wait(left)
                }
            }
        }
    }

    /// Only a change starts the clock anew.
    fn saw(&mut self, lease: Option<LeaseObject>, now: Instant) {
        self.seen = lease.map(|lease| {
            let version = &lease.metadata.resource_version;
            let before = self.seen.as_ref();
            let same = before.filter(|seen| seen.lease.metadata.resource_version == *version);
            Seen {
                since: same.map_or(now, |seen| seen.since),
                lease,
            }
        });
    }

    async fn create(&self) -> kube::Result<LeaseObject> {
        let lease = LeaseObject {
            metadata: ObjectMeta {
                name: Some(self.terms.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(None, 0)),
        };
        self.leases.create(&PostParams::default(), &lease).await
    }

    /// With the resourceVersion that was seen: of two candidates one succeeds.
    async fn replace(&self, transitions: i32) -> kube::Result<LeaseObject> {
        let seen = self.seen.as_ref().map(|seen| &seen.lease);
        let before = seen.and_then(|lease| lease.spec.as_ref());
        let acquired = before.and_then(|spec| spec.acquire_time.clone());
        let earlier = before.and_then(|spec| spec.lease_transitions);
        let spec = self.spec(
            acquired.filter(|_| transitions == 0),
            earlier.unwrap_or_default().saturating_add(transitions),
        );
        let lease = LeaseObject {
            metadata: seen.map(|lease| lease.metadata.clone()).unwrap_or_default(),
            spec: Some(spec),
        };
        let params = PostParams::default();
        self.leases.replace(&self.terms.name, &params, &lease).await
    }

    fn spec(&self, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let seconds = i32::try_from(self.terms.duration.as_secs());
        LeaseSpec {
            holder_identity: Some(self.terms.identity.clone()),
            lease_duration_seconds: Some(seconds.unwrap_or(i32::MAX).max(1)),
            acquire_time: acquired.or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
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
            let Some(seen) = &self.seen else {
                return Ok(());
            };
            if holder(&seen.lease) != self.terms.identity {
                return Ok(());
            }
            let mut lease = seen.lease.clone();
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            let params = PostParams::default();
            self.leases
                .replace(&self.terms.name, &params, &lease)
                .await
                .map(drop)
        };
        match tokio::time::timeout(Duration::from_secs(2), released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease is left to run out"),
            Err(_) => tracing::warn!("the lease is left to run out: no answer in time"),
        }
    }
}

fn holder(lease: &LeaseObject) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
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

    fn lease(version: &str, holder: Option<&str>, seconds: Option<i32>) -> LeaseObject {
        LeaseObject {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
        }
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

    #[tokio::test]
    async fn the_lease_is_taken_when_it_was_seen_unchanged_for_its_duration() {
        let start = Instant::now();
        for (holder, seconds, after, step) in [
            (None, Some(15), 0, Step::Take),
            (Some(""), Some(15), 0, Step::Take),
            (Some("them"), Some(15), 0, Step::Wait(15 * SECOND)),
            (Some("them"), Some(15), 14, Step::Wait(SECOND)),
            (Some("them"), Some(15), 15, Step::Take),
            (Some("them"), Some(60), 15, Step::Wait(45 * SECOND)),
            (Some("them"), None, 10, Step::Wait(5 * SECOND)),
            (Some("them"), Some(-1), 10, Step::Wait(5 * SECOND)),
            // Ours from a term that is over.
            (Some("us"), Some(15), 0, Step::Take),
        ] {
            let (_, mut election) = election();
            assert_eq!(election.next(start), Step::Look);
            election.saw(Some(lease("1", holder, seconds)), start);
            // Looking again does not start the clock anew, a renewal does.
            election.saw(Some(lease("1", holder, seconds)), start + 9 * SECOND);
            assert_eq!(
                election.next(start + after * SECOND),
                step,
                "{holder:?} {seconds:?}"
            );
            if holder == Some("them") {
                election.saw(Some(lease("2", holder, Some(15))), start + 20 * SECOND);
                assert_eq!(election.next(start + 20 * SECOND), Step::Wait(15 * SECOND));
            }
            election.saw(None, start);
            assert_eq!(election.next(start), Step::Look);
        }
        let (_, mut election) = election();
        election.saw(Some(lease("1", Some("us"), Some(15))), start);
        election.tell(Some(start + 60 * SECOND));
        assert_eq!(election.next(start), Step::Renew);
    }

    #[test]
    fn no_two_processes_have_one_identity() {
        assert_ne!(identity("pod"), identity("pod"));
        assert!(identity("pod").starts_with("pod_"));
    }
}
