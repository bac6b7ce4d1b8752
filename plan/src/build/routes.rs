//! A DestinationRule and a VirtualService per service, and our routes in users' VirtualServices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use spillway_api::burst_policy::{Routing, UserRetries};
use spillway_api::istio::Kind;
use spillway_api::istio::destination_rule::{
    DestinationRuleSpec, PortSelector, PortSettings, Settings, Subset, TrafficPolicy,
};
use spillway_api::istio::virtual_service::{
    Destination, HeaderOperations, Headers, HttpMatch, HttpRoute, Retries, RouteDestination,
    StringMatch, VirtualServiceSpec,
};

use super::Place;
use super::plugins::value;
use crate::model::{Target, Unseen};
use crate::names;
use crate::output::{ControlPlane, Edit, Object};
use crate::text::Text;
use crate::user::destination_rule::{self, Inherited};
use crate::user::merge::{self, Copies, HeaderMatch};
use crate::user::virtual_service;

/// All targets of one service, which share its subsets and routes.
struct Host<'t> {
    targets: Vec<&'t Target>,
    first: &'t Target,
    clients: BTreeSet<&'t str>,
    bounce: bool,
}

impl Host<'_> {
    /// Each rung of any of its policies once.
    fn rungs(&self) -> BTreeMap<&str, &str> {
        let rungs = self.targets.iter().flat_map(|target| &target.rungs);
        rungs
            .map(|rung| (rung.subset.as_str(), rung.cluster.as_str()))
            .collect()
    }

    fn policies(&self) -> BTreeSet<String> {
        let policies = self.targets.iter().map(|target| target.policy.clone());
        policies.collect()
    }

    /// The ports of all of its policies, each once.
    fn ports(&self) -> BTreeSet<u16> {
        let ports = self.targets.iter().flat_map(|target| &target.ports);
        ports.copied().collect()
    }

    fn replaces_retries(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.terms.user_retries == UserRetries::Replace)
    }
}

pub(super) fn write(
    place: &Place<'_, '_>,
    targets: &[Target],
    unseen: &[Unseen],
    bounces: &BTreeMap<&str, bool>,
    control_plane: &mut ControlPlane,
) {
    let mut hosts: BTreeMap<&str, Host<'_>> = BTreeMap::new();
    for target in targets {
        let here = place.observed.namespaces.contains_key(&target.namespace);
        if !target.acts() || !here || !place.has_clients(target) {
            continue;
        }
        let host = hosts.entry(&target.host).or_insert_with(|| Host {
            targets: Vec::new(),
            first: target,
            clients: BTreeSet::new(),
            bounce: false,
        });
        host.targets.push(target);
        host.clients.extend(place.clients(target));
        host.bounce |= bounces.get(target.id.as_str()).copied().unwrap_or(false);
    }
    for host in hosts.values() {
        control_plane.objects.push(rule(place, host));
        if !in_users(place, host) {
            control_plane.objects.push(own(place, host));
        }
    }
    edit(place, &hosts, unseen, control_plane);
}

fn object(host: &Host<'_>, kind: Kind, spec: Value) -> Object {
    Object {
        kind,
        namespace: host.first.namespace.clone(),
        name: names::routes(&host.first.service),
        policies: host.policies(),
        spec: Text::from(&spec),
    }
}

/// Only callers see what is ours. `.` is the object's own namespace.
fn export_to(host: &Host<'_>) -> Vec<String> {
    let own = host.first.namespace.as_str();
    let name = |client: &&str| if *client == own { "." } else { *client }.to_owned();
    host.clients.iter().map(name).collect()
}

