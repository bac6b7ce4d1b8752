//! How a fleet is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use spillway_api::FleetStatus;
use spillway_api::burst_policy::ApplyState;
use spillway_api::fleet::Band;

use super::conditions::{Holds, Stated, conditions};
use super::text::some;
use super::whole_seconds;

/// A cluster of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The MeshCluster.
    pub name: &'a str,
    /// How far it is with everything that it is to have.
    pub state: ApplyState,
    /// How healthy it is, 0 to 100; none where nobody knows.
    pub score: Option<u32>,
}

/// The status of a fleet: its clusters, counted.
#[must_use]
pub fn fleet(
    before: Option<&FleetStatus>,
    generation: Option<i64>,
    members: &[Member<'_>],
    now: &Time,
) -> FleetStatus {
    let now = &whole_seconds(now);
    let of = |state| {
        let found = members.iter().filter(move |member| member.state == state);
        found.map(|member| member.name).collect::<Vec<_>>()
    };
    let (deployed, in_progress, failed) = (
        of(ApplyState::Applied),
        of(ApplyState::Pending),
        of(ApplyState::Failed),
    );
    let score = mean(members.iter().filter_map(|member| member.score));
    let old = before.map(|before| before.conditions.as_slice());
    let ready = ready(members.len(), &in_progress, &failed);
    FleetStatus {
        observed_generation: generation,
        conditions: conditions(old.unwrap_or_default(), [ready], generation, now),
        clusters: count(members.len()),
        deployed: count(deployed.len()),
        in_progress: count(in_progress.len()),
        failed: count(failed.len()),
        score,
        band: score.map(Band::of),
    }
}

fn ready(total: usize, in_progress: &[&str], failed: &[&str]) -> Stated {
    let (holds, reason, message) = if total == 0 {
        let message = "no MeshCluster carries its labels".to_owned();
        (Holds::False, "NoClusters", message)
    } else if !failed.is_empty() {
        let names = some(failed.iter().copied());
        let message = format!(
            "{} of {total} clusters could not be written to: {names}",
            failed.len()
        );
        (Holds::False, "Failed", message)
    } else if !in_progress.is_empty() {
        let names = some(in_progress.iter().copied());
        let message = format!(
            "{} of {total} clusters are to be written: {names}",
            in_progress.len()
        );
        (Holds::False, "InProgress", message)
    } else {
        (
            Holds::True,
            "Ready",
            format!("all of {total} clusters have everything"),
        )
    };
    Stated::new("Ready", holds, reason, message)
}

fn mean(scores: impl Iterator<Item = u32>) -> Option<u32> {
    let (sum, count) = scores.fold((0_u64, 0_u64), |(sum, count), score| {
        (sum + u64::from(score), count + 1)
    });
    sum.checked_div(count)
        .and_then(|mean| u32::try_from(mean).ok())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    #[test]
    fn clusters_are_counted_and_their_scores_averaged() {
        use ApplyState::{Applied, Failed, Pending};
        for (members, reason, counts, score, band) in [
            (&[][..], "NoClusters", (0, 0, 0, 0), None, None),
            (
                &[(Applied, Some(100)), (Applied, Some(80))],
                "Ready",
                (2, 2, 0, 0),
                Some(90),
                Some(Band::Green),
            ),
            (
                &[(Applied, Some(90)), (Pending, None)],
                "InProgress",
                (2, 1, 1, 0),
                Some(90),
                Some(Band::Green),
            ),
            (
                &[(Applied, Some(100)), (Failed, Some(0))],
                "Failed",
                (2, 1, 0, 1),
                Some(50),
                Some(Band::Yellow),
            ),
            (
                &[(Failed, Some(0)), (Pending, Some(70))],
                "Failed",
                (2, 0, 1, 1),
                Some(35),
                Some(Band::Red),
            ),
        ] {
            let name = "burst";
            let members: Vec<Member<'_>> = members
                .iter()
                .map(|(state, score)| Member {
                    name,
                    state: *state,
                    score: *score,
                })
                .collect();
            let status = fleet(None, Some(3), &members, &at(0));
            assert_eq!(status.conditions[0].reason, reason);
            assert_eq!(
                (
                    status.clusters,
                    status.deployed,
                    status.in_progress,
                    status.failed
                ),
                counts
            );
            assert_eq!((status.score, status.band), (score, band));
            assert_eq!(fleet(Some(&status), Some(3), &members, &at(9)), status);
        }
    }

    #[test]
    fn with_3000_clusters_it_stays_small() {
        let names: Vec<String> = (0..3000).map(|n| format!("{n:0>253}")).collect();
        let members: Vec<Member<'_>> = names
            .iter()
            .map(|name| Member {
                name,
                state: ApplyState::Failed,
                score: Some(0),
            })
            .collect();
        let status = fleet(None, Some(1), &members, &at(0));
        let size = serde_json::to_vec(&status).unwrap().len();
        assert!(size < 4 * 1024, "{size} bytes");
    }
}
