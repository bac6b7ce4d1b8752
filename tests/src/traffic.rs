//! Requests and responses as a sidecar sees them inside an Istio mesh.

use crate::headers::Headers;
use crate::stream::{Properties, Request, Response};

/// A GET that an application sends to a service, as the caller's sidecar sees it: 12 headers, and the cluster
/// that the route leads to.
#[must_use]
pub fn outbound(host: &str, port: u16) -> Request {
    let headers = Headers::of(&[
        (":authority", host),
        (":path", "/api/v1/orders/4711?expand=items"),
        (":method", "GET"),
        (":scheme", "http"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        ("user-agent", "okhttp/4.12.0"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "0c1c2a4e-7f2b-9a8e-b9a5-5d6a4c0f3e21"),
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "1"),
    ]);
    let properties = Properties::default()
        .with(&["xds", "cluster_name"], format!("outbound|{port}||{host}"))
        .with(&["xds", "listener_direction"], 2i64.to_le_bytes())
        .with(&["destination", "port"], i64::from(port).to_le_bytes());
    Request {
        headers,
        properties,
        body: false,
    }
}

/// The same request as the server's sidecar sees it, at this port of its workload and at this attempt: 12 headers,
/// before anything of Spillway's.
#[must_use]
pub fn inbound(host: &str, port: u16, attempt: u32) -> Request {
    let headers = Headers::of(&[
        (":authority", host),
        (":path", "/api/v1/orders/4711?expand=items"),
        (":method", "GET"),
        (":scheme", "http"),
        ("accept", "application/json"),
        ("user-agent", "okhttp/4.12.0"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "0c1c2a4e-7f2b-9a8e-b9a5-5d6a4c0f3e21"),
        ("x-forwarded-client-cert", "By=spiffe://cluster.local/ns/default/sa/worker;Hash=9b1c;URI=spiffe://cluster.local/ns/default/sa/shop"),
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
    ])
    .with("x-envoy-attempt-count", attempt.to_string());
    let properties = Properties::default()
        .with(&["xds", "cluster_name"], format!("inbound|{port}||"))
        .with(&["xds", "listener_direction"], 1i64.to_le_bytes())
        .with(&["destination", "port"], i64::from(port).to_le_bytes());
    Request {
        headers,
        properties,
        body: false,
    }
}

/// An answer of an application: 8 headers.
#[must_use]
pub fn response(status: u16) -> Response {
    let headers = Headers::default().with(":status", status.to_string());
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "512"),
        ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("server", "istio-envoy"),
        ("x-envoy-upstream-service-time", "7"),
        ("cache-control", "no-store"),
        ("vary", "accept-encoding"),
    ]
    .iter()
    .fold(headers, |headers, (name, value)| headers.with(name, value));
    Response {
        headers,
        properties: Properties::default(),
    }
}
