//! The command in a terminal.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::run::said;

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A terminal with the command in it, by a tmux of its own; both end when this is dropped.
pub(crate) struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// A terminal of a width and height, with a command of the shell.
    pub(crate) fn start(width: u16, height: u16, command: &str) -> Self {
        let terminal = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let (width, height) = (width.to_string(), height.to_string());
        // It stays when the command ends, so that what it left can be read.
        let command = format!("{command}; echo \"status $?\"; exec cat");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            &command,
        ]);
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

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its processes end by the hang-up.
        let _ = self.command().arg("kill-server").output();
    }
}
