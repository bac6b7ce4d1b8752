//! Outbound routes, as istiod makes them of a VirtualService with one route per rung.

use serde_json::{Value, json};

use crate::topology::{Retries, Service, Topology};

/// The route configuration for all services of one port.
pub(crate) fn route_configuration(topology: &Topology, port: u16) -> Value {
    let mut hosts: Vec<Value> = topology
        .services
        .iter()
        .filter(|service| service.port == port)
        .map(|service| virtual_host(topology, service))
        .collect();
    // Hosts that are not of the mesh: as with the outbound traffic policy REGISTRY_ONLY.
    hosts.push(json!({
        "name": "block_all",
        "domains": ["*"],
        "routes": [{"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}],
        "include_request_attempt_count": true,
    }));
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": port.to_string(),
        "virtual_hosts": hosts,
        "validate_clusters": false,
        "ignore_port_in_host_matching": true,
    })
}

fn virtual_host(topology: &Topology, service: &Service) -> Value {
    let mut routes = Vec::new();
    for rung in topology.rungs(service) {
        for token in &topology.tokens {
            let matched = json!({
                "prefix": "/",
                "case_sensitive": true,
                "headers": [{
                    "name": "x-spillway",
                    "string_match": {"prefix": format!("{rung};{token};")},
                }],
            });
            let subset = format!("spillway-{rung}");
            let destination = json!({"cluster": service.outbound_cluster(&subset)});
            routes.push(route(service, &subset, destination, &matched));
        }
    }
    routes.push(route(
        service,
        "spillway-home",
        split(service),
        &json!({"prefix": "/"}),
    ));

    let short = service.host.split('.').next().unwrap_or_default();
    json!({
        "name": format!("{}:{}", service.host, service.port),
        "domains": [
            service.host,
            short,
            format!("{short}.{}", service.namespace),
            format!("{short}.{}.svc", service.namespace),
        ],
        "routes": routes,
        "include_request_attempt_count": true,
    })
}

/// Where requests go that no header leads elsewhere.
fn split(service: &Service) -> Value {
    let weighted = |(subset, weight): &(String, u32)| json!({"name": service.outbound_cluster(subset), "weight": weight});
    match service.split.as_slice() {
        [] => json!({"cluster": service.outbound_cluster("spillway-home")}),
        [(subset, _)] => json!({"cluster": service.outbound_cluster(subset)}),
        several => {
            let clusters: Vec<_> = several.iter().map(weighted).collect();
            json!({"weighted_clusters": {"clusters": clusters}})
        }
    }
}

/// A route to what `action` names as its destination.
fn route(service: &Service, name: &str, mut action: Value, matched: &Value) -> Value {
    if let Some(action) = action.as_object_mut() {
        match service.timeout {
            Some(timeout) => {
                action.insert("timeout".to_owned(), json!(duration(timeout)));
            }
            None => {
                let unlimited =
                    json!({"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"});
                action.insert("timeout".to_owned(), json!("0s"));
                // Beside it Envoy would not heed a timeout.
                action.insert("max_stream_duration".to_owned(), unlimited);
            }
        }
        if let Some(retries) = &service.retries {
            action.insert("retry_policy".to_owned(), retry_policy(retries));
        }
    }
    let mut route = json!({
        "name": name,
        "match": matched,
        "route": action,
        "metadata": {"filter_metadata": {"istio": {"config": format!(
            "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/spillway-{}",
            service.namespace, service.workload,
        )}}},
        "decorator": {"operation": format!("{}:{}/*", service.host, service.port)},
    });
    if let (true, Some(route)) = (service.bounce_headers, route.as_object_mut()) {
        let headers = [
            ("x-envoy-retry-on", "retriable-headers"),
            ("x-envoy-retriable-header-names", "x-spillway-bounce"),
        ];
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| {
                json!({
                    "header": {"key": key, "value": value},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                })
            })
            .collect();
        route.insert("request_headers_to_add".to_owned(), json!(headers));
    }
    route
}

fn retry_policy(retries: &Retries) -> Value {
    let mut policy = json!({
        "retry_on": retries.retry_on,
        "num_retries": retries.attempts,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }],
        "host_selection_retry_max_attempts": "5",
        "retry_back_off": {"base_interval": duration(retries.backoff)},
    });
    if let (Some(frequency), Some(policy)) = (retries.update_frequency, policy.as_object_mut()) {
        let priority = json!({
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": frequency,
            },
        });
        policy.insert("retry_priority".to_owned(), priority);
    }
    policy
}

/// A duration as protobuf's JSON form wants it.
pub(crate) fn duration(value: std::time::Duration) -> String {
    format!("{}.{:09}s", value.as_secs(), value.subsec_nanos())
}
