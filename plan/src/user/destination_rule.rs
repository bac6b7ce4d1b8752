//! Users' DestinationRules: which one holds for a service, and what of it our subsets repeat.
//!
//! Istio looks for a rule in the caller's namespace, then in the service's, then in the root
//! namespace. Rules of one host in one namespace are merged, if they are exported to the same
//! namespaces; what stands in a subset replaces the host's setting of that name as a whole. So our
//! subsets repeat what they would replace, and our rule is exported as the user's is.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{covers, full_host, identity, texts, visible_in};
use crate::input::Observed;
use crate::model::Target;

/// Whether a rule is for a host.
pub(crate) fn is_for(rule: &Value, host: &str, domain: &str) -> bool {
    let (namespace, _) = identity(rule);
    let pattern = rule.pointer("/spec/host").and_then(Value::as_str);
    pattern.is_some_and(|pattern| covers(&full_host(pattern, namespace, domain), host))
}

fn is_exact(rule: &Value, host: &str, domain: &str) -> bool {
    let (namespace, _) = identity(rule);
    let named = rule.pointer("/spec/host").and_then(Value::as_str);
    named.is_some_and(|named| full_host(named, namespace, domain) == host)
}

/// The rule for a host in the service's namespace, which ours is merged with; without a selector
/// of workloads.
pub(crate) fn beside<'a>(
    observed: &'a Observed,
    target: &Target,
    domain: &str,
) -> Option<&'a Value> {
    let mut rules = observed.destination_rules.iter().map(Arc::as_ref);
    rules.find(|rule| {
        identity(rule).0 == target.namespace
            && is_exact(rule, &target.host, domain)
            && rule.pointer("/spec/workloadSelector").is_none()
    })
}

/// A rule that ours is merged with, and that a namespace of callers does not see: ours would have
/// to be exported to others than the user's is, and would not be merged.
pub(crate) fn withheld<'a>(
    observed: &'a Observed,
    target: &Target,
    namespace: &str,
    domain: &str,
) -> Option<(&'a str, &'a str)> {
    beside(observed, target, domain)
        .filter(|rule| !visible_in(rule, namespace))
        .map(identity)
}

/// What holds for a service without us.
#[derive(Clone, Copy, Default)]
pub(crate) struct Inherited<'a> {
    /// The user's `trafficPolicy`.
    pub(crate) policy: Option<&'a Value>,
    /// Istio merges it with ours, so that what a subset does not name still holds.
    pub(crate) merged: bool,
    /// The `exportTo` of the rule that ours is merged with.
    pub(crate) export_to: Option<&'a Value>,
    /// The rule.
    pub(crate) rule: Option<&'a Value>,
}

/// What holds for a service: the rule beside it, else the most specific one with a wildcard there,
/// else one of the root namespace.
pub(crate) fn inherited<'a>(
    observed: &'a Observed,
    target: &Target,
    root: &str,
    domain: &str,
) -> Inherited<'a> {
    if let Some(rule) = beside(observed, target, domain) {
        return Inherited {
            policy: rule.pointer("/spec/trafficPolicy"),
            merged: true,
            export_to: rule
                .pointer("/spec/exportTo")
                .filter(|_| !texts(rule, "/spec/exportTo").is_empty()),
            rule: Some(rule),
        };
    }
    let in_namespace = |namespace: &str| {
        observed
            .destination_rules
            .iter()
            .map(Arc::as_ref)
            .filter(|rule| identity(rule).0 == namespace && is_for(rule, &target.host, domain))
            .max_by_key(|rule| {
                rule.pointer("/spec/host")
                    .and_then(Value::as_str)
                    .map_or(0, str::len)
            })
    };
    let rule = in_namespace(&target.namespace).or_else(|| in_namespace(root));
    Inherited {
        policy: rule.and_then(|rule| rule.pointer("/spec/trafficPolicy")),
        merged: false,
        export_to: None,
        rule,
    }
}

impl<'a> Inherited<'a> {
    /// The settings of a port, where it has its own: nothing of the host's holds for it then.
    pub(crate) fn of_port(&self, port: u16) -> Option<&'a Value> {
        let ports = self.policy?.get("portLevelSettings")?.as_array()?;
        ports
            .iter()
            .find(|entry| entry.pointer("/port/number") == Some(&json!(port)))
    }

    /// The rule with a limit of retries that bounced requests would meet. One of a connection pool
    /// can be lifted in our subsets; a retry budget cannot.
    pub(crate) fn retry_limit(&self, ports: &[u16], lifted: bool) -> Option<String> {
        let limits = |settings: &Value| {
            let pool = settings.pointer("/connectionPool/http/maxRetries");
            settings.get("retryBudget").is_some() || (pool.is_some() && !lifted)
        };
        let limited = self.policy.is_some_and(limits)
            || ports
                .iter()
                .any(|port| self.of_port(*port).is_some_and(limits));
        limited.then(|| self.rule.map(super::name)).flatten()
    }
}

/// The user's balancer with one cluster's endpoints first.
pub(crate) fn balancer(inherited: Option<&Value>, first: &str) -> Value {
    let mut balancer = object(inherited, "loadBalancer");
    if !balancer.contains_key("simple") && !balancer.contains_key("consistentHash") {
        balancer.insert("simple".to_owned(), json!("LEAST_REQUEST"));
    }
    balancer.insert(
        "localityLbSetting".to_owned(),
        json!({"failoverPriority": [first]}),
    );
    Value::Object(balancer)
}

/// The user's outlier detection. Without any, a cluster has no priorities; and with the default
/// share of endpoints that must be healthy, a cluster behind a gateway counts as healthy with none.
pub(crate) fn outlier_detection(inherited: Option<&Value>) -> Value {
    let mut detection = object(inherited, "outlierDetection");
    detection.insert("minHealthPercent".to_owned(), json!(1));
    Value::Object(detection)
}

/// The user's limits of connections, without the one of retries where it is replaced.
pub(crate) fn connection_pool(
    inherited: Option<&Value>,
    keep: bool,
    unlimited_retries: bool,
) -> Option<Value> {
    let mut pool = inherited?.get("connectionPool")?.clone();
    let limited = pool.pointer("/http/maxRetries").is_some();
    if unlimited_retries && let Some(http) = pool.get_mut("http").and_then(Value::as_object_mut) {
        http.remove("maxRetries");
    }
    (!keep || (limited && unlimited_retries)).then_some(pool)
}

fn object(inherited: Option<&Value>, field: &str) -> Map<String, Value> {
    inherited
        .and_then(|settings| settings.get(field))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}
