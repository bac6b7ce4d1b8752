//! What was seen of a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use spillway_api::MeshClusterStatus;
use spillway_api::mesh_cluster::Versions;

use super::conditions::{Stated, conditions};
use super::text::bounded;
use super::whole_seconds;

/// Everything that is known of a cluster now. What is not known, for it is away, is what was seen
/// last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// `Reachable`, `Ready`, and what is to be known besides.
    pub stated: Vec<Stated>,
    /// The UID of its `kube-system`.
    pub uid: Option<String>,
    /// What runs there.
    pub versions: Option<Versions>,
    /// Where it is.
    pub system_labels: BTreeMap<String, String>,
    /// How healthy it is.
    pub score: Option<u32>,
    /// When its API server answered last.
    pub last_seen: Option<Time>,
}

/// The status of a cluster. `lastSeen` moves with everything else, and not by itself: a fleet at
/// rest would else write a status for each of its clusters all the time. So it tells when a
/// cluster that is away was there last, which is what people ask.
#[must_use]
pub fn cluster(
    before: Option<&MeshClusterStatus>,
    generation: Option<i64>,
    found: Found,
    now: &Time,
) -> MeshClusterStatus {
    let now = &whole_seconds(now);
    let nothing = MeshClusterStatus::default();
    let before = before.unwrap_or(&nothing);
    let short = |text: String| bounded(&text, 64);
    let labels = found.system_labels.into_iter().take(16);
    let mut status = MeshClusterStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, found.stated, generation, now),
        uid: found.uid.or_else(|| before.uid.clone()).map(short),
        versions: found
            .versions
            .map(|versions| Versions {
                kubernetes: versions.kubernetes.map(short),
            })
            .or_else(|| before.versions.clone()),
        system_labels: labels
            .map(|(name, value)| (name, bounded(&value, 63)))
            .collect(),
        score: found.score.map(|score| score.min(100)),
        last_seen: before.last_seen.clone(),
    };
    if status.system_labels.is_empty() {
        status.system_labels.clone_from(&before.system_labels);
    }
    if status != *before {
        let seen = found.last_seen.as_ref().map(whole_seconds);
        status.last_seen = seen.or(status.last_seen);
    }
    status
}

/// How healthy a cluster is, 0 to 100: nothing while it cannot be reached, below 40 (red) while it
/// cannot be written to, and otherwise less by half of the share of its policies that it could not
/// be given, so that one that lacks all of them is yellow.
#[must_use]
pub fn score(reachable: bool, writable: bool, wanted: u32, lacking: u32) -> u32 {
    if !reachable {
        return 0;
    }
    let lost = (u64::from(lacking.min(wanted)) * 50)
        .checked_div(u64::from(wanted))
        .unwrap_or_default();
    let score = 100_u32.saturating_sub(u32::try_from(lost).unwrap_or(50));
    if writable { score } else { score.min(39) }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::Holds;
    use super::super::tests::at;
    use super::*;

    fn found(reachable: Holds, seen: i64) -> Found {
        Found {
            stated: vec![Stated::new("Reachable", reachable, "Answers", "")],
            uid: Some("0b5b".to_owned()),
            last_seen: Some(at(seen)),
            ..Found::default()
        }
    }

    #[test]
    fn a_cluster_at_rest_is_not_written_about() {
        let first = cluster(None, Some(1), found(Holds::True, 10), &at(10));
        assert_eq!(first.last_seen, Some(at(10)));
        let second = cluster(Some(&first), Some(1), found(Holds::True, 500), &at(500));
        assert_eq!(first, second);
    }

    #[test]
    fn one_that_is_away_keeps_what_was_seen() {
        let first = cluster(None, Some(1), found(Holds::True, 10), &at(10));
        let mut away = found(Holds::False, 500);
        away.uid = None;
        let second = cluster(Some(&first), Some(1), away, &at(510));
        assert_eq!(second.last_seen, Some(at(500)));
        assert_eq!(second.uid.as_deref(), Some("0b5b"));
        assert_eq!(second.conditions[0].last_transition_time, at(510));
    }

    #[test]
    fn scores() {
        for (reachable, writable, wanted, lacking, expected) in [
            (true, true, 0, 0, 100),
            (true, true, 100, 0, 100),
            (true, true, 100, 51, 75),
            (true, true, 10, 6, 70),
            (true, true, 10, 10, 50),
            (true, true, 0, 10, 100),
            (true, false, 100, 0, 39),
            (false, true, 100, 0, 0),
            (true, true, u32::MAX, u32::MAX, 50),
        ] {
            assert_eq!(
                score(reachable, writable, wanted, lacking),
                expected,
                "{lacking} of {wanted}"
            );
        }
    }
}
