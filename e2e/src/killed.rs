//! What is left of a test that was killed: nothing may run on, whatever it had started.
//!
//! Such a test runs itself once more as a process of its own, which starts what it is about, says
//! so and waits to be killed:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use spillway_e2e::killed;
//!
//! if killed::is_meant() {
//!     let folder = std::env::temp_dir(); // of what was started
//!     killed::wait(&folder, &[4711]).await;
//! }
//! let left = killed::run("the_name_of_this_test")?;
//! left.ends("etcd").await?;
//! # Ok(())
//! # }
//! ```

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Set in the process that is to be killed.
const VARIABLE: &str = "SPILLWAY_KILLED";
/// libtest writes on the same line before it.
const MARK: &str = "left in ";
const ENDED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// Whether this process is the one to be killed.
#[must_use]
pub fn is_meant() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Says what this process has started, and waits until it is killed.
pub async fn wait(folder: &Path, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    println!("{MARK}{} {}", folder.display(), pids.join(" "));
    std::future::pending::<()>().await;
}

/// What a killed process had.
#[derive(Debug)]
pub struct Left {
    /// Where it kept its files.
    pub folder: PathBuf,
    /// The processes that it had started.
    pub pids: Vec<u32>,
}

/// Runs a test of this program as a process of its own, and kills that as soon as it waits.
///
/// # Errors
/// When it ends before.
pub fn run(test: &str) -> Result<Left> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let line = lines
        .into_iter()
        .flatten()
        .map_while(std::io::Result::ok)
        .find_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
    child.kill()?;
    child.wait()?;
    let line = line.with_context(|| format!("{test} ended before it was killed"))?;
    let mut words = line.split(' ');
    let folder = PathBuf::from(words.next().unwrap_or_default());
    let pids = words.map(str::parse).collect::<Result<_, _>>()?;
    Ok(Left { folder, pids })
}

impl Left {
    /// Waits until none of its processes runs a program whose command line holds this any more.
    ///
    /// # Errors
    /// When one runs on.
    pub async fn ends(&self, program: &str) -> Result<()> {
        let began = Instant::now();
        while let Some(pid) = self.pids.iter().find(|pid| runs(**pid, program)) {
            ensure!(began.elapsed() < ENDED_WITHIN, "{pid} still runs");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Whether a process runs and its command line holds this. Its number may be another's by now.
#[must_use]
pub fn runs(pid: u32, program: &str) -> bool {
    // One that has ended, but whom nobody has waited for yet, has no command line.
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains(program)
}
