//! Child processes that never outlive the test.
//!
//! Dropping a [`Process`] kills it. When the test process itself is killed, or ends without
//! dropping (Ctrl-C, SIGKILL), the kernel kills the child: `setpriv --pdeathsig` asks for it. The
//! kernel watches the *thread* that started the child, not the process, so all children are
//! started by one thread that lives as long as the process.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};

type Job = (Command, Sender<std::io::Result<Child>>);

/// The thread that starts every child.
fn spawner() -> &'static Sender<Job> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                // The asker may have given up: then the child is dropped, and killed with us.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    })
}

/// A running child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` with both outputs appended to the file `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let (reply, answer) = channel();
        spawner()
            .send((command, reply))
            .context("the spawning thread is gone")?;
        let child = answer
            .recv()
            .context("the spawning thread is gone")?
            .with_context(|| format!("cannot start {} (by setpriv)", program.display()))?;
        Ok(Self { child })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The code with which it has exited; none while it runs, or where a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok()??.code()
    }

    /// Processor time used so far, user and system, by all its threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The second field is the program's name in parentheses, and may hold blanks.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("unknown form of /proc/PID/stat")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>)
            .sum::<Result<u64, _>>()?;
        // USER_HZ is 100 on every architecture that Envoy is built for.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_memory(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory that there was since its start, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("no {field} in /proc/PID/status"))?
            .parse()?;
        Ok(kib * 1024)
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
