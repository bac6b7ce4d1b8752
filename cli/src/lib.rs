//! `spillway`: the command by which people meet Spillway.
//!
//! Its subcommands are thin: what a policy means, what is rendered and what would happen is said by
//! the libraries that the controller and the simulator are made of. Here is what people see of it.
//!
//! Every subcommand ends with an [`exit::Exit`], whatever form its output has, and what goes wrong
//! is a [`exit::Failure`] that says what to do next. What is found goes to standard output, what
//! goes wrong to standard error.

mod arguments;
mod attach;
mod check;
mod completion;
mod connection;
mod diff;
pub mod exit;
mod flight;
mod input;
mod install;
mod objects;
mod output;
mod planned;
mod policies;
mod progress;
mod push;
mod rates;
mod reach;
pub mod reference;
mod render;
mod rotate;
mod screen;
mod sidecars;
mod simulate;
mod status;
mod validate;
mod why;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::arguments::{Arguments, Command};
use crate::exit::{Exit, Failure};

/// As a plugin of kubectl the program has this name.
const PLUGIN: &str = "kubectl-spillway";

/// Runs the command with these arguments, the program's name being the first.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = command(arguments.first().map(Path::new));
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(parsed) => run(parsed).unwrap_or_else(|failure| failure.tell()),
        Err(error) => {
            // Nobody is left to tell when even this cannot be printed.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Fine
            }
        }
    };
    exit.into()
}

/// The command as it is called: by its own name, or as a plugin of kubectl.
#[must_use]
pub fn command(program: Option<&Path>) -> clap::Command {
    let name = program.and_then(Path::file_stem);
    let command = Arguments::command();
    if name.is_some_and(|name| name == PLUGIN) {
        command.bin_name("kubectl spillway")
    } else {
        command
    }
}

fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let connection = &arguments.connection;
    match arguments.command {
        Command::Install(install) => install::install(&install, connection),
        Command::Upgrade(upgrade) => install::upgrade(&upgrade, connection),
        Command::Uninstall(uninstall) => install::uninstall(&uninstall, connection),
        Command::Check(check) => check::run(&check, connection),
        Command::Validate(validate) => validate::run(&validate),
        Command::Render(render) => render::run(&render),
        Command::Diff(diff) => diff::run(&diff, connection),
        Command::Simulate(simulate) => simulate::run(&simulate),
        Command::Why(why) => why::run(&why),
        Command::Push(push) => push::run(&push),
        Command::Attach(attach) => attach::attach(&attach, connection),
        Command::Detach(detach) => attach::detach(&detach, connection),
        Command::Rotate(rotate) => rotate::run(&rotate, connection),
        Command::Status(status) => status::run(&status, connection),
        Command::Force(force) => policies::force(&force, connection),
        Command::Unforce(unforce) => policies::unforce(&unforce, connection),
        Command::Shadow(shadow) => policies::shadow(&shadow, connection),
        Command::TestFlight(flight) => flight::run(&flight, connection),
        Command::Completion(completion) => completion::run(&completion),
    }
}

/// Runs what has to wait.
fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        let advice = "The system gives no thread: try again.";
        Failure::new(Exit::Unreachable, error, advice)
    })?;
    runtime.block_on(work)
}
