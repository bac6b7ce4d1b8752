//! Envoy's clusters and load assignments, as istiod makes them of a DestinationRule whose subsets
//! have no labels, each with a `failoverPriority` of its own.
//!
//! A subset with the label `topology.istio.io/cluster` would be hard: 503 when that cluster's
//! endpoints vanish. A subset without labels holds all endpoints; those of its first cluster have
//! priority 0 and all others the next, so that it falls back, and so that a bounced request, which
//! is retried in the next priority, reaches another cluster.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::routes::duration;
use crate::topology::{Announced, OutlierDetection, Protocol, Service, Topology};

/// A cluster of Envoy and the endpoints that discovery gives it.
pub(crate) struct OutboundCluster {
    pub(crate) name: String,
    pub(crate) cluster: Value,
    /// The file of its endpoints, and what it holds; none where they stand in the cluster.
    pub(crate) eds: Option<(String, Value)>,
}

/// The subsets of every service as a sidecar in `own` sees them; with a `folder`, their load
/// assignments lie in files there. (Istio also writes the service without a subset; no route leads there.)
pub(crate) fn outbound(
    topology: &Topology,
    own: &str,
    folder: Option<&Path>,
) -> Vec<OutboundCluster> {
    let mut clusters = Vec::new();
    for service in &topology.services {
        let home = service.home.clone().unwrap_or_else(|| own.to_owned());
        let mut subsets = vec![("spillway-home".to_owned(), home)];
        for rung in topology.rungs(service) {
            subsets.push((format!("spillway-{rung}"), rung));
        }
        for (subset, first) in subsets {
            let name = service.outbound_cluster(&subset);
            let outlier = service.outlier_detection.as_ref();
            // Istio writes priorities only where there is outlier detection.
            let first = outlier.map(|_| first.as_str());
            let assignment = load_assignment(topology, service, &name, first);
            let file = format!("eds-{}.json", name.replace('|', "_"));
            let endpoints = match folder {
                Some(folder) => eds(&name, &folder.join(&file)),
                None => json!({"type": "STATIC", "load_assignment": assignment}),
            };
            clusters.push(OutboundCluster {
                cluster: outbound_cluster(service, &name, endpoints, outlier),
                eds: folder.map(|_| (file, typed(assignment))),
                name,
            });
        }
    }
    clusters
}

/// Endpoints that lie in a file.
fn eds(name: &str, file: &Path) -> Value {
    json!({
        "type": "EDS",
        "eds_cluster_config": {
            "eds_config": {
                "path_config_source": {"path": file},
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
            },
            "service_name": name,
        },
    })
}

/// A load assignment as a resource of its own.
fn typed(mut assignment: Value) -> Value {
    if let Some(fields) = assignment.as_object_mut() {
        let kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
        fields.insert("@type".to_owned(), json!(kind));
    }
    assignment
}

fn outbound_cluster(
    service: &Service,
    name: &str,
    endpoints: Value,
    outlier: Option<&OutlierDetection>,
) -> Value {
    let mut cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{
            "max_connections": u32::MAX,
            "max_pending_requests": u32::MAX,
            "max_requests": u32::MAX,
            "max_retries": service.max_retries,
            "track_remaining": true,
        }]},
    });
    if let (Some(fields), Value::Object(endpoints)) = (cluster.as_object_mut(), endpoints) {
        fields.extend(endpoints);
        if let Some(options) = protocol_options(service.protocol, &service.lost_headers) {
            fields.insert("typed_extension_protocol_options".to_owned(), options);
        }
        if let Some(outlier) = outlier {
            fields.insert("outlier_detection".to_owned(), outlier_detection(outlier));
            let common = json!({
                "healthy_panic_threshold": {"value": outlier.min_health_percent},
                "locality_weighted_lb_config": {},
            });
            fields.insert("common_lb_config".to_owned(), common);
        }
    }
    cluster
}

fn protocol_options(protocol: Protocol, lost_headers: &[String]) -> Option<Value> {
    let mut options = match protocol {
        Protocol::Http1 if lost_headers.is_empty() => return None,
        Protocol::Http1 => json!({"explicit_http_config": {"http_protocol_options": {}}}),
        Protocol::Http2 => json!({"explicit_http_config": {"http2_protocol_options": {}}}),
        Protocol::ClientProtocol => json!({"use_downstream_protocol_config": {
            "http_protocol_options": {},
            "http2_protocol_options": {},
        }}),
    };
    if let Some(fields) = options.as_object_mut() {
        let kind = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        fields.insert("@type".to_owned(), json!(kind));
        if !lost_headers.is_empty() {
            fields.insert("http_filters".to_owned(), losing(lost_headers));
        }
    }
    Some(json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}))
}

