//! How the command ends: a status for scripts, and words for people.

use std::fmt::Display;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

/// The status. It says the same whatever form the output has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine,
    /// There are findings, or differences.
    Findings,
    /// A cluster or registry could not be talked to.
    Unreachable,
    /// The command is written wrongly.
    Usage,
    /// A file, or what else was given, cannot be used.
    BadInput,
    /// It took too long.
    TimedOut,
}

impl Exit {
    /// All, with their words.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Fine, "all is well"),
        (Self::Findings, "there are findings or differences"),
        (
            Self::Unreachable,
            "a cluster or registry could not be talked to",
        ),
        (Self::Usage, "the command is written wrongly"),
        (
            Self::BadInput,
            "a file, or what else was given, cannot be used",
        ),
        (Self::TimedOut, "it took too long"),
    ];

    /// The number: those above 1 are of `sysexits.h` and of `timeout`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Findings => 1,
            Self::Unreachable => 2,
            Self::Usage => 64,
            Self::BadInput => 65,
            Self::TimedOut => 124,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// What went wrong, and what to do next.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    advice: String,
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// With a message in lower case, and advice as a sentence.
    pub fn new(exit: Exit, message: impl Display, advice: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.to_string(),
            advice: advice.into(),
        }
    }

    /// What was given cannot be used.
    pub fn bad_input(message: impl Display, advice: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, message, advice)
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it.
    #[must_use]
    pub fn tell(&self) -> Exit {
        let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        anstream::eprintln!("{red}error:{red:#} {}\n{}", self.message, self.advice);
        self.exit
    }
}
