//! What the controller says of policies and clusters: conflicts with the users' own objects, and all
//! else that keeps a policy from being in force.

use kube::ResourceExt;
use spillway_api::{BurstPolicy, MeshCluster};

use super::report::Category;

/// What has to hold. All other conditions hold only where there is something to know.
const OF_POLICIES: [&str; 2] = ["Accepted", "Programmed"];
const OF_CLUSTERS: [&str; 2] = ["Reachable", "Ready"];

/// One finding for each condition that is not as it should be.
pub(super) fn look(policies: &[BurstPolicy], clusters: &[MeshCluster]) -> Category {
    let mut category = Category::new("policies");
    for cluster in clusters {
        let conditions = cluster.status.clone().unwrap_or_default().conditions;
        for condition in conditions {
            let is_needed = OF_CLUSTERS.contains(&condition.type_.as_str());
            if is_needed && condition.status != "True" {
                category.wrong(
                    format!("the cluster {} is {}", cluster.name_any(), condition.type_),
                    format!("{}: {}", condition.reason, condition.message),
                    "The message says what to do; docs/operations/controller.md explains each reason.",
                );
            }
        }
    }
    for policy in policies {
        look_at(&mut category, policy);
    }
    if policies.is_empty() {
        category.warn(
            "there is a policy",
            "none was declared: no request overflows",
            "Declare one: `spillway install --run-demo` shows how.",
        );
    }
    category
}

fn look_at(category: &mut Category, policy: &BurstPolicy) {
    let name = format!(
        "{}/{}",
        policy.namespace().unwrap_or_default(),
        policy.name_any()
    );
    let status = policy.status.clone().unwrap_or_default();
    let holds = |wanted: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|it| it.type_ == wanted && it.status == "True")
    };
    if OF_POLICIES.iter().all(|wanted| holds(wanted)) {
        let clusters = status.summary.clone().unwrap_or_default();
        category.fine(format!("{name} is in force in {clusters} clusters"));
    } else if status.conditions.is_empty() {
        category.wrong(
            format!("{name} is in force"),
            "the controller has said nothing of it",
            "Look at whether one leads.",
        );
    }
    for condition in &status.conditions {
        let reason = format!("{}: {}", condition.reason, condition.message);
        let is_needed = OF_POLICIES.contains(&condition.type_.as_str());
        match (is_needed, condition.status.as_str()) {
            (true, "True") | (false, "False") => {}
            (true, _) => category.wrong(
                format!("{name} is {}", condition.type_),
                reason,
                format!("`spillway status {name}` shows each cluster; the message says what to write instead."),
            ),
            (false, _) => category.warn(
                format!("{name} goes without exceptions: {}", condition.type_),
                reason,
                "Change what the message names, or leave it so: the rest of the policy is in force.",
            ),
        }
    }
}
