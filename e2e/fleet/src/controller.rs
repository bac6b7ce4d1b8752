//! The controller as a process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spillway_e2e::address::Block;
use spillway_e2e::process::Process;

use crate::members::{end_of, program};

/// A window in which a controller at rest does nearly nothing …
const WINDOW: Duration = Duration::from_millis(500);
/// … which is this much of a processor.
const NOTHING: Duration = Duration::from_millis(30);
const QUIET_WITHIN: Duration = Duration::from_secs(300);

/// The program that ships, while it runs; ends when dropped.
pub struct Controller {
    process: Process,
    log: PathBuf,
    _block: Block,
}

impl Controller {
    pub(crate) fn start(arguments: &[String], log: PathBuf) -> Result<Self> {
        let mut block = Block::take()?;
        let address = block.next_address()?;
        let mut all = vec![
            format!("--listen={address}:8080"),
            format!("--admin={address}:8081"),
            "--log-format=text".to_owned(),
        ];
        all.extend_from_slice(arguments);
        Ok(Self {
            process: Process::start(&program("SPILLWAY_CONTROLLER")?, &all, &log)?,
            log,
            _block: block,
        })
    }

    /// The processor time that it took so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.process.cpu_time()
    }

    /// Its resident memory now, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_memory(&self) -> Result<u64> {
        self.process.resident_memory()
    }

    /// The most resident memory that it had, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        self.process.peak_memory()
    }

    /// The sockets that it has open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn sockets(&self) -> Result<usize> {
        let mut sockets = 0;
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.process.id()))? {
            // One that is closed meanwhile is none.
            let target = std::fs::read_link(entry?.path()).unwrap_or_default();
            sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
        Ok(sockets)
    }

    /// Waits until it does nothing any more.
    ///
    /// # Errors
    /// When it has ended, or never comes to rest; with the end of its log.
    pub async fn quiet(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let before = self.cpu_time()?;
            tokio::time::sleep(WINDOW).await;
            ensure!(self.process.is_running(), "it ended: {}", end_of(&self.log));
            if self.cpu_time()?.saturating_sub(before) <= NOTHING {
                return Ok(());
            }
            let restless = began.elapsed() > QUIET_WITHIN;
            ensure!(!restless, "it never rests: {}", end_of(&self.log));
        }
    }
}