fn rule(place: &Place<'_, '_>, host: &Host<'_>) -> Object {
    let mesh = place.world.mesh;
    let inherited = destination_rule::inherited(
        place.observed,
        host.first,
        &mesh.root_namespace,
        &mesh.domain,
    );
    let by_cluster = |cluster: &str| format!("topology.istio.io/cluster={cluster}");
    let home = match &host.first.home {
        Some(home) => by_cluster(home),
        // Without a value: the caller's own.
        None => "topology.istio.io/cluster".to_owned(),
    };
    let subset = |name: &str, first: &str| Subset {
        name: name.to_owned(),
        traffic_policy: traffic_policy(place, host, &inherited, first),
    };
    let mut subsets = vec![subset(names::HOME, &home)];
    for (name, cluster) in host.rungs() {
        subsets.push(subset(name, &by_cluster(cluster)));
    }
    let mut spec = value(&DestinationRuleSpec {
        host: host.first.host.clone(),
        subsets,
        export_to: export_to(host),
    });
    // Istio merges rules only if they are exported to the same namespaces.
    if let (true, Some(fields)) = (inherited.merged, spec.as_object_mut()) {
        match inherited.export_to {
            Some(as_users) => fields.insert("exportTo".to_owned(), as_users.clone()),
            None => fields.remove("exportTo"),
        };
    }
    object(host, Kind::DESTINATION_RULE, spec)
}

fn traffic_policy(
    place: &Place<'_, '_>,
    host: &Host<'_>,
    inherited: &Inherited<'_>,
    first: &str,
) -> TrafficPolicy {
    let ports = host.ports();
    let across = place.world.several_networks;
    let settings = |from: Option<&Value>, kept: bool, sni: Option<u16>| Settings {
        load_balancer: Some(destination_rule::balancer(from, first)),
        outlier_detection: Some(destination_rule::outlier_detection(from)),
        connection_pool: destination_rule::connection_pool(from, kept, host.replaces_retries()),
        tls: tls(from, kept, sni.map(|port| (port, host.first.host.as_str()))),
    };
    let only = ports.iter().next().copied().filter(|_| ports.len() == 1);
    let by_port = |port: u16| {
        let own = inherited.of_port(port);
        let needed = own.is_some() || (across && only.is_none());
        needed.then(|| PortSettings {
            port: PortSelector { number: port },
            settings: settings(own.or(inherited.policy), false, across.then_some(port)),
        })
    };
    TrafficPolicy {
        settings: settings(inherited.policy, inherited.merged, only.filter(|_| across)),
        port_level_settings: ports.iter().copied().filter_map(by_port).collect(),
    }
}

/// Across networks the gateway there finds the service by the name in the handshake. By default
/// that has the subset in it, which the other side would have to know.
fn tls(from: Option<&Value>, kept: bool, sni: Option<(u16, &str)>) -> Option<Value> {
    let users = from.and_then(|settings| settings.get("tls"));
    let mutual = users.is_none_or(|tls| tls.get("mode").is_some_and(|m| m == "ISTIO_MUTUAL"));
    match sni {
        Some((port, host)) if mutual => {
            Some(json!({"mode": "ISTIO_MUTUAL", "sni": format!("outbound_.{port}_._.{host}")}))
        }
        _ => users.filter(|_| !kept).cloned(),
    }
}

/// `RUNG;TOKEN;` for every token.
fn prefixes(place: &Place<'_, '_>, cluster: &str) -> Vec<String> {
    let tokens = place.world.mesh.tokens.iter();
    tokens.map(|token| format!("{cluster};{token};")).collect()
}

fn headers() -> [(&'static str, &'static str); 2] {
    [
        ("x-envoy-retry-on", "retriable-headers"),
        (
            "x-envoy-retriable-header-names",
            spillway_core::header::BOUNCE,
        ),
    ]
}

fn retries() -> Retries {
    Retries {
        attempts: spillway_core::ATTEMPTS,
        retry_on: "connect-failure,refused-stream".to_owned(),
        retry_remote_localities: true,
        backoff: "1ms".to_owned(),
    }
}

