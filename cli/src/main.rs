//! The command: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    spillway_cli::main(std::env::args_os())
}
