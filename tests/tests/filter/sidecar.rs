//! What the tests share: configurations, and sidecars with one VM.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_tests::time::pass_time;
use spillway_tests::{
    Answer, Clock, Filter, Headers, Outcome, PluginId, Proxy, Request, Response, Vm, traffic,
};

/// The service that overflows.
pub(crate) const HOST: &str = "worker-service.default.svc.cluster.local";
/// What one endpoint that serves 15/s admits at once: B = 3 + 12, less the tolerance for delivery.
pub(crate) const BURST: usize = 14;
/// The token that is sent.
pub(crate) const TOKEN: &str = "mesh-token-1";

/// The filter, compiled once.
pub(crate) fn filter() -> &'static Filter {
    static FILTER: OnceLock<Filter> = OnceLock::new();
    FILTER.get_or_init(|| Filter::load().unwrap())
}

/// A configuration for one side, changed.
pub(crate) fn document(side: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut document = json!({
        "version": 1,
        "generation": 7,
        "side": side,
        "tokens": [TOKEN, "mesh-token-0"],
        "clusters": {
            "primary": {"prefix": ""},
            "burst": {"prefix": "bursty-"},
            "third": {"prefix": "third-"},
        },
        "policies": [{
            "id": "worker",
            "name": "default/worker",
            "destinations": [{"host": HOST, "ports": [80]}],
            "workload": {"labels": {"app": "worker"}, "ports": [8080]},
            "home": "primary",
            "overflow": [{"cluster": "burst"}],
            "capacity": {
                "primary": {"total": {"rate": "15/s"}},
                "burst": {"total": {"rate": "15/s"}},
            },
        }],
    });
    change(&mut document);
    document.to_string()
}

/// The same with its one policy changed.
pub(crate) fn policy(side: &str, change: impl FnOnce(&mut Value)) -> String {
    document(side, |document| change(&mut document["policies"][0]))
}

/// As it is, for the caller's side.
pub(crate) fn client() -> String {
    document("Client", |_| ())
}

/// As it is, for the server's side.
pub(crate) fn server() -> String {
    document("Server", |_| ())
}

/// A proxy with one worker thread and one plugin.
pub(crate) struct Sidecar {
    pub(crate) proxy: Proxy,
    pub(crate) vm: Vm,
    pub(crate) plugin: PluginId,
}

impl Sidecar {
    /// Of a pod of the service, in this cluster.
    pub(crate) fn start(cluster: &str, document: &str) -> Sidecar {
        Sidecar::of(
            &Proxy::new(&Clock::default(), cluster, &[("app", "worker")]),
            document,
        )
    }

    /// One more worker thread of this proxy.
    pub(crate) fn of(proxy: &Proxy, document: &str) -> Sidecar {
        let mut vm = Vm::start(filter(), proxy).unwrap();
        let plugin = vm.configure(document).unwrap();
        Sidecar {
            proxy: proxy.clone(),
            vm,
            plugin,
        }
    }

    /// The headers with which a request goes on; the stream ends after an answer.
    pub(crate) fn forward(&mut self, request: &Request) -> Headers {
        let response = traffic::response(200);
        self.exchange(request, &response).0.forwarded().unwrap()
    }

    /// What becomes of the request, and the headers that reach downstream.
    pub(crate) fn exchange(
        &mut self,
        request: &Request,
        response: &Response,
    ) -> (Outcome, Headers) {
        self.vm.exchange(self.plugin, request, response).unwrap()
    }

    /// The headers of the response that reach downstream.
    pub(crate) fn answer(&mut self, request: &Request, response: &Response) -> Headers {
        self.exchange(request, response).1
    }

    /// The filter's own answer, if it gave one.
    pub(crate) fn refused(&mut self, request: &Request) -> Option<Answer> {
        self.exchange(request, &traffic::response(200))
            .0
            .answered()
            .ok()
    }

    /// Sends a request whose answer comes from the cluster that it was sent to, by the route that leads there;
    /// `loads` says which loads the clusters report. Gives the parts of its header.
    pub(crate) fn send(&mut self, request: &Request, loads: &[(&str, u32)]) -> Vec<String> {
        let (stream, outcome) = self.vm.open(self.plugin, request).unwrap();
        let parts = hop(&outcome.forwarded().unwrap());
        self.vm.respond(stream, &served(&parts, loads)).unwrap();
        self.vm.close(stream).unwrap();
        parts
    }

