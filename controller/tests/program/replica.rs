//! One replica: a process of the binary.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hyper::Request;
use kube::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use spillway_e2e::process::Process;

use crate::fixtures::{LOOK, PATIENCE, eventually};

const PUBLIC: &str = "8080";
const ADMIN: &str = "8081";

/// A replica; killed when dropped.
pub(crate) struct Replica {
    pub(crate) name: String,
    address: String,
    log: PathBuf,
    process: Process,
}

impl Replica {
    /// Starts one that listens at this loopback address.
    pub(crate) fn start(
        name: &str,
        address: String,
        folder: &Path,
        settings: &[String],
    ) -> Result<Self> {
        let mut arguments = settings.to_vec();
        arguments.push(format!("--pod-name={name}"));
        arguments.push(format!("--listen={address}:{PUBLIC}"));
        arguments.push(format!("--admin={address}:{ADMIN}"));
        let log = folder.join(format!("{name}.log"));
        let program = Path::new(env!("CARGO_BIN_EXE_spillway-controller"));
        let process = Process::start(program, &arguments, &log)?;
        Ok(Self {
            name: name.to_owned(),
            address,
            log,
            process,
        })
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it answers when all is well.
    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        self.ask(PUBLIC, Request::get(path).body(Vec::new())?).await
    }

    /// Sets the log level, as from inside the pod.
    pub(crate) async fn set_level(&self, level: &str) -> Result<String> {
        let request = Request::put("/loglevel").body(level.as_bytes().to_vec())?;
        self.ask(ADMIN, request).await
    }

    async fn ask(&self, port: &str, request: Request<Vec<u8>>) -> Result<String> {
        let url = format!("http://{}:{port}", self.address);
        let client = Client::try_from(Config::new(url.parse()?))?;
        Ok(client.request_text(request).await?)
    }

    /// Waits until it has everything that it needs to lead.
    pub(crate) async fn ready(&self) -> Result<()> {
        let what = format!("{} is ready", self.name);
        let ready = eventually(&what, async || Ok(self.get("/readyz").await.is_ok()));
        ready.await.with_context(|| self.log())
    }

    /// Waits until its log has this line, so many times.
    pub(crate) async fn says(&self, line: &str, times: usize) -> Result<()> {
        let what = format!("{} says {line}", self.name);
        let said = eventually(
            &what,
            async || Ok(self.log().matches(line).count() >= times),
        );
        said.await.with_context(|| self.log())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.process.id().cast_signed()).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Asks it to end, and waits until it has, without an error.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while self.process.is_running() {
            ensure!(
                began.elapsed() < PATIENCE,
                "it does not end: {}",
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
        let code = self.process.exit_code();
        ensure!(code == Some(0), "{code:?}: {}", self.log());
        Ok(())
    }
}
