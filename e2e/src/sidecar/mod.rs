//! One Envoy process with its folder of configuration.
//!
//! What changes at run time is dynamic, as under istiod: outbound clusters, routes, endpoints and
//! plugins lie in one file each. A file is replaced by renaming another to it, which
//! is what Envoy watches for, and [`Sidecar::push`] waits until Envoy's own counters say that the
//! new one was taken over.

mod admin;
mod files;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::files::PluginCounters;
use crate::address::ADMIN_PORT;
use crate::bootstrap::{Identity, Resources, bootstrap};
use crate::client::{Call, HttpClient, Target};
use crate::listeners::ACCESS_LOG;
use crate::locks::locked;
use crate::policy::Side;
use crate::process::Process;
use crate::topology::ProxyOptions;

/// How long anything that should happen soon may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A sidecar; its Envoy ends when this is dropped.
#[derive(Debug)]
pub struct Sidecar {
    process: Option<Process>,
    identity: Identity,
    options: ProxyOptions,
    sides: Vec<Side>,
    outbound: bool,
    folder: PathBuf,
    admin: HttpClient,
    /// The plugins that were written and not yet waited for, with the counters before that.
    plugin_updates: Mutex<BTreeMap<Side, PluginCounters>>,
}

impl Sidecar {
    /// Makes the folder and the bootstrap; configuration is to be written before it is started.
    pub(crate) fn prepare(
        identity: Identity,
        options: ProxyOptions,
        sides: Vec<Side>,
        resources: &Resources,
        folder: PathBuf,
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let document = bootstrap(&identity, &folder, options.extra_stat_tags, resources);
        std::fs::write(folder.join("bootstrap.json"), document.to_string())?;
        let address = SocketAddr::from((identity.address, ADMIN_PORT));
        let host = address.to_string();
        let admin = HttpClient::new(&Target {
            address,
            host,
            http2: false,
        });
        let plugin_updates = Mutex::default();
        Ok(Self {
            process: None,
            identity,
            options,
            sides,
            outbound: resources.outbound,
            folder,
            admin,
            plugin_updates,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.identity.cluster
    }

    /// Its address, as a pod's.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.identity.address
    }

    /// How it is run.
    #[must_use]
    pub fn options(&self) -> &ProxyOptions {
        &self.options
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The plugins that its listeners have, when the mesh has a filter and this sidecar takes it.
    #[must_use]
    pub fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// Whether it has outbound listeners.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.outbound
    }

    /// Starts Envoy without waiting for it.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let envoy = crate::artefacts::envoy(&self.options.envoy)?;
        let bootstrap = self.folder.join("bootstrap.json");
        let arguments = [
            "-c",
            &bootstrap.to_string_lossy(),
            "--concurrency",
            &self.options.concurrency.to_string(),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--component-log-level",
            "wasm:info",
            "--file-flush-interval-msec",
            "50",
            "--drain-time-s",
            "1",
            "--parent-shutdown-time-s",
            "2",
        ];
        let arguments = arguments.map(ToOwned::to_owned);
        // Envoy counts from 0 again.
        locked(&self.plugin_updates).clear();
        self.process = Some(Process::start(
            &envoy,
            &arguments,
            &self.folder.join("envoy.log"),
        )?);
        Ok(())
    }

    /// Waits until Envoy has all its configuration and listens.
    pub(crate) async fn wait_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            if !self.is_running() {
                let crowded = self.log().contains("fs.inotify.max_user_instances");
                if !crowded || begin.elapsed() > DEADLINE {
                    bail!("{} ended: {}", self.name(), self.end_of_log());
                }
                // Other meshes of this user hold all inotify instances: wait until some have ended.
                tokio::time::sleep(Duration::from_millis(200)).await;
                std::fs::remove_file(self.folder.join("envoy.log"))?;
                self.launch()?;
            }
            if self
                .admin
                .call(&Call::get("/ready"))
                .await
                .is_ok_and(|one| one.status == 200)
            {
                return self.check_accepted().await;
            }
            if begin.elapsed() > DEADLINE {
                bail!("{} is not ready: {}", self.name(), self.end_of_log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Envoy is ready, too, with clusters that it refused.
    async fn check_accepted(&self) -> Result<()> {
        let refused = self.stat("cluster_manager.cds.update_rejected").await?;
        ensure!(
            refused == 0,
            "{} refuses its clusters: {}",
            self.name(),
            self.end_of_log()
        );
        Ok(())
    }

    /// Starts Envoy, if it does not run, and waits until it is ready.
    ///
    /// # Errors
    /// When Envoy cannot be started, ends, or is not ready in time; with the end of its log.
    pub async fn start(&mut self) -> Result<()> {
        if !self.is_running() {
            self.launch()?;
        }
        self.wait_ready().await
    }

    /// Kills Envoy, as when a node fails: connections break, requests in flight are lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks Envoy to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<()> {
        if self.is_running() {
            // The connection may break before the answer is there.
            let _ = self.admin_post("/quitquitquit").await;
        }
        let begin = Instant::now();
        while self.is_running() {
            ensure!(begin.elapsed() < DEADLINE, "{} does not end", self.name());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.process = None;
        Ok(())
    }

    /// Whether Envoy runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Envoy's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// User and system time that Envoy has used, to 10 ms.
    ///
    /// # Errors
    /// When it does not run.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.running()?.cpu_time()
    }

    /// Envoy's resident memory in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resident_memory(&self) -> Result<u64> {
        self.running()?.resident_memory()
    }

    fn running(&self) -> Result<&Process> {
        self.process
            .as_ref()
            .with_context(|| format!("{} does not run", self.name()))
    }

    /// What Envoy has logged.
    #[must_use]
    pub fn log(&self) -> String {
        // No file: nothing was logged.
        std::fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default()
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        // Addresses of a backtrace tell nobody anything.
        let lines = log.lines().filter(|line| !line.contains("UNKNOWN [0x"));
        let lines: Vec<_> = lines.rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The access log so far: one object for each request that has ended, at most some 50 ms late.
    ///
    /// # Errors
    /// When a line is no JSON.
    pub fn access_log(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.join(ACCESS_LOG)).unwrap_or_default();
        // What follows the last line's end is still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// The access log, as soon as it has so many lines.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn wait_access_log(&self, lines: usize) -> Result<Vec<Value>> {
        let begin = Instant::now();
        loop {
            let log = self.access_log()?;
            if log.len() >= lines {
                return Ok(log);
            }
            let name = self.name();
            ensure!(begin.elapsed() < DEADLINE, "{name} logged {log:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
