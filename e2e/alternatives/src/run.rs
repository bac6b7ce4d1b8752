//! Runs: every system under the same load at the same time.
//!
//! Side by side rather than one after the other, which is the strictest way to take turns: every
//! system meets the same arrivals in the same second of the same machine, and a run of one costs no
//! more time than a run of all. It is possible since nobody competes: all systems together send some
//! hundred requests a second, and what makes their requests wait is the applications' service time
//! and not the processors. A canary tells whether the machine stood still meanwhile.
//!
//! Everything is started anew for each run, so that none inherits another's state.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use spillway_e2e::canary::Canary;
use spillway_e2e::load::{Load, Outcome, Reply};
use spillway_e2e::mesh::Mesh;

use crate::demand::Demand;
use crate::system::{BURST, CALLERS, PRIMARY, System};
use crate::watcher;

/// What slept for so long instead of a millisecond noticed that the machine stood still.
const STALL: Duration = Duration::from_millis(20);

/// One request; times in seconds from the load's start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// When it was to be sent.
    pub(crate) at: f64,
    /// Until its answer was complete, or given up.
    pub(crate) took: f64,
    /// Whether it was served.
    pub(crate) ok: bool,
}

/// What one system did with a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) system: System,
    /// All requests, by their times.
    pub(crate) requests: Vec<Request>,
    /// When requests arrived at the primary's applications.
    pub(crate) home: Vec<f64>,
    /// When requests arrived at the burst cluster's.
    pub(crate) away: Vec<f64>,
}

/// What all systems did with a load, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// How long the machine stood still each time, seconds.
    pub(crate) stalls: Vec<f64>,
    pub(crate) runs: Vec<Run>,
}

/// What was measured of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rounds {
    /// When it was begun.
    pub(crate) when: String,
    /// The state of the code.
    pub(crate) commit: String,
    pub(crate) rounds: Vec<Round>,
}

/// Runs a load on all systems; `seed` determines when its requests are sent.
pub(crate) async fn round(demand: &Demand, seed: u64) -> Result<Round> {
    let starts =
        System::ALL.map(|system| async move { anyhow::Ok((system, system.start().await?)) });
    let meshes = try_join_all(starts).await?;
    let canary = Canary::start(STALL);
    let runs = meshes
        .into_iter()
        .map(|(system, mesh)| run(system, mesh, demand, seed));
    let runs = try_join_all(runs).await?;
    let stalls = canary
        .stalls()
        .iter()
        .map(|stall| stall.length().as_secs_f64())
        .collect();
    Ok(Round { stalls, runs })
}

async fn run(system: System, mut mesh: Mesh, demand: &Demand, seed: u64) -> Result<Run> {
    let mut load = Load::new(seed);
    for (caller, weight) in CALLERS {
        load = load.target(weight, mesh.target(caller)?);
    }
    for (rate, duration) in demand.steps() {
        load = load.step(rate, duration);
    }
    let running = load.start()?;
    let started = running.started();
    let outcome = if system == System::Watcher {
        tokio::select! {
            outcome = running.finish() => outcome?,
            ended = watcher::decide(&mut mesh, demand, started) => {
                ended.context("the watcher")?;
                bail!("the watcher ended");
            }
        }
    } else {
        running.finish().await?
    };
    measured(system, &mesh, &outcome)
}

fn measured(system: System, mesh: &Mesh, outcome: &Outcome) -> Result<Run> {
    if outcome.dropped > 0 {
        bail!("{system:?}: {} requests were not sent", outcome.dropped);
    }
    let seconds = |at: Instant| at.saturating_duration_since(outcome.started).as_secs_f64();
    let request = |reply: &Reply| Request {
        at: seconds(reply.intended),
        took: reply.latency().as_secs_f64(),
        ok: reply.is_ok(),
    };
    let arrivals = |cluster| mesh.arrivals(cluster).into_iter().map(seconds).collect();
    Ok(Run {
        system,
        requests: outcome.replies.iter().map(request).collect(),
        home: arrivals(PRIMARY),
        away: arrivals(BURST),
    })
}
