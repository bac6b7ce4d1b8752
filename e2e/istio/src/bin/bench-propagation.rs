//! How long a changed threshold takes from the hub to the sidecars of two clusters.
//!
//! ```text
//! SPILLWAY_ROUNDS=60 bench-propagation
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use spillway_istio::mesh::Mesh;
use spillway_istio::propagation::{measure, report};
use spillway_istio::sandbox;
use spillway_istio::spillway::{Spillway, policy};

const ROUNDS: u32 = 60;

fn main() -> Result<()> {
    sandbox::run("bench-propagation", async || {
        let rounds = match std::env::var("SPILLWAY_ROUNDS") {
            Ok(rounds) => rounds.parse().context("SPILLWAY_ROUNDS")?,
            Err(_) => ROUNDS,
        };
        let mesh = Mesh::builder()
            .cluster("primary")
            .cluster("burst")
            .endpoints("primary", 2)
            .endpoints("burst", 1)
            .caller("shop", "primary")
            .caller("desk", "burst")
            .start()
            .await?;
        let spillway = Spillway::install(&mesh).await?;
        let policy = policy(&mesh, "primary", &["burst"], "1000/s");
        spillway.apply(&mesh, &policy).await?;
        for cluster in mesh.members() {
            mesh.wait_filters(cluster, &[]).await?;
        }
        let report = report(&measure(&mesh, rounds).await?)?;
        report.print();
        report.write(&target_folder().join("bench"))
    })
}

fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
