//! Listeners of a sidecar, as istiod makes them, but for interception: the outbound listener is
//! where a caller sends its requests, and the inbound one stands at the pod's own address.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::address;
use crate::policy::Side;
use crate::topology::Service;

/// What is alike in all listeners of a sidecar.
pub(crate) struct Context<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) address: Ipv4Addr,
    pub(crate) filter: bool,
    pub(crate) access_log: bool,
}

/// The listener for requests to services of this port.
pub(crate) fn outbound(context: &Context<'_>, port: u16) -> Value {
    let routes = json!({"rds": {
        "route_config_name": port.to_string(),
        "config_source": file_source(context.folder, &route_file(port)),
    }});
    listener(
        context,
        &format!("0.0.0.0_{port}"),
        "OUTBOUND",
        address::outbound_port(port),
        connection_manager(
            context,
            Side::Client,
            &format!("outbound_0.0.0.0_{port}"),
            &routes,
        ),
    )
}

/// The listener in front of the application.
pub(crate) fn inbound(context: &Context<'_>, service: &Service) -> Value {
    let port = service.app_port;
    let routes = json!({"route_config": {
        "name": format!("inbound|{port}||"),
        "validate_clusters": false,
        "virtual_hosts": [{
            "name": format!("inbound|http|{}", service.port),
            "domains": ["*"],
            "routes": [{
                "name": "default",
                "match": {"prefix": "/"},
                "route": {
                    "cluster": format!("inbound|{port}||"),
                    "timeout": "0s",
                    "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
                },
                "decorator": {"operation": format!("{}:{}/*", service.host, service.port)},
            }],
        }],
    }});
    listener(
        context,
        "virtualInbound",
        "INBOUND",
        port,
        connection_manager(
            context,
            Side::Server,
            &format!("inbound_0.0.0.0_{port}"),
            &routes,
        ),
    )
}

fn listener(
    context: &Context<'_>,
    name: &str,
    direction: &str,
    port: u16,
    manager: Value,
) -> Value {
    json!({
        "name": name,
        "traffic_direction": direction,
        "address": {"socket_address": {
            "address": context.address.to_string(),
            "port_value": port,
        }},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    })
}

fn connection_manager(
    context: &Context<'_>,
    side: Side,
    stat_prefix: &str,
    routes: &Value,
) -> Value {
    let mut filters = Vec::new();
    if context.filter {
        filters.push(json!({
            "name": side.plugin(),
            "config_discovery": {
                "config_source": file_source(context.folder, &plugin_file(side)),
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            },
        }));
    }
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "AUTO",
        "stat_prefix": stat_prefix,
        "http_filters": filters,
        "use_remote_address": false,
        "generate_request_id": true,
        "server_name": "istio-envoy",
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    });
    if let (Some(manager), Some(routes)) = (manager.as_object_mut(), routes.as_object()) {
        manager.extend(routes.clone());
        if context.access_log {
            manager.insert(
                "access_log".to_owned(),
                json!([access_log(context.folder, side)]),
            );
        }
    }
    manager
}

/// The file that both listeners write, one JSON object a line.
pub(crate) const ACCESS_LOG: &str = "access.log";

fn access_log(folder: &Path, side: Side) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": folder.join(ACCESS_LOG),
            "log_format": {"json_format": {
                "side": side,
                "start": "%START_TIME(%s.%6f)%",
                "method": "%REQ(:METHOD)%",
                "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
                "requestId": "%REQ(X-REQUEST-ID)%",
                "status": "%RESPONSE_CODE%",
                "details": "%RESPONSE_CODE_DETAILS%",
                "flags": "%RESPONSE_FLAGS%",
                "route": "%ROUTE_NAME%",
                "upstreamCluster": "%UPSTREAM_CLUSTER_RAW%",
                "upstreamHost": "%UPSTREAM_HOST%",
                "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                "durationMillis": "%DURATION%",
                "reason": "%FILTER_STATE(wasm.spillway.reason:PLAIN)%",
            }},
        },
    })
}

pub(crate) fn route_file(port: u16) -> String {
    format!("rds-{port}.json")
}

pub(crate) fn plugin_file(side: Side) -> String {
    format!("ecds-{}.json", side.plugin())
}

/// A source of configuration that is a file. Envoy reads it again when another file is renamed to
/// it, and at no other time.
pub(crate) fn file_source(folder: &Path, name: &str) -> Value {
    json!({
        "path_config_source": {"path": folder.join(name)},
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
    })
}

/// The plugin, as a WasmPlugin becomes.
pub(crate) fn plugin(side: Side, code: &Path, configuration: &Configuration) -> Value {
    let configuration = match configuration {
        Configuration::Text(text) => json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": text,
        }),
        Configuration::Bytes(bytes) => json!({
            "@type": "type.googleapis.com/google.protobuf.BytesValue",
            "value": base64(bytes),
        }),
    };
    json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": side.plugin(),
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": side.plugin(),
                "root_id": side.plugin(),
                "failure_policy": "FAIL_OPEN",
                "vm_config": {
                    "vm_id": "",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": code}},
                },
                "configuration": configuration,
            },
        },
    })
}

/// What a plugin is given as its configuration.
#[derive(Clone, Debug)]
pub enum Configuration {
    /// A `StringValue`, as istiod sends.
    Text(String),
    /// A `BytesValue`, for what is no text at all.
    Bytes(Vec<u8>),
}

/// The standard alphabet with padding (RFC 4648), which protobuf's JSON form wants for bytes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) & 63;
            let letter = ALPHABET
                .get(sextet as usize)
                .filter(|_| place <= chunk.len());
            out.push(char::from(letter.copied().unwrap_or(b'=')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[255, 254, 253]), "//79");
    }
}
