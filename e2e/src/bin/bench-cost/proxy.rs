//! One Envoy with the connection managers of a sidecar for each side.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::process::Process;
use spillway_e2e::sidecar::DEADLINE;

use crate::scene::Scene;
use crate::variant::Variant;

const ADMIN_PORT: u16 = 15000;
const SERVICE: &str = "worker-service.default.svc.cluster.local";

/// A running Envoy; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    variant: Variant,
    address: Ipv4Addr,
}

impl Proxy {
    pub(crate) async fn start(
        variant: Variant,
        address: Ipv4Addr,
        upstream: SocketAddr,
        folder: &Path,
        workers: usize,
    ) -> Result<Self> {
        let bootstrap = folder.join(format!("{address}.json"));
        let log = bootstrap.with_extension("log");
        std::fs::write(
            &bootstrap,
            document(&variant, address, upstream).to_string(),
        )?;
        let arguments = [
            "-c",
            &bootstrap.to_string_lossy(),
            "--concurrency",
            &workers.to_string(),
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ];
        let envoy = artefacts::envoy(&artefacts::default_envoy())?;
        let process = Process::start(&envoy, &arguments.map(ToOwned::to_owned), &log)?;
        let mut proxy = Self {
            process,
            variant,
            address,
        };
        proxy.wait_ready().await.with_context(|| {
            format!("log: {}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(proxy)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let address = SocketAddr::from((self.address, ADMIN_PORT));
        let admin = HttpClient::new(&Target {
            address,
            host: address.to_string(),
            http2: false,
        });
        let name = self.variant.name().to_owned();
        let begin = Instant::now();
        loop {
            ensure!(self.process.is_running(), "{name} ended");
            let answer = admin.call(&Call::get("/ready")).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            ensure!(begin.elapsed() < DEADLINE, "{name} is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn variant(&self) -> &Variant {
        &self.variant
    }

    /// Where requests of this scene are sent.
    pub(crate) fn listener(&self, scene: Scene) -> SocketAddr {
        (self.address, port(scene)).into()
    }

    /// User and system time of all its threads.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        Ok(self.threads()?.iter().map(|(_, time)| *time).sum())
    }

    /// The names of its threads and their user and system time, to the nanosecond: what
    /// `/proc/PID/stat` gives is the same to 10 ms.
    pub(crate) fn threads(&self) -> Result<Vec<(String, Duration)>> {
        let mut threads = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let task = task?.path();
            let read = |file| std::fs::read_to_string(task.join(file));
            // A thread that has ended meanwhile.
            let (Ok(name), Ok(line)) = (read("comm"), read("schedstat")) else {
                continue;
            };
            let on_cpu = line
                .split_whitespace()
                .next()
                .context("an empty schedstat")?;
            let time = Duration::from_nanos(on_cpu.parse()?);
            threads.push((name.trim().to_owned(), time));
        }
        Ok(threads)
    }

    /// The value of a gauge in each of its forms, from the admin listener.
    pub(crate) async fn gauges(&self, name: &str) -> Result<Vec<u64>> {
        let address = SocketAddr::from((self.address, ADMIN_PORT));
        let admin = HttpClient::new(&Target {
            address,
            host: address.to_string(),
            http2: false,
        });
        let answer = admin
            .call(&Call::get(&format!("/stats?filter={name}")))
            .await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let values = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(values.filter_map(|(_, value)| value.parse().ok()).collect())
    }

    /// Resident memory in MiB.
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    pub(crate) fn memory(&self) -> Result<f64> {
        Ok(self.process.resident_memory()? as f64 / f64::from(1 << 20))
    }
}

fn port(scene: Scene) -> u16 {
    match scene {
        Scene::CallerHome | Scene::CallerHomeQuiet => 15001,
        Scene::ServerBelow => 15006,
        Scene::ServerBounce => 15007,
    }
}

fn document(variant: &Variant, address: Ipv4Addr, upstream: SocketAddr) -> Value {
    let scenes = [Scene::CallerHome, Scene::ServerBelow, Scene::ServerBounce];
    let listeners = scenes.iter().filter_map(|scene| {
        let filters = variant.filters(*scene)?;
        Some(listener(*scene, address, filters))
    });
    json!({
        "node": {
            "id": format!("sidecar~{address}~worker.default~default.svc.cluster.local"),
            "cluster": "worker.default",
            "metadata": {
                "CLUSTER_ID": "primary",
                "LABELS": {"app": "worker"},
                "NAMESPACE": "default",
                "WORKLOAD_NAME": "worker",
            },
        },
        "admin": {"address": socket(address, ADMIN_PORT)},
        "stats_config": {"use_all_default_tags": false},
        "static_resources": {
            "listeners": listeners.collect::<Vec<_>>(),
            "clusters": [
                cluster(&outbound("spillway-home"), upstream),
                cluster(&outbound("spillway-burst"), upstream),
                cluster("inbound|8080||", upstream),
            ],
        },
    })
}

fn outbound(subset: &str) -> String {
    format!("outbound|80|{subset}|{SERVICE}")
}

fn socket(address: Ipv4Addr, port: u16) -> Value {
    json!({"socket_address": {"address": address.to_string(), "port_value": port}})
}

fn cluster(name: &str, upstream: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": upstream.ip().to_string(),
                "port_value": upstream.port(),
            }}}}]}],
        },
    })
}

/// As istiod writes it, but for the filters of Istio's own, which cost every variant the same.
fn listener(scene: Scene, address: Ipv4Addr, filters: &[Value]) -> Value {
    let caller = scene == Scene::CallerHome;
    let mut filters = filters.to_vec();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let hosts = if caller {
        json!([{
            "name": format!("{SERVICE}:80"),
            "domains": [SERVICE],
            "include_request_attempt_count": true,
            "routes": [
                route(&outbound("spillway-burst"), json!({"prefix": "/", "headers": [{
                    "name": "x-spillway",
                    "string_match": {"prefix": "burst;mesh-token-1;"},
                }]})),
                route(&outbound("spillway-home"), json!({"prefix": "/"})),
            ],
        }])
    } else {
        json!([{
            "name": "inbound|http|80",
            "domains": ["*"],
            "routes": [route("inbound|8080||", json!({"prefix": "/"}))],
        }])
    };
    let name = scene.name();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": filters,
        "use_remote_address": false,
        "generate_request_id": true,
        "server_name": "istio-envoy",
        "normalize_path": true,
        "stream_idle_timeout": "0s",
        "route_config": {"name": name, "virtual_hosts": hosts},
    });
    json!({
        "name": name,
        "traffic_direction": if caller { "OUTBOUND" } else { "INBOUND" },
        "address": socket(address, port(scene)),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    })
}

fn route(cluster: &str, matched: Value) -> Value {
    json!({"match": matched, "route": {"cluster": cluster, "timeout": "0s"}})
}