/// A VirtualService of our own.
fn own(place: &Place<'_, '_>, host: &Host<'_>) -> Object {
    let route = |name: &str, matches: Vec<HttpMatch>, subset: Option<&str>| HttpRoute {
        name: name.to_owned(),
        r#match: matches,
        headers: host.bounce.then(|| Headers {
            request: HeaderOperations {
                set: headers()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            },
        }),
        retries: host.bounce.then(retries),
        route: vec![RouteDestination {
            destination: Destination {
                host: host.first.host.clone(),
                subset: subset.map(str::to_owned),
            },
        }],
    };
    let mut http = Vec::new();
    for (subset, cluster) in host.rungs() {
        let matches = prefixes(place, cluster)
            .into_iter()
            .map(|prefix| HttpMatch {
                headers: [(
                    spillway_core::header::HOP.to_owned(),
                    StringMatch::Prefix(prefix),
                )]
                .into(),
                port: None,
            });
        http.push(route(subset, matches.collect(), Some(subset)));
    }
    if host.targets.iter().any(|target| target.all_ports) {
        http.push(route(names::HOME, Vec::new(), Some(names::HOME)));
    } else {
        let matches = host.ports().into_iter().map(|port| HttpMatch {
            headers: BTreeMap::new(),
            port: Some(port),
        });
        http.push(route(names::HOME, matches.collect(), Some(names::HOME)));
        // Ports that no policy is about, as if there were no VirtualService.
        http.push(HttpRoute {
            headers: None,
            retries: None,
            ..route("spillway-other-ports", Vec::new(), None)
        });
    }
    let spec = VirtualServiceSpec {
        hosts: vec![host.first.host.clone()],
        http,
        export_to: export_to(host),
    };
    object(host, Kind::VIRTUAL_SERVICE, value(&spec))
}

/// Whether sidecars take a user's VirtualService for the host.
fn in_users(place: &Place<'_, '_>, host: &Host<'_>) -> bool {
    let clients = host.clients.iter().map(|c| (*c).to_owned()).collect();
    virtual_service::about(
        place.observed,
        &host.first.host,
        &clients,
        &place.world.mesh.domain,
    )
    .iter()
    .any(|found| found.owns_host)
}

/// Puts our routes into users' VirtualServices, and takes those out that are not wanted any more.
fn edit(
    place: &Place<'_, '_>,
    hosts: &BTreeMap<&str, Host<'_>>,
    unseen: &[Unseen],
    control_plane: &mut ControlPlane,
) {
    let domain = &place.world.mesh.domain;
    for user in &place.observed.virtual_services {
        let identity = crate::user::identity(user);
        // Whether routes of ours are wanted in it is not known now.
        let held = unseen.iter().any(|service| {
            let host = names::host(&service.namespace, &service.service, domain);
            virtual_service::leads_to(user, &host, domain)
        });
        if held {
            continue;
        }
        let wanting = |host: &&Host<'_>| {
            let clients = host.clients.iter().map(|c| (*c).to_owned()).collect();
            host.first.terms.routing == Routing::Merge
                && virtual_service::about(place.observed, &host.first.host, &clients, domain)
                    .iter()
                    .any(|found| crate::user::identity(found.value) == identity && found.leads)
        };
        let wanting: Vec<&Host<'_>> = hosts.values().filter(wanting).collect();
        if wanting.is_empty() && !merge::is_merged(user) {
            continue;
        }
        let copies: Vec<Copies> = wanting.iter().map(|host| copies(place, host)).collect();
        control_plane.edits.push(Edit {
            after: merge::merge(user, &copies, domain),
            before: user.clone(),
            policies: wanting.iter().flat_map(|host| host.policies()).collect(),
        });
    }
}

fn copies(place: &Place<'_, '_>, host: &Host<'_>) -> Copies {
    let mut subsets: Vec<(String, HeaderMatch)> = host
        .rungs()
        .into_iter()
        .map(|(subset, cluster)| {
            let prefixes = HeaderMatch::Prefixes(prefixes(place, cluster));
            (subset.to_owned(), prefixes)
        })
        .collect();
    let home = match &host.first.home {
        Some(home) => HeaderMatch::Prefixes(prefixes(place, home)),
        // Whatever the caller's own cluster is; the rungs stand before it.
        None => HeaderMatch::Regexes(
            place
                .world
                .mesh
                .tokens
                .iter()
                .map(|token| format!("[^;]+;{token};.*"))
                .collect(),
        ),
    };
    subsets.push((names::HOME.to_owned(), home));
    Copies {
        host: host.first.host.clone(),
        subsets,
        retries: host.bounce.then(|| merge::Retries {
            retries: value(&retries()),
            headers: headers().to_vec(),
        }),
    }
}
