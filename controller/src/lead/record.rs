//! The Lease as it was seen, what follows from it, and what is written next.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::Terms;

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is known of the Lease.
    Look,
    /// It is ours: keep it.
    Renew,
    /// It can be had.
    Take,
    /// It is somebody else's, for so long.
    Wait(Duration),
}

/// What is known of the Lease.
#[derive(Debug, Default)]
pub(super) struct Record {
    seen: Option<Seen>,
}

/// The Lease, and since when it has stood there like that.
#[derive(Debug)]
struct Seen {
    lease: LeaseObject,
    since: Instant,
}

impl Record {
    /// What is to be done next by one who does or does not hold a term.
    pub(super) fn next(&self, terms: &Terms, holds: bool, now: Instant) -> Step {
        let Some(seen) = &self.seen else {
            return Step::Look;
        };
        match holder(&seen.lease) {
            "" => Step::Take,
            // What was lost is taken anew, as a new term.
            holder if holder == terms.identity && holds => Step::Renew,
            holder if holder == terms.identity => Step::Take,
            _ => {
                // The holder's own duration counts, also where it is set otherwise than here.
                let spec = seen.lease.spec.as_ref();
                let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
                let duration = seconds
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .map_or(terms.duration, Duration::from_secs);
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
    pub(super) fn saw(&mut self, lease: Option<LeaseObject>, now: Instant) {
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

    /// Forgets what is ours: whether a request that failed was carried out is not known.
    pub(super) fn doubt(&mut self, terms: &Terms) {
        self.seen
            .take_if(|seen| holder(&seen.lease) == terms.identity);
    }

    /// A Lease where there is none.
    pub(super) fn created(terms: &Terms) -> LeaseObject {
        LeaseObject {
            metadata: ObjectMeta {
                name: Some(terms.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec(terms, None, 0)),
        }
    }

    /// Held for longer.
    pub(super) fn renewed(&self, terms: &Terms) -> LeaseObject {
        let before = self.spec();
        let acquired = before.and_then(|spec| spec.acquire_time.clone());
        self.with(spec(terms, acquired, self.transitions()))
    }

    /// Taken over.
    pub(super) fn taken(&self, terms: &Terms) -> LeaseObject {
        self.with(spec(terms, None, self.transitions().saturating_add(1)))
    }

    /// Put down; nothing where it is not ours.
    pub(super) fn released(&self, terms: &Terms) -> Option<LeaseObject> {
        let seen = self.seen.as_ref();
        let ours = seen.filter(|seen| holder(&seen.lease) == terms.identity);
        let mut lease = ours?.lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        Some(lease)
    }

    /// With the resourceVersion that was seen: of two candidates one succeeds.
    fn with(&self, spec: LeaseSpec) -> LeaseObject {
        let seen = self.seen.as_ref();
        LeaseObject {
            metadata: seen
                .map(|seen| seen.lease.metadata.clone())
                .unwrap_or_default(),
            spec: Some(spec),
        }
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.seen.as_ref()?.lease.spec.as_ref()
    }

    fn transitions(&self) -> i32 {
        let transitions = self.spec().and_then(|spec| spec.lease_transitions);
        transitions.unwrap_or_default()
    }
}

fn spec(terms: &Terms, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let seconds = i32::try_from(terms.duration.as_secs());
    LeaseSpec {
        holder_identity: Some(terms.identity.clone()),
        lease_duration_seconds: Some(seconds.unwrap_or(i32::MAX).max(1)),
        acquire_time: acquired.or_else(|| Some(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

fn holder(lease: &LeaseObject) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

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

    #[test]
    fn the_lease_is_taken_when_it_was_seen_unchanged_for_its_duration() {
        let (terms, start) = (Terms::new("default", "test", "us"), Instant::now());
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
            let mut record = Record::default();
            assert_eq!(record.next(&terms, false, start), Step::Look);
            record.saw(Some(lease("1", holder, seconds)), start);
            // Looking again does not start the clock anew, a renewal does.
            record.saw(Some(lease("1", holder, seconds)), start + 9 * SECOND);
            assert_eq!(
                record.next(&terms, false, start + after * SECOND),
                step,
                "{holder:?} {seconds:?}"
            );
            if holder == Some("them") {
                record.saw(Some(lease("2", holder, Some(15))), start + 20 * SECOND);
                assert_eq!(
                    record.next(&terms, false, start + 20 * SECOND),
                    Step::Wait(15 * SECOND)
                );
            }
            record.saw(None, start);
            assert_eq!(record.next(&terms, false, start), Step::Look);
        }
        let mut record = Record::default();
        record.saw(Some(lease("1", Some("us"), Some(15))), start);
        assert_eq!(record.next(&terms, true, start), Step::Renew);
    }

    #[test]
    fn the_times_in_a_lease_are_for_people() {
        let (terms, start) = (Terms::new("default", "test", "us"), Instant::now());
        for hours in [-5, 5] {
            let mut theirs = lease("1", Some("them"), Some(15));
            let told = Timestamp::now() + SignedDuration::from_hours(hours);
            let spec = theirs.spec.as_mut().unwrap();
            spec.renew_time = Some(MicroTime(told));
            spec.acquire_time = Some(MicroTime(told));
            let mut record = Record::default();
            record.saw(Some(theirs), start);
            let now = start + 14 * SECOND;
            assert_eq!(record.next(&terms, false, now), Step::Wait(SECOND));
            let now = start + 15 * SECOND;
            assert_eq!(record.next(&terms, false, now), Step::Take);
        }
    }

    #[test]
    fn only_what_is_ours_is_put_down() {
        let (terms, now) = (Terms::new("default", "test", "us"), Instant::now());
        let mut record = Record::default();
        record.saw(Some(lease("1", Some("them"), None)), now);
        assert_eq!(record.released(&terms), None);
        record.saw(Some(lease("2", Some("us"), None)), now);
        let released = record.released(&terms).unwrap();
        assert_eq!(released.spec.unwrap().holder_identity, None);
        assert_eq!(released.metadata.resource_version.as_deref(), Some("2"));
    }
}
