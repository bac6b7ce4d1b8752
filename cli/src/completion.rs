//! Completion for shells.

use clap::Args;
use clap_complete::Shell;

use crate::exit::{Exit, Failure};
use crate::output;

/// The shells that people have.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Print a script that completes this command in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # In this shell, and by ~/.bashrc in every other
  spillway completion bash

  # Where fish looks for it: ~/.config/fish/completions/spillway.fish
  spillway completion fish")]
pub(crate) struct Completion {
    /// The shell
    shell: Known,
}

pub(crate) fn run(completion: &Completion) -> Result<Exit, Failure> {
    let shell = match completion.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(None), "spillway", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(Exit::Fine)
}
