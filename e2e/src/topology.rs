//! What a mesh consists of: clusters, services, their endpoints, callers.
//!
//! The names are Istio's and Kubernetes': a *cluster* here is a Kubernetes cluster, an *endpoint*
//! is a pod of the service with its sidecar, a *caller* is a pod whose sidecar sends requests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::app::AppOptions;

/// A Kubernetes cluster of the mesh.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name: Istio's `CLUSTER_ID`.
    pub name: String,
    /// The region that its proxies and endpoints are in.
    pub region: String,
}

/// How requests travel to the service's sidecar, and from there to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, as for a port named `http`.
    Http1,
    /// HTTP/2, as for a port named `http2` or `grpc`.
    Http2,
    /// As the caller's application speaks, as with `useClientProtocol`.
    ClientProtocol,
}

/// A service with its routing, as a DestinationRule and a VirtualService would have it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its host, such as `worker-service.default.svc.cluster.local`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The port of the application as the mesh knows it: in the name `inbound|8080||`.
    pub app_port: u16,
    /// The name of its workload.
    pub workload: String,
    /// The namespace of both.
    pub namespace: String,
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// How requests travel.
    pub protocol: Protocol,
    /// First cluster of the subset `spillway-home`; the caller's own if not named.
    pub home: Option<String>,
    /// The clusters that have a route and a subset `spillway-CLUSTER`; all of the mesh if not named.
    pub rungs: Option<Vec<String>>,
    /// Weights of the subsets to which requests go that no header leads to a rung; all to
    /// `spillway-home` if not given.
    pub split: Vec<(String, u32)>,
    /// After this the routes give a request up, with 504; never if not given.
    pub timeout: Option<Duration>,
    /// Outlier detection of the subsets. Without it Istio writes no priorities: all endpoints are
    /// equal, and nothing falls back.
    pub outlier_detection: Option<OutlierDetection>,
    /// The routes' retries.
    pub retries: Option<Retries>,
    /// Whether the routes set the headers that let Envoy repeat a bounced request.
    pub bounce_headers: bool,
    /// The circuit breaker for retries; unlimited in Istio unless a user lowers it.
    pub max_retries: u32,
    /// Headers of answers that are lost on the way to the callers' sidecars, as behind a proxy that
    /// lets through what it knows.
    pub lost_headers: Vec<String>,
}

impl Service {
    /// `worker-service.default`, port 80, pods `app: worker` with port 8080.
    #[must_use]
    pub fn worker() -> Self {
        Self::named("worker-service", "worker")
    }

    /// A service of the namespace `default`, port 80, pods with the label `app: WORKLOAD` and port
    /// 8080, HTTP/1.1.
    #[must_use]
    pub fn named(name: &str, workload: &str) -> Self {
        Self {
            host: format!("{name}.default.svc.cluster.local"),
            port: 80,
            app_port: 8080,
            workload: workload.to_owned(),
            namespace: "default".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), workload.to_owned())]),
            protocol: Protocol::Http1,
            home: None,
            rungs: None,
            split: Vec::new(),
            timeout: None,
            outlier_detection: Some(OutlierDetection::default()),
            retries: Some(Retries::default()),
            bounce_headers: true,
            max_retries: u32::MAX,
            lost_headers: Vec::new(),
        }
    }

    /// Changes it by a closure.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The name of Envoy's cluster for a subset; `""` is the service without one.
    #[must_use]
    pub fn outbound_cluster(&self, subset: &str) -> String {
        format!("outbound|{}|{subset}|{}", self.port, self.host)
    }
}

/// A DestinationRule's `outlierDetection`; `None` leaves Envoy's default.
#[derive(Clone, Debug)]
pub struct OutlierDetection {
    /// 0 switches these ejections off.
    pub consecutive_5xx_errors: Option<u32>,
    /// 0 switches these ejections off.
    pub consecutive_gateway_errors: Option<u32>,
    /// Time between sweeps.
    pub interval: Option<Duration>,
    /// The first ejection's length.
    pub base_ejection_time: Option<Duration>,
    /// At most so many of a cluster's endpoints, in percent.
    pub max_ejection_percent: Option<u32>,
    /// Below this, Envoy panics and uses unhealthy endpoints as well.
    pub min_health_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx_errors: Some(5),
            consecutive_gateway_errors: None,
            interval: Some(Duration::from_secs(5)),
            base_ejection_time: Some(Duration::from_secs(10)),
            max_ejection_percent: Some(100),
            min_health_percent: 1,
        }
    }
}

