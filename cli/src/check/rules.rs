//! DestinationRules of the users that are in the way of what is written here.

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::{Value, json};
use spillway_api::MeshCluster;
use spillway_controller::observe::kinds::Kind;
use spillway_plan::output::{MANAGED_BY, SPILLWAY};

use super::report::Category;
use crate::connection::Cluster;
use crate::objects;

/// Bounced requests are retries too: with fewer at a time, callers see the bounces. Istio's own
/// default is no limit.
const FEW_RETRIES: u64 = 100;

/// DestinationRules of the users that keep bounced requests from being repeated.
pub(super) async fn look(
    seen: &Cluster,
    cluster: &MeshCluster,
    namespaces: &BTreeSet<String>,
) -> Option<Category> {
    let mut category = Category::new(format!("your rules in {}", cluster.name_any()));
    let resource = Kind::DestinationRule.resource();
    let like = json!({"apiVersion": resource.api_version, "kind": resource.kind});
    let rules = objects::list(seen, &like, "").await.ok()?;
    let mut is_any = false;
    for rule in rules {
        let is_ours = rule
            .labels()
            .get(MANAGED_BY)
            .is_some_and(|by| by == SPILLWAY);
        let namespace = rule.namespace().unwrap_or_default();
        if is_ours || !namespaces.contains(&namespace) {
            continue;
        }
        is_any = true;
        for (reason, mend) in harm(&rule.data) {
            let name = format!("DestinationRule {namespace}/{}", rule.name_any());
            category.warn(
                format!("{name} lets bounced requests be repeated"),
                reason,
                mend,
            );
        }
    }
    if is_any && category.checks.is_empty() {
        category.fine("DestinationRules of yours let bounced requests be repeated");
    }
    Some(category)
}

/// What a rule says that is in the way.
fn harm(rule: &Value) -> Vec<(String, &'static str)> {
    let policies = [
        "/spec/trafficPolicy",
        "/spec/trafficPolicy/portLevelSettings/0",
    ];
    let mut harm = Vec::new();
    for policy in policies.iter().filter_map(|path| rule.pointer(path)) {
        let retries = policy.pointer("/connectionPool/http/maxRetries");
        if let Some(retries) = retries
            .and_then(Value::as_u64)
            .filter(|it| *it < FEW_RETRIES)
        {
            harm.push((
                format!("maxRetries is {retries}: with more bounced requests at a time their callers see the 429"),
                "Leave connectionPool.http.maxRetries out, or set it as high as the requests in flight.",
            ));
        }
        let percent = policy.pointer("/outlierDetection/minHealthPercent");
        if let Some(percent) = percent.and_then(Value::as_u64).filter(|it| *it > 50) {
            harm.push((
                format!("outlierDetection.minHealthPercent is {percent}: with fewer healthy pods the way home counts none of them as unhealthy"),
                "Leave it out: Spillway's own subsets say 1.",
            ));
        }
    }
    harm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_keep_requests_from_being_repeated() {
        let rule = |policy: Value| json!({"spec": {"trafficPolicy": policy}});
        let retries = |count: u64| rule(json!({"connectionPool": {"http": {"maxRetries": count}}}));
        assert_eq!(harm(&retries(1)).len(), 1);
        assert!(harm(&retries(1_024)).is_empty());
        let health = rule(json!({"outlierDetection": {"minHealthPercent": 70}}));
        assert_eq!(harm(&health).len(), 1);
        assert!(harm(&rule(json!({"tls": {"mode": "ISTIO_MUTUAL"}}))).is_empty());
    }
}
