//! Policies in each other's way. The older one stays, whatever it says, so that a new policy can
//! never take over what another does; which one that is, is told.

use super::Accepted;
use crate::conditions::Type;
use crate::model::{Target, Workload};

pub(super) fn settle(accepted: &mut Accepted) {
    let mut kept: Vec<Target> = Vec::with_capacity(accepted.targets.len());
    for target in std::mem::take(&mut accepted.targets) {
        let met = kept
            .iter()
            .filter(|other| other.namespace == target.namespace)
            .find_map(|other| meeting(other, &target).map(|why| (other.policy.clone(), why)));
        match met {
            None => kept.push(target),
            Some((other, why)) => {
                let message = format!(
                    "{why}, which the older policy {other} has: change or delete one of the two"
                );
                accepted.ledger.note(
                    &target.policy,
                    Type::Conflicted,
                    "PoliciesMeet",
                    message.clone(),
                );
                accepted
                    .ledger
                    .refuse(&target.policy, "PoliciesMeet", message);
            }
        }
    }
    accepted.targets = kept;
}

/// What two targets of one namespace both want.
fn meeting(older: &Target, younger: &Target) -> Option<String> {
    if older.host != younger.host {
        return same_pods(&older.workload, &younger.workload).then(|| {
            format!(
                "the pods and ports of {} are those of {}",
                younger.host, older.host
            )
        });
    }
    if let Some(port) = younger.ports.iter().find(|port| older.ports.contains(port)) {
        return Some(format!("it wants port {port} of {}", younger.host));
    }
    // The ports differ, but the subsets and routes are the host's.
    if older.home != younger.home {
        return Some(format!("it wants another home for {}", younger.host));
    }
    (older.terms.routing != younger.terms.routing)
        .then(|| format!("it wants another routing for {}", younger.host))
}

/// All pods of one are pods of the other, and listen on a port for both: the sidecar there could
/// not tell whose a request is. Selectors of which neither holds the other may have pods in common
/// too, which only the pods could tell.
fn same_pods(a: &Workload, b: &Workload) -> bool {
    let within = |few: &Workload, more: &Workload| {
        few.labels
            .iter()
            .all(|(key, value)| more.labels.get(key) == Some(value))
    };
    let port = a.ports.is_empty()
        || b.ports.is_empty()
        || a.ports.iter().any(|port| b.ports.contains(port));
    port && (within(a, b) || within(b, a))
}
