//! A real Prometheus that scrapes the callers' Envoys.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_e2e::address::{ADMIN_PORT, Block};
use spillway_e2e::client::Call;
use spillway_e2e::prometheus;
use spillway_sim::watcher::{RANGE, SCRAPE};

const PORT: u16 = 9090;

/// How long it may take to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running Prometheus; it ends when this is dropped, and forgets everything.
#[derive(Debug)]
pub(crate) struct Prometheus {
    prometheus: prometheus::Prometheus,
    query: String,
    _block: Block,
}

impl Prometheus {
    /// Starts one that scrapes Envoys at these addresses.
    pub(crate) async fn start(envoys: &[Ipv4Addr]) -> Result<Self> {
        let mut block = Block::take()?;
        let address = SocketAddr::from((block.next_address()?, PORT));
        // Of all requests that callers send, wherever they go.
        let query = format!(
            "/api/v1/query?query=sum(rate(envoy_http_outbound_0_0_0_0_80_downstream_rq_total%5B{RANGE}s%5D))"
        );
        Ok(Self {
            prometheus: prometheus::Prometheus::start(address, &configuration(envoys)).await?,
            query,
            _block: block,
        })
    }

    /// Requests a second; `None` while it has too few samples.
    pub(crate) async fn rate(&self) -> Result<Option<f64>> {
        let call = Call::get(&self.query).timeout(DEADLINE);
        let answer = self.prometheus.call(&call).await?;
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
    json!({"scrape_configs": [{
        "job_name": "envoy",
        "metrics_path": "/stats/prometheus",
        "scrape_interval": format!("{SCRAPE}s"),
        "scrape_timeout": format!("{SCRAPE}s"),
        "static_configs": [{"targets": targets}],
    }]})
}