impl OutlierDetection {
    /// Priorities without any ejection.
    #[must_use]
    pub fn without_ejections() -> Self {
        Self {
            consecutive_5xx_errors: Some(0),
            consecutive_gateway_errors: Some(0),
            ..Self::default()
        }
    }
}

/// A VirtualService's `retries`.
#[derive(Clone, Debug)]
pub struct Retries {
    /// How often a request is repeated at most.
    pub attempts: u32,
    /// Envoy's conditions.
    pub retry_on: String,
    /// Attempts before the next priority is tried (`retryRemoteLocalities`, for which Istio writes
    /// 2); without it all attempts stay at the priority that load balancing chooses.
    pub update_frequency: Option<u32>,
    /// The base of the back-off.
    pub backoff: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 4,
            retry_on: "connect-failure,refused-stream".to_owned(),
            update_frequency: Some(2),
            backoff: Duration::from_millis(1),
        }
    }
}

/// How a sidecar is run.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Envoy's version.
    pub envoy: String,
    /// Envoy's worker threads.
    pub concurrency: u32,
    /// Whether the mesh's plugin is in this sidecar's listeners.
    pub filter: bool,
    /// Whether Istio's tag extraction (`extraStatTags`) is in the bootstrap.
    pub extra_stat_tags: bool,
    /// Whether requests are written to the access log.
    pub access_log: bool,
    /// Whether endpoints lie in files of their own, as by EDS. Otherwise they stand in Envoy's
    /// clusters, which are replaced when endpoints change. Envoy takes an inotify instance for each
    /// file, of which a user has 128 by default: too few for more than some fifteen callers.
    pub eds: bool,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            envoy: crate::artefacts::default_envoy(),
            concurrency: 1,
            filter: true,
            extra_stat_tags: true,
            access_log: true,
            eds: true,
        }
    }
}

/// An endpoint that is to be started.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// The host of the service.
    pub host: String,
    /// The cluster it runs in.
    pub cluster: String,
    /// Its application.
    pub app: AppOptions,
    /// Its sidecar; as the mesh's if not given.
    pub proxy: Option<ProxyOptions>,
    /// Whether its sidecar has outbound listeners too, since its application calls others.
    pub calls: bool,
}

impl EndpointSpec {
    /// An endpoint of the service `host` in `cluster` with the default application.
    #[must_use]
    pub fn new(host: &str, cluster: &str) -> Self {
        Self {
            host: host.to_owned(),
            cluster: cluster.to_owned(),
            app: AppOptions::default(),
            proxy: None,
            calls: false,
        }
    }
}

/// A caller that is to be started.
#[derive(Clone, Debug)]
pub struct CallerSpec {
    /// Its name, also its workload's.
    pub name: String,
    /// The cluster it runs in.
    pub cluster: String,
    /// Its sidecar; as the mesh's if not given.
    pub proxy: Option<ProxyOptions>,
}

/// An endpoint as discovery hands it out.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) host: String,
    pub(crate) cluster: String,
    pub(crate) address: Ipv4Addr,
}

/// What the control plane knows, from which every sidecar's configuration is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) services: Vec<Service>,
    pub(crate) endpoints: Vec<Announced>,
    pub(crate) tokens: Vec<String>,
}

impl Topology {
    /// The rungs of a service: those named, or every cluster.
    pub(crate) fn rungs(&self, service: &Service) -> Vec<String> {
        service.rungs.clone().unwrap_or_else(|| {
            self.clusters
                .iter()
                .map(|cluster| cluster.name.clone())
                .collect()
        })
    }

    pub(crate) fn region(&self, cluster: &str) -> &str {
        self.clusters
            .iter()
            .find(|known| known.name == cluster)
            .map_or("", |known| known.region.as_str())
    }
}
