//! What people are told about their policies, fleets and clusters.
//!
//! A status is a function of what is known now and of the status before: a condition keeps its
//! `lastTransitionTime` as long as its status stays, and a status in which nothing changed is not
//! written, so that at rest nothing is. All of them are bounded whatever the fleet's size:
//! clusters are counted, and named only where they are few or something is wrong with them.
//!
//! - [`policy`], [`fleet`] and [`cluster`]: statuses, pure
//! - [`Publisher`]: writes them, with an event for every condition that changed

mod conditions;
mod events;
mod fleet;
mod mesh_cluster;
mod policy;
mod publish;
mod tell;
mod text;
mod unreadable;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub use self::conditions::{Holds, Stated};
pub use self::fleet::{Member, fleet};
pub use self::mesh_cluster::{Found, cluster, score};
pub use self::policy::{Progress, policy, programmed};
pub use self::publish::{Conditions, Published, Publisher};
pub(crate) use self::tell::Teller;
pub(crate) use self::text::some;

/// A time as an API server keeps it: what is finer than a second would come back different.
fn whole_seconds(time: &Time) -> Time {
    Timestamp::from_second(time.0.as_second()).map_or_else(|_| time.clone(), Time)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn times_are_whole_seconds() {
        let fine = Time(Timestamp::from_millisecond(1_999).unwrap());
        assert_eq!(super::whole_seconds(&fine), at(1));
        assert_eq!(super::whole_seconds(&at(1)), at(1));
    }

    /// So many seconds into the epoch.
    pub(super) fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }
}
