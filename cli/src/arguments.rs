//! The arguments.

use clap::{Parser, Subcommand};

use crate::attach::{Attach, Detach};
use crate::check::Check;
use crate::completion::Completion;
use crate::connection::Connection;
use crate::diff::Diff;
use crate::flight::TestFlight;
use crate::install::{Install, Uninstall, Upgrade};
use crate::policies::{Force, Shadow, Unforce};
use crate::push::Push;
use crate::render::Render;
use crate::rotate::Rotate;
use crate::simulate::Simulate;
use crate::status::Status;
use crate::validate::Validate;
use crate::why::Why;

/// Lets services overflow into other clusters while their demand exceeds what home can serve.
#[derive(Debug, Parser)]
#[command(
    name = "spillway",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  # Every mistake of a policy, with its line; no cluster is needed
  spillway validate policy.yaml

  # How everything is
  spillway status

  # Every subcommand has examples
  spillway attach --help"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// One module each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Install(Install),
    Upgrade(Upgrade),
    Uninstall(Uninstall),
    Check(Check),
    Validate(Validate),
    Render(Render),
    Diff(Diff),
    Simulate(Simulate),
    Why(Why),
    Push(Push),
    Attach(Attach),
    Detach(Detach),
    Rotate(Rotate),
    Status(Status),
    Force(Force),
    Unforce(Unforce),
    Shadow(Shadow),
    TestFlight(TestFlight),
    Completion(Completion),
}
