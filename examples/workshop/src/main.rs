//! The burst workshop on Spillway, on one machine and without Kubernetes: a frontend with a
//! frequency box, hashing workers in two clusters, and a limit above which requests burst.

mod board;
mod channel;
mod declared;
mod fleet;
mod frontend;
mod headless;
mod load;
mod settings;
mod tally;
mod verdict;
mod worker;
mod workshop;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;
use crate::workshop::Workshop;

/// The multicluster burst workshop on Spillway.
#[derive(Parser)]
#[command(name = "spillway-workshop", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the page until Ctrl-C.
    Serve {
        /// Port of the page on 127.0.0.1; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Run 5, 20 and again 5 requests a second without a browser, and judge the result.
    Headless {
        /// Seconds of each of the three steps.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(10..=600))]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // A signal ends whatever runs, the start included; what had been started ends with its owner.
    let workshop = tokio::select! {
        workshop = Workshop::start() => Arc::new(workshop?),
        ended = end_signal() => return ended.map(|()| ExitCode::FAILURE),
    };
    let done = tokio::select! {
        done = run(&arguments.command, &workshop) => done,
        ended = end_signal() => ended.map(|()| match arguments.command {
            Command::Serve { .. } => ExitCode::SUCCESS,
            Command::Headless { .. } => ExitCode::FAILURE,
        }),
    };
    drop(workshop);
    done
}

async fn run(command: &Command, workshop: &Arc<Workshop>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { port } => serve(workshop, *port).await,
        Command::Headless { seconds } => {
            let right = headless::run(workshop, *seconds).await?;
            Ok(if right {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

async fn serve(workshop: &Arc<Workshop>, port: u16) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .with_context(|| format!("port {port} is not free"))?;
    workshop
        .set_frequency(Settings::default().frequency)
        .await?;
    println!(
        "The burst workshop is at http://{} - type 20 into the frequency box; Ctrl-C ends everything.",
        listener.local_addr()?
    );
    axum::serve(listener, frontend::router(Arc::downgrade(workshop))).await?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or a request to terminate.
async fn end_signal() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
