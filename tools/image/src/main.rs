//! Builds images and pushes them: see the library.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use spillway_image::{Access, Image, push};

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
    },
    /// Writes the filter's image as an OCI image layout, and prints its digest
    Filter {
        /// The WebAssembly module
        module: PathBuf,
        /// The folder to write
        folder: PathBuf,
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
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let printed = match Arguments::parse().work {
        Work::Controller { program, folder } => {
            let image = Image::controller(&read(&program)?)
                .with_context(|| program.display().to_string())?;
            image.write(&folder)?;
            image.digest().to_owned()
        }
        Work::Filter { module, folder } => {
            let image =
                Image::filter(&read(&module)?).with_context(|| module.display().to_string())?;
            image.write(&folder)?;
            image.digest().to_owned()
        }
        Work::Push {
            folder,
            to,
            username,
            password,
            insecure,
        } => {
            let access = Access {
                credentials: username.zip(password),
                insecure,
                authorities: None,
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
