//! The service of a policy: whether it can overflow, and on which ports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::Reason;
use crate::conditions::{Status, some};
use crate::model::Workload;
use crate::names;
use crate::world::{Site, World};

/// What a cluster has under a service's name.
pub(crate) enum Standing<'a> {
    /// Nobody knows.
    Unseen,
    /// Nothing.
    Absent,
    /// A service that cannot overflow.
    Unfit(String),
    /// A service that can.
    Fit(&'a Service),
}

pub(crate) fn standing<'a>(
    world: &World<'_>,
    site: &Site<'a>,
    namespace: &str,
    name: &str,
) -> Standing<'a> {
    let Some(observed) = site.observed else {
        return Standing::Unseen;
    };
    let Some(service) = site.service(namespace, name) else {
        return Standing::Absent;
    };
    let spec = service.spec.as_ref();
    let unfit = |why: &str| {
        Standing::Unfit(format!(
            "the Service {namespace}/{name} in {} {why}",
            site.name
        ))
    };
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return unfit(
            "is an ExternalName: its requests leave the mesh; target a Service with pods",
        );
    }
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        return unfit(
            "is headless: its callers choose pods by themselves; target a Service with a cluster IP",
        );
    }
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        return unfit("has no selector: its limit is held in its pods' sidecars; give it one");
    };
    let labels = observed.namespaces.get(namespace);
    match membership(labels, selector, world.mesh.inject_by_default) {
        Membership::Ambient => {
            return unfit("is in an ambient namespace: only sidecars are served yet");
        }
        Membership::Outside => {
            return unfit(
                "is outside the mesh: label its namespace istio-injection=enabled, or istio.io/rev, and restart its pods",
            );
        }
        Membership::Inside => {}
    }
    let host = names::host(namespace, name, &world.mesh.domain);
    if observed
        .service_entries
        .iter()
        .any(|entry| by_dns(entry, &host))
    {
        return unfit(
            "has a ServiceEntry that resolves it by DNS: locality failover for it crashes istiod; resolve it STATIC",
        );
    }
    Standing::Fit(service)
}

enum Membership {
    Inside,
    Ambient,
    Outside,
}

/// Whether pods of a namespace get sidecars.
fn membership(
    labels: Option<&BTreeMap<String, String>>,
    selector: &BTreeMap<String, String>,
    by_default: bool,
) -> Membership {
    let label = |name: &str| {
        labels
            .and_then(|labels| labels.get(name))
            .map(String::as_str)
    };
    let pods = selector.get("sidecar.istio.io/inject").map(String::as_str);
    match (label("istio-injection"), pods) {
        (Some("disabled"), _) | (_, Some("false")) => Membership::Outside,
        (Some("enabled"), _) | (_, Some("true")) => Membership::Inside,
        _ if label("istio.io/rev").is_some() => Membership::Inside,
        _ if label("istio.io/dataplane-mode") == Some("ambient") => Membership::Ambient,
        _ if by_default => Membership::Inside,
        _ => Membership::Outside,
    }
}

fn by_dns(entry: &Value, host: &str) -> bool {
    let dns = entry
        .pointer("/spec/resolution")
        .and_then(Value::as_str)
        .is_some_and(|resolution| resolution.starts_with("DNS"));
    let hosts = entry.pointer("/spec/hosts").and_then(Value::as_array);
    dns && hosts.is_some_and(|hosts| hosts.iter().any(|known| known == host))
}

/// The service as home has it, and where that is; without a home, as the first cluster has it that
/// has one that can overflow.
pub(super) fn find<'w, 'a>(
    world: &'w World<'a>,
    home: Option<&'w Site<'a>>,
    namespace: &str,
    name: &str,
) -> Result<(&'w Site<'a>, &'a Service), Reason> {
    let mut unseen = Vec::new();
    let mut unfit = None;
    let homes = world
        .sites
        .values()
        .filter(|site| home.is_none_or(|home| home.name == site.name));
    for site in homes {
        match standing(world, site, namespace, name) {
            Standing::Unseen => unseen.push(site.name),
            Standing::Absent => {}
            Standing::Unfit(why) => unfit = unfit.or(Some(why)),
            Standing::Fit(service) => return Ok((site, service)),
        }
    }
    if let Some(why) = unfit {
        return Err(Reason::refused("ServiceNotFit", why));
    }
    if unseen.is_empty() {
        return Err(Reason::refused(
            "ServiceNotFound",
            match home {
                Some(home) => format!("home {} has no Service {namespace}/{name}", home.name),
                None => format!("no cluster has a Service {namespace}/{name}"),
            },
        ));
    }
    // What home's service looks like while home is away, other clusters tell.
    let elsewhere =
        world
            .sites
            .values()
            .find_map(|site| match standing(world, site, namespace, name) {
                Standing::Fit(service) => Some((site, service)),
                _ => None,
            });
    elsewhere.ok_or_else(|| Reason {
        status: Status::Unknown,
        reason: "ServiceNotSeen",
        message: format!(
            "the Service {namespace}/{name} was not seen, and {} not reached yet; what is deployed stays",
            some(unseen)
        ),
    })
}