/// Filters between the router and an endpoint that take these headers off its answers.
fn losing(headers: &[String]) -> Value {
    let removals: Vec<_> = headers.iter().map(|name| json!({"remove": name})).collect();
    json!([
        {
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                "mutations": {"response_mutations": removals},
            },
        },
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            },
        },
    ])
}

fn outlier_detection(outlier: &OutlierDetection) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("enforcing_success_rate".to_owned(), json!(0));
    let enforce = |errors: u32| if errors > 0 { 100 } else { 0 };
    if let Some(errors) = outlier.consecutive_5xx_errors {
        fields.insert("consecutive_5xx".to_owned(), json!(errors));
        fields.insert(
            "enforcing_consecutive_5xx".to_owned(),
            json!(enforce(errors)),
        );
    }
    if let Some(errors) = outlier.consecutive_gateway_errors {
        fields.insert("consecutive_gateway_failure".to_owned(), json!(errors));
        let enforced = json!(enforce(errors));
        fields.insert("enforcing_consecutive_gateway_failure".to_owned(), enforced);
    }
    if let Some(interval) = outlier.interval {
        fields.insert("interval".to_owned(), json!(duration(interval)));
    }
    if let Some(time) = outlier.base_ejection_time {
        fields.insert("base_ejection_time".to_owned(), json!(duration(time)));
    }
    if let Some(percent) = outlier.max_ejection_percent {
        fields.insert("max_ejection_percent".to_owned(), json!(percent));
    }
    Value::Object(fields)
}

/// All endpoints by cluster; with `first`, those of that cluster before the others. As in istiod,
/// priorities are counted without gaps: when the first cluster has no endpoint, the others are 0.
fn load_assignment(
    topology: &Topology,
    service: &Service,
    name: &str,
    first: Option<&str>,
) -> Value {
    let in_cluster = |cluster: &str| -> Vec<&Announced> {
        topology
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.host == service.host && endpoint.cluster == cluster)
            .collect()
    };
    let first_is_there = first.is_some_and(|first| !in_cluster(first).is_empty());
    let mut localities = Vec::new();
    for cluster in &topology.clusters {
        let endpoints = in_cluster(&cluster.name);
        if endpoints.is_empty() {
            continue;
        }
        let priority = u32::from(first_is_there && first != Some(cluster.name.as_str()));
        localities.push(json!({
            "locality": {"region": cluster.region},
            "priority": priority,
            "load_balancing_weight": endpoints.len(),
            "lb_endpoints": endpoints
                .iter()
                .map(|endpoint| lb_endpoint(service, endpoint))
                .collect::<Vec<_>>(),
        }));
    }
    json!({"cluster_name": name, "endpoints": localities})
}

fn lb_endpoint(service: &Service, endpoint: &Announced) -> Value {
    let workload = format!(
        "{};{};{};v1;{}",
        service.workload, service.namespace, service.workload, endpoint.cluster
    );
    json!({
        "endpoint": {"address": {"socket_address": {
            "address": endpoint.address.to_string(),
            "port_value": service.app_port,
        }}},
        "health_status": "HEALTHY",
        "load_balancing_weight": 1,
        "metadata": {"filter_metadata": {"istio": {"workload": workload}}},
    })
}

/// The cluster `inbound|PORT||` of a server's sidecar. It speaks to the application as the caller's
/// sidecar speaks to this one, so that it need not change when the service's protocol does.
pub(crate) fn inbound(service: &Service, app: SocketAddr) -> Value {
    let name = format!("inbound|{}||", service.app_port);
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [{
            "max_connections": u32::MAX,
            "max_pending_requests": u32::MAX,
            "max_requests": u32::MAX,
            "max_retries": u32::MAX,
            "track_remaining": true,
        }]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": app.ip().to_string(),
                "port_value": app.port(),
            }}}}]}],
        },
    });
    if let (Some(options), Some(fields)) = (
        protocol_options(Protocol::ClientProtocol, &[]),
        cluster.as_object_mut(),
    ) {
        fields.insert("typed_extension_protocol_options".to_owned(), options);
    }
    cluster
}
