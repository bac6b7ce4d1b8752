//! Builds images and pushes them: see the library.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use spillway_image::{Access, Image, Provenance, epoch, push};

/// Builds Spillway's images as files, and pushes them
#[derive(Parser)]
#[command(name = "spillway-image", version)]
struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    /// Writes the controller's image as an OCI image layout, and prints its digest
    Controller {
        /// The program, linked statically
        program: PathBuf,
        /// The folder to write
        folder: PathBuf,
        #[command(flatten)]
        origin: Origin,
    },
    /// Writes the filter's image as an OCI image layout, and prints its digest
    Filter {
        /// The WebAssembly module
        module: PathBuf,
        /// The folder to write
        folder: PathBuf,
        #[command(flatten)]
        origin: Origin,
    },
    /// Pushes the image of a layout, and prints the name by which it is pulled
    Push {
        /// The folder
        folder: PathBuf,
        /// HOST[:PORT]/NAME:TAG
        to: String,
        /// Whom the registry knows
        #[arg(long, env = "REGISTRY_USERNAME", requires = "password")]
        username: Option<String>,
        /// The environment keeps it out of the list of processes
        #[arg(
            long,
            env = "REGISTRY_PASSWORD",
            requires = "username",
            hide_env_values = true
        )]
        password: Option<String>,
        /// The registry has no TLS
        #[arg(long)]
        insecure: bool,
        /// A PEM file of the authorities that it is trusted by, instead of the system's
        #[arg(long, conflicts_with = "insecure")]
        authorities: Option<PathBuf>,
    },
}

/// What the image says of where it comes from
#[derive(Args)]
struct Origin {
    /// The address of the sources
    #[arg(long, env = "SPILLWAY_SOURCE_URL")]
    source: Option<String>,
    /// The commit
    #[arg(long, env = "SPILLWAY_REVISION")]
    revision: Option<String>,
    /// The commit's time, in seconds since 1970
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_parser = epoch)]
    created: Option<Timestamp>,
}

impl From<Origin> for Provenance {
    fn from(origin: Origin) -> Self {
        Self {
            source: origin.source.filter(|text| !text.is_empty()),
            revision: origin.revision.filter(|text| !text.is_empty()),
            created: origin.created,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let printed = match Arguments::parse().work {
        Work::Controller {
            program,
            folder,
            origin,
        } => {
            let image = Image::controller(&read(&program)?, &origin.into())
                .with_context(|| program.display().to_string())?;
            image.write(&folder)?;
            image.digest().to_owned()
        }
        Work::Filter {
            module,
            folder,
            origin,
        } => {
            let image = Image::filter(&read(&module)?, &origin.into())
                .with_context(|| module.display().to_string())?;
            image.write(&folder)?;
            image.digest().to_owned()
        }
        Work::Push {
            folder,
            to,
            username,
            password,
            insecure,
            authorities,
        } => {
            let authorities = authorities
                .map(|file| fs::read_to_string(&file).with_context(|| file.display().to_string()));
            let access = Access {
                credentials: username.zip(password),
                insecure,
                authorities: authorities.transpose()?,
            };
            push(&Image::read(&folder)?, &to, &access).await?
        }
    };
    println!("{printed}");
    Ok(())
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
