//! What is compared: the same clusters, callers and applications, under rules of their own.
//!
//! The primary's two applications serve two requests at a time, 160 ms each: 25/s together, of
//! which the limit of 15/s is three fifths. What is more waits in line; what waits for 2 s is given
//! up by the route's timeout, as most people set one, and leaves the line. The burst cluster has
//! room for everything.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use spillway_e2e::app::{AppOptions, Behaviour};
use spillway_e2e::artefacts;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::{EndpointSpec, OutlierDetection, ProxyOptions, Service};

pub(crate) const PRIMARY: &str = "primary";
pub(crate) const BURST: &str = "burst";

/// The callers, with their shares of the requests.
pub(crate) const CALLERS: [(&str, f64); 2] = [("shop", 2.0), ("desk", 1.0)];

/// Endpoints in the primary.
const ENDPOINTS: u32 = 2;

/// How long a request is served.
const SERVICE: Duration = Duration::from_millis(160);

/// What each of the primary's applications serves at a time.
const WORKERS: usize = 2;

/// When routes give a request up.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// A limit of 15/s, mode Spill.
    Spillway,
    /// Prometheus, and a process that changes the route.
    Watcher,
    /// Envoy's priorities: the primary first, the burst cluster where the primary's endpoints fail.
    Failover,
    /// Four fifths to the primary at any time.
    Weights,
}

impl System {
    pub(crate) const ALL: [Self; 4] =
        [Self::Spillway, Self::Watcher, Self::Failover, Self::Weights];

    /// Its name in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Spillway => "spillway",
            Self::Watcher => "watcher",
            Self::Failover => "failover",
            Self::Weights => "weights",
        }
    }

    /// Its name for readers.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Spillway => "Spillway",
            Self::Watcher => "watcher of Prometheus",
            Self::Failover => "locality failover",
            Self::Weights => "weights 80/20",
        }
    }

    /// Starts a mesh under its rule; a watcher is not yet there.
    pub(crate) async fn start(self) -> Result<Mesh> {
        let service = self.service();
        let primary = EndpointSpec {
            app: application(Some(WORKERS)),
            ..EndpointSpec::new(&service.host, PRIMARY)
        };
        let burst = EndpointSpec {
            app: application(None),
            ..EndpointSpec::new(&service.host, BURST)
        };
        let mut mesh = Mesh::builder()
            .cluster(PRIMARY)
            .cluster(BURST)
            .service(service)
            .proxies(ProxyOptions {
                concurrency: 2,
                access_log: false,
                ..ProxyOptions::default()
            });
        for _ in 0..ENDPOINTS {
            mesh = mesh.endpoint(primary.clone());
        }
        mesh = mesh.endpoint(burst);
        for (caller, _) in CALLERS {
            mesh = mesh.caller(caller, PRIMARY);
        }
        if self == Self::Spillway {
            let policy = Policy::worker(PRIMARY, &[BURST]).total_rate(PRIMARY, "15/s", ENDPOINTS);
            let policies = Policies::for_clusters([PRIMARY, BURST]).policy(policy);
            mesh = mesh.filter(artefacts::filter()?).policies(policies);
        }
        mesh.start().await
    }

    fn service(self) -> Service {
        Service::worker().with(|service| {
            service.rungs = Some(vec![BURST.to_owned()]);
            service.timeout = Some(TIMEOUT);
            service.bounce_headers = self == Self::Spillway;
            // Two of them have no part in what is compared: requests stay where routes lead.
            service.outlier_detection = Some(match self {
                Self::Spillway => OutlierDetection::default(),
                Self::Failover => quick_ejection(),
                Self::Watcher | Self::Weights => OutlierDetection::without_ejections(),
            });
            if self == Self::Weights {
                service.split = vec![
                    ("spillway-home".to_owned(), 80),
                    ("spillway-burst".to_owned(), 20),
                ];
            }
        })
    }
}

/// What a user of locality failover would set who wants it to act on overload: an endpoint leaves
/// after Istio's five failures in a row, timeouts among them; but all of them may, and they are let
/// back after 10 s instead of 30 s, seen each second.
fn quick_ejection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx_errors: Some(5),
        interval: Some(Duration::from_secs(1)),
        base_ejection_time: Some(Duration::from_secs(10)),
        ..OutlierDetection::default()
    }
}

fn application(workers: Option<usize>) -> AppOptions {
    AppOptions {
        behaviour: Behaviour {
            service_time: SERVICE,
            ..Behaviour::default()
        },
        workers,
        keep_headers: false,
    }
}