    /// The same with `count` plain requests.
    pub(crate) fn send_many(&mut self, count: usize, loads: &[(&str, u32)]) -> Vec<Vec<String>> {
        (0..count).map(|_| self.send(&outbound(), loads)).collect()
    }

    /// How many of so many requests with this header the gate lets through at once.
    pub(crate) fn admitted(&mut self, hop: &str, requests: usize) -> usize {
        (0..requests)
            .filter(|_| self.refused(&inbound(hop)).is_none())
            .count()
    }

    /// A new configuration for the same plugin.
    pub(crate) fn reconfigure(&mut self, document: &str) {
        self.plugin = self.vm.reconfigure(self.plugin, document).unwrap();
    }

    /// Time goes by, with its ticks.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        let clock = self.proxy.clock().clone();
        pass_time(
            &clock,
            &mut [&mut self.vm],
            Duration::from_millis(milliseconds),
        )
        .unwrap();
    }

    /// A metric of the policy with these further labels, as `name` or `name{label=value}`.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let labels: Vec<String> = labels
            .iter()
            .map(|(l, v)| format!("{l}=.={v};.;"))
            .collect();
        let mut parts: Vec<&str> = labels.iter().map(String::as_str).collect();
        let name = format!("{name}.");
        parts.push(&name);
        self.proxy.metric_sum(&parts)
    }
}

/// A request to the service, as its caller's sidecar sees it.
pub(crate) fn outbound() -> Request {
    traffic::outbound(HOST, 80)
}

/// A request to the service with this Spillway header, as the service's sidecar sees its first attempt.
pub(crate) fn inbound(hop: &str) -> Request {
    attempt(hop, 1)
}

/// The same at a later attempt.
pub(crate) fn attempt(hop: &str, count: u32) -> Request {
    let mut request = traffic::inbound(HOST, 8080, count);
    request.headers = request.headers.with("x-spillway", hop);
    request
}

/// A request of a caller that has no filter.
pub(crate) fn stranger() -> Request {
    traffic::inbound(HOST, 8080, 1)
}

/// A response with these headers as well.
pub(crate) fn response_with(headers: &[(&str, &str)]) -> Response {
    let mut response = traffic::response(200);
    for (name, value) in headers {
        response.headers = response.headers.with(name, value);
    }
    response
}

/// The header of a plain request to home, of one that spilled, and of one that came home because all
/// else is full.
pub(crate) const HOME: &str = "primary;mesh-token-1;primary;worker;1;b";
pub(crate) const SPILLED: &str = "burst;mesh-token-1;primary;worker;1;b";
pub(crate) const RETURNED: &str = "primary;mesh-token-1;primary;worker;1;h";

/// The parts of a Spillway header: target, token, home, policy, echo, flags.
pub(crate) fn hop(headers: &Headers) -> Vec<String> {
    let value = headers.only("x-spillway").expect("one x-spillway header");
    let parts: Vec<String> = value.split(';').map(str::to_owned).collect();
    assert_eq!(parts.len(), 6, "{value}");
    parts
}

/// The answer of the cluster that a request with this header was sent to.
fn served(hop: &[String], loads: &[(&str, u32)]) -> Response {
    let (target, home) = (hop[0].as_str(), hop[2].as_str());
    let subset = if target == home { "home" } else { target };
    let mut response = match loads.iter().find(|(cluster, _)| *cluster == target) {
        Some((cluster, rho)) => load(cluster, *rho, 1),
        None => traffic::response(200),
    };
    let envoy_cluster = format!("outbound|80|spillway-{subset}|{HOST}");
    response.properties = response
        .properties
        .with(&["xds", "cluster_name"], envoy_cluster);
    response
}

/// How many of these were sent to the cluster.
pub(crate) fn to(sent: &[Vec<String>], cluster: &str) -> usize {
    sent.iter().filter(|parts| parts[0] == cluster).count()
}

/// What the caller hears from a cluster.
pub(crate) fn load(cluster: &str, rho_milli: u32, attempt: u32) -> Response {
    response_with(&[(
        "x-spillway-load",
        &format!("{cluster};{rho_milli};{attempt}"),
    )])
}
