//! The workshop as a process, as a visitor starts it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Two workshops at a time would measure each other.
static ONE: Mutex<()> = Mutex::new(());

/// A running workshop, one at a time; killed, with all that it started, when this is dropped.
pub(crate) struct Workshop {
    child: Child,
    stdout: BufReader<ChildStdout>,
    _one: MutexGuard<'static, ()>,
}

impl Workshop {
    /// Starts it with these arguments. `setpriv` keeps its process id.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        // Poisoned by a test that failed; its workshop is gone all the same.
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                env!("CARGO_BIN_EXE_spillway-workshop"),
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdout,
            _one: one,
        }
    }

    /// Starts `serve`, and reads where it serves from the line that it prints.
    pub(crate) fn serve() -> (Self, String) {
        let mut workshop = Self::start(&["serve"]);
        let mut line = String::new();
        workshop.stdout.read_line(&mut line).unwrap();
        let start = line
            .find("http://")
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        let url = line[start..].split_whitespace().next().unwrap().to_owned();
        (workshop, url)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What else it prints, until it closes its output.
    pub(crate) fn output(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        text
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < DEADLINE, "the workshop does not end");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that have this one as an ancestor, now.
pub(crate) fn descendants(of: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, parent(process)?)))
        .collect();
    let mut found = BTreeSet::new();
    let mut generation = BTreeSet::from([of]);
    while !generation.is_empty() {
        generation = parents
            .iter()
            .filter(|(_, parent)| generation.contains(parent))
            .map(|(process, _)| *process)
            .collect();
        found.extend(&generation);
    }
    found
}

/// Waits until none of these processes runs; one that has ended and that nobody asked about yet
/// does not run.
pub(crate) fn wait_until_gone(processes: &BTreeSet<u32>) {
    let begin = Instant::now();
    loop {
        let left: Vec<_> = processes
            .iter()
            .filter(|process| parent(**process).is_some())
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "still running: {left:?}"
        );
        sleep(Duration::from_millis(20));
    }
}

/// The parent of a process; `None` when it has ended.
fn parent(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        None
    } else {
        fields.next()?.parse().ok()
    }
}