/// The ports of a policy.
pub(super) struct Ports {
    pub(super) covered: Vec<u16>,
    /// These are all that speak HTTP.
    pub(super) all: bool,
}

pub(super) fn ports(service: &Service, name: &str, section: Option<&str>) -> Result<Ports, Reason> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let http: Vec<&ServicePort> = ports.iter().filter(|port| speaks_http(port)).collect();
    let covered: Vec<&ServicePort> = match section {
        None => http.clone(),
        Some(section) => ports
            .iter()
            .filter(|port| port.name.as_deref() == Some(section))
            .collect(),
    };
    let refused = |message: String| Err(Reason::refused("NoHttpPort", message));
    match (covered.first(), section) {
        (None, Some(section)) => {
            return refused(format!(
                "the Service {name} has no port named {section}: write one of its ports' names"
            ));
        }
        (Some(port), Some(section)) if !speaks_http(port) => {
            return refused(format!(
                "port {section} of the Service {name} does not speak HTTP: name it http-…, http2-… or grpc-…, or set appProtocol"
            ));
        }
        (None, None) => {
            return refused(format!(
                "no port of the Service {name} speaks HTTP: name one http-…, http2-… or grpc-…, or set appProtocol"
            ));
        }
        _ => {}
    }
    let numbers = |ports: &[&ServicePort]| -> Vec<u16> {
        ports
            .iter()
            .filter_map(|port| u16::try_from(port.port).ok())
            .collect()
    };
    Ok(Ports {
        all: covered.len() == http.len(),
        covered: numbers(&covered),
    })
}

/// As Istio selects protocols: by `appProtocol`, else by the name up to the first dash; a port
/// that says nothing is looked into, and may speak HTTP.
pub(crate) fn speaks_http(port: &ServicePort) -> bool {
    if port.protocol.as_deref().is_some_and(|p| p != "TCP") {
        return false;
    }
    if let Some(protocol) = port.app_protocol.as_deref() {
        return matches!(
            protocol.to_ascii_lowercase().as_str(),
            "http" | "http2" | "grpc" | "grpc-web" | "kubernetes.io/h2c" | "kubernetes.io/ws"
        );
    }
    let name = port.name.as_deref().unwrap_or_default();
    let kind = name.split('-').next().unwrap_or_default();
    !matches!(
        kind,
        "tcp" | "tls" | "https" | "udp" | "mongo" | "mysql" | "redis"
    )
}

/// The pods of a service, and the ports on which they listen for ports of the service.
pub(crate) fn workload(
    site: &Site<'_>,
    namespace: &str,
    service: &Service,
    ports: &[u16],
) -> Workload {
    let spec = service.spec.as_ref();
    Workload {
        labels: spec
            .and_then(|spec| spec.selector.clone())
            .unwrap_or_default(),
        // A name that was not resolved yet leaves all ports, which is what no ports mean.
        ports: target_ports(site, namespace, service, ports).unwrap_or_default(),
    }
}

fn target_ports(
    site: &Site<'_>,
    namespace: &str,
    service: &Service,
    ports: &[u16],
) -> Option<Vec<u16>> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let endpoints = site
        .observed
        .and_then(|seen| seen.endpoints.get(&format!("{namespace}/{name}")));
    let spec = service.spec.as_ref()?;
    let covered = |port: &&ServicePort| ports.iter().any(|known| i32::from(*known) == port.port);
    let listens = |port: &ServicePort| match &port.target_port {
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(_)) => {
            let port_name = port.name.as_deref().unwrap_or_default();
            endpoints?.ports.get(port_name).copied()
        }
        None => u16::try_from(port.port).ok(),
    };
    let all = spec.ports.as_deref().unwrap_or_default();
    all.iter().filter(covered).map(listens).collect()
}
