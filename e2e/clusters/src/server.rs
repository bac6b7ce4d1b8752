//! One program that serves, and what may happen to it.
//!
//! It keeps its arguments, and with them its address and its data: started again it is the same
//! server, at the same place.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hyper::Request;
use kube::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use spillway_e2e::process::Process;

/// API servers are ready after three seconds; the rest is for a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// An API server ends in a second unless requests are under way.
const STOPPED_WITHIN: Duration = Duration::from_secs(70);
/// How often a state is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(50);
/// One answer about the state may take this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A server that can be killed, paused and started again; killed when dropped.
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    probe: Config,
    probe_path: &'static str,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// A server that is not started yet. It is ready when `probe_path` answers 200 to `probe`.
    #[must_use]
    pub fn new(
        program: PathBuf,
        arguments: Vec<String>,
        log: PathBuf,
        probe: Config,
        probe_path: &'static str,
    ) -> Self {
        Self {
            program,
            arguments,
            log,
            probe,
            probe_path,
            process: Mutex::default(),
        }
    }

    /// The process id, while there is a process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        running(&mut self.process())
    }

    /// What it logs, of all times that it was started.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Starts it and waits until it is ready. One that runs already is only waited for.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with the end of its log.
    pub async fn start(&self) -> Result<()> {
        if self.pid().is_none() {
            let process = Process::start(&self.program, &self.arguments, &self.log)?;
            *self.process() = Some(process);
        }
        self.wait_ready().await
    }

    /// Kills it (SIGKILL); it is gone when this returns.
    pub fn kill(&self) {
        *self.process() = None;
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while self.pid().is_some() {
            ensure!(
                began.elapsed() < STOPPED_WITHIN,
                "{} does not end",
                self.name()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Kills it, starts it again and waits until it is ready.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.start().await
    }

    /// Stops its time (SIGSTOP): connections are accepted by the kernel, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let pid = self.pid().context("it ended")?;
        // The signal reaches a thread at a time.
        while !is_stopped(pid)? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Lets the time of a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with the end of its log.
    pub async fn wait_ready(&self) -> Result<()> {
        let client = Client::try_from(self.probe.clone())?;
        let began = Instant::now();
        loop {
            let request = Request::get(self.probe_path).body(Vec::new())?;
            let answer = tokio::time::timeout(ANSWER_WITHIN, client.request_text(request)).await;
            let problem = match answer {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if self.pid().is_none() {
                bail!("{} ended:\n{}", self.name(), self.log_end());
            }
            if began.elapsed() > READY_WITHIN {
                let (name, log) = (self.name(), self.log_end());
                bail!("{name} is not ready ({problem}):\n{log}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // Held meanwhile, so that the id is still this process's.
        let mut process = self.process();
        let pid = running(&mut process).and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.with_context(|| format!("{} does not run", self.name()))?;
        kill_process(pid, signal)?;
        Ok(())
    }

    fn name(&self) -> String {
        let log = self.log.file_stem().unwrap_or_default();
        log.to_string_lossy().into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn running(process: &mut Option<Process>) -> Option<u32> {
    let process = process.as_mut()?;
    process.is_running().then(|| process.id())
}

/// Whether every thread stands still.
fn is_stopped(pid: u32) -> Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        // After the name in parentheses, which may hold blanks.
        let state = stat.rsplit_once(") ").map(|(_, fields)| fields);
        if state.is_none_or(|state| !state.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}
