//! A real Prometheus, which `tools/setup prometheus` installs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Answer, Call, HttpClient, Target};
use crate::folder;
use crate::process::Process;

/// How long it may take to start.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// One that runs; it ends when this is dropped, and forgets everything.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    client: HttpClient,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Starts one at an address, and waits until it answers.
    ///
    /// # Errors
    /// When it does not; with its log.
    pub async fn start(address: SocketAddr, configuration: &Value) -> Result<Self> {
        let folder = folder::create("spillway-prometheus")?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        // JSON is YAML.
        std::fs::write(path("prometheus.yml"), configuration.to_string())?;
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let log = folder.path().join("log");
        let process = Process::start(Path::new("prometheus"), &arguments, &log)?;
        let client = HttpClient::new(&Target {
            address,
            host: address.to_string(),
            http2: false,
        });
        let mut this = Self {
            process,
            client,
            address,
            folder,
        };
        this.wait_ready().await?;
        Ok(this)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        let ready = Call::get("/-/ready");
        while !self
            .call(&ready)
            .await
            .is_ok_and(|answer| answer.status.is_success())
        {
            ensure!(
                self.process.is_running() && begin.elapsed() < DEADLINE,
                "Prometheus does not start: {}",
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        self.client.call(call).await
    }

    /// What it logs.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
