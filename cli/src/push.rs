//! The filter into a registry, from which the proxies pull it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use spillway_image::{Access, Image, Provenance, epoch, pinned};

use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;

/// The module that this command was built with; empty where it was built without.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/filter.wasm"));

/// Push the filter's image into a registry
///
/// Prints the name by which proxies pull it, pinned to its digest: write it as the chart's
/// `filter.image`. Commands of one version push the same image, with the same digest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # The name and digest that it would have
  spillway push registry.example.com/spillway/filter:latest --filter spillway-filter.wasm --dry-run

  # To a registry without TLS, such as one on this machine
  spillway push 127.0.0.1:5000/spillway/filter:latest --filter spillway-filter.wasm --plain-http")]
pub(crate) struct Push {
    /// HOST[:PORT]/NAME:TAG
    to: String,

    /// The WebAssembly module, instead of the one that this command was built with
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,

    /// Whom the registry knows; the password is read from REGISTRY_PASSWORD, or as the option says
    #[arg(long, env = "REGISTRY_USERNAME", value_name = "NAME")]
    username: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    /// The registry has no TLS
    #[arg(long)]
    plain_http: bool,

    /// A PEM file of the authorities that the registry is trusted by, instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    authorities: Option<PathBuf>,

    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,

    /// Say what would be pushed, and push nothing
    #[arg(long)]
    dry_run: bool,

    /// The form of what is said
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Pushed {
    /// As a WasmPlugin names it.
    image: String,
    digest: String,
}

pub(crate) fn run(push: &Push) -> Result<Exit, Failure> {
    let image = Image::filter(&module(push)?, &provenance()).map_err(|error| {
        Failure::bad_input(error, "Name the filter by --filter: `make wasm` builds it.")
    })?;
    let access = Access {
        credentials: credentials(push)?,
        insecure: push.plain_http,
        authorities: push.authorities.clone().map(text).transpose()?,
    };
    let name = pinned(&image, &push.to).map_err(|error| {
        let advice = "As in registry.example.com/spillway/filter:latest.";
        Failure::bad_input(format!("{error:#}"), advice)
    })?;
    if !push.dry_run {
        send(push, &image, &access)?;
    }
    let pushed = Pushed {
        image: format!("oci://{name}"),
        digest: image.digest().to_owned(),
    };
    output::tell(push.output, &pushed, |pushed| format!("{}\n", pushed.image))?;
    Ok(Exit::Fine)
}

fn send(push: &Push, image: &Image, access: &Access) -> Result<(), Failure> {
    let _progress = Progress::new(format!("pushing to {}", push.to));
    let limit = Duration::from_secs(push.timeout);
    crate::wait(async {
        let pushing = spillway_image::push(image, &push.to, access);
        match tokio::time::timeout(limit, pushing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(
                Exit::Unreachable,
                format!("{error:#}"),
                "Look at the registry's name and at who may push there; --plain-http is for one without TLS.",
            )),
            Err(_) => Err(Failure::new(
                Exit::TimedOut,
                format!(
                    "the registry of {} did not take it within {} s",
                    push.to, push.timeout
                ),
                "Give it longer by --timeout, or look at whether it is there.",
            )),
        }
    })
}

fn module(push: &Push) -> Result<Vec<u8>, Failure> {
    match &push.filter {
        Some(path) => fs::read(path).map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            Failure::bad_input(
                message,
                "Name a WebAssembly module that is there by --filter.",
            )
        }),
        None if EMBEDDED.is_empty() => Err(Failure::bad_input(
            "this command was built without the filter",
            "Name the filter by --filter: `make wasm` builds it, and `make cli` a command that has it.",
        )),
        None => Ok(EMBEDDED.to_vec()),
    }
}

/// As `make cli` tells the compiler.
fn provenance() -> Provenance {
    let known = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Provenance {
        source: known(option_env!("SPILLWAY_SOURCE_URL")),
        revision: known(option_env!("SPILLWAY_REVISION")),
        created: option_env!("SOURCE_DATE_EPOCH").and_then(|text| epoch(text).ok()),
    }
}

fn credentials(push: &Push) -> Result<Option<(String, String)>, Failure> {
    let Some(name) = push.username.clone() else {
        return Ok(None);
    };
    let password = if push.password_stdin {
        io::read_to_string(io::stdin()).ok()
    } else {
        std::env::var("REGISTRY_PASSWORD").ok()
    };
    let password = password.ok_or_else(|| {
        Failure::bad_input(
            format!("there is no password for {name}"),
            "Set REGISTRY_PASSWORD, or write it to standard input with --password-stdin.",
        )
    })?;
    Ok(Some((name, password.trim_end_matches('\n').to_owned())))
}

fn text(path: PathBuf) -> Result<String, Failure> {
    crate::input::file(path).map(|manifest| manifest.text)
}
