//! A real Prometheus that scrapes the callers' Envoys.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_e2e::address::{ADMIN_PORT, Block};
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::folder;
use spillway_e2e::process::Process;
use spillway_sim::watcher::{RANGE, SCRAPE};
use tempfile::TempDir;

const PORT: u16 = 9090;

/// How long it may take to start, and to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running Prometheus; it ends when this is dropped, and forgets everything.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    client: HttpClient,
    query: String,
    folder: TempDir,
    _block: Block,
}

impl Prometheus {
    /// Starts one that scrapes Envoys at these addresses.
    pub(crate) async fn start(envoys: &[Ipv4Addr]) -> Result<Self> {
        let mut block = Block::take()?;
        let address = SocketAddr::from((block.next_address()?, PORT));
        let folder = folder::create("spillway-prometheus")?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("prometheus.yml"), configuration(envoys).to_string())?;
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let process = Process::start(
            Path::new("prometheus"),
            &arguments,
            &folder.path().join("prometheus.log"),
        )?;
        let client = HttpClient::new(&Target {
            address,
            host: address.to_string(),
            http2: false,
        });
        // Of all requests that callers send, wherever they go.
        let query = format!(
            "/api/v1/query?query=sum(rate(envoy_http_outbound_0_0_0_0_80_downstream_rq_total%5B{RANGE}s%5D))"
        );
        let mut prometheus = Self {
            process,
            client,
            query,
            folder,
            _block: block,
        };
        prometheus.wait_ready().await?;
        Ok(prometheus)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        let ready = Call::get("/-/ready");
        while !self
            .client
            .call(&ready)
            .await
            .is_ok_and(|answer| answer.status.is_success())
        {
            let log = self.folder.path().join("prometheus.log");
            ensure!(
                self.process.is_running() && begin.elapsed() < DEADLINE,
                "Prometheus does not start: {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Requests a second; `None` while it has too few samples.
    pub(crate) async fn rate(&self) -> Result<Option<f64>> {
        let call = Call::get(&self.query).timeout(DEADLINE);
        let answer = self.client.call(&call).await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let status = answer.get("status").and_then(Value::as_str);
        ensure!(status == Some("success"), "Prometheus says {answer}");
        let value = answer.pointer("/data/result/0/value/1");
        let rate = value.and_then(Value::as_str).map(str::parse).transpose();
        rate.with_context(|| format!("no rate in {answer}"))
    }
}

fn configuration(envoys: &[Ipv4Addr]) -> Value {
    let targets: Vec<_> = envoys
        .iter()
        .map(|envoy| format!("{envoy}:{ADMIN_PORT}"))
        .collect();
    // JSON is YAML.
    json!({"scrape_configs": [{
        "job_name": "envoy",
        "metrics_path": "/stats/prometheus",
        "scrape_interval": format!("{SCRAPE}s"),
        "scrape_timeout": format!("{SCRAPE}s"),
        "static_configs": [{"targets": targets}],
    }]})
}
