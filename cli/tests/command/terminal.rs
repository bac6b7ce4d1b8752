//! The command in a terminal, and while it runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use spillway_e2e::process::Process;
use tempfile::TempDir;

use crate::run::said;

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// The command while it runs, and what it has said so far; it ends when this is dropped.
pub(crate) struct Running {
    process: Process,
    folder: TempDir,
    read: usize,
}

impl Running {
    pub(crate) fn start(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let program = Path::new(env!("CARGO_BIN_EXE_spillway"));
        let process = Process::start(program, &words, &folder.path().join("said")).unwrap();
        Self {
            process,
            folder,
            read: 0,
        }
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }

    /// Waits until it says this, after what was waited for before.
    pub(crate) fn until(&mut self, words: &str) {
        let began = Instant::now();
        loop {
            let said = self.said();
            if let Some(at) = said[self.read..].find(words) {
                self.read += at + words.len();
                return;
            }
            assert!(began.elapsed() < DEADLINE, "never {words}:\n{said}");
            std::thread::sleep(LOOK);
        }
    }

    /// Ends it as Ctrl-C does, and gives its status.
    pub(crate) fn interrupt(&mut self) -> i32 {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let began = Instant::now();
        while self.process.is_running() {
            assert!(
                began.elapsed() < DEADLINE,
                "it does not end:\n{}",
                self.said()
            );
            std::thread::sleep(LOOK);
        }
        self.process.exit_code().expect("no signal ended it")
    }
}

/// A terminal with a command in it, by a tmux of its own; all of it ends when this is dropped.
pub(crate) struct Terminal {
    // It ends before its folder is removed.
    _tmux: Process,
    folder: TempDir,
}

impl Terminal {
    /// A terminal of a width and height, with a command of the shell.
    pub(crate) fn start(width: u16, height: u16, command: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let words = ["-f", "/dev/null", "-D", "-S", &socket.to_string_lossy()];
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let log = folder.path().join("log");
        let terminal = Self {
            _tmux: Process::start(Path::new("tmux"), &words, &log).unwrap(),
            folder,
        };
        let began = Instant::now();
        while !socket.exists() {
            let log = fs::read_to_string(&log).unwrap();
            assert!(began.elapsed() < DEADLINE, "tmux does not start: {log}");
            std::thread::sleep(LOOK);
        }
        let (width, height) = (width.to_string(), height.to_string());
        // It stays when the command ends, so that what it left can be read.
        let command = format!("{command}; echo \"status $?\"; exec cat");
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, &command]);
        terminal
    }

    /// What is shown.
    pub(crate) fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is shown as soon as it is as it should be.
    pub(crate) fn until(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let shown = self.shown();
            if is_it(&shown) {
                return shown;
            }
            assert!(began.elapsed() < DEADLINE, "never {what}:\n{shown}");
            std::thread::sleep(LOOK);
        }
    }

    /// Presses a key, by tmux' name of it.
    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a text.
    pub(crate) fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Types a line.
    pub(crate) fn type_line(&self, text: &str) {
        self.type_text(text);
        self.press("Enter");
    }

    /// Changes its size.
    pub(crate) fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        self.tmux(&["resize-window", "-x", &width, "-y", &height]);
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = self.command().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket"));
        command
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8");
        command
    }
}
