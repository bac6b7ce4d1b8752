//! What the file-driven mesh shows, by the same scenarios on the real one: policies come from the
//! hub, endpoints from Kubernetes, routes from istiod.

use std::time::Duration;

use anyhow::{Context, Result};
use spillway_e2e::scenarios;
use spillway_istio::mesh::{Mesh, MeshBuilder};
use spillway_istio::sandbox;
use spillway_istio::spillway::Spillway;
use spillway_istio::stage::Staged;

async fn stage(builder: MeshBuilder) -> Result<Staged> {
    let mesh = builder
        .cluster("primary")
        .cluster("burst")
        .endpoints("primary", 1)
        .endpoints("burst", 1)
        .caller("shop", "primary")
        .caller("desk", "burst")
        .start()
        .await?;
    let spillway = Spillway::install(&mesh).await?;
    Ok(Staged { mesh, spillway })
}

/// One mesh for all of them: each brings its own policy.
#[test]
fn scenarios_hold_on_the_real_mesh() -> Result<()> {
    sandbox::run("scenarios_hold_on_the_real_mesh", async || {
        let mut stage = stage(Mesh::builder()).await?;
        let stage = &mut stage;
        // Longer than a policy takes from the hub to a sidecar.
        let length = Duration::from_secs(8);
        let between = Duration::from_secs(5);
        scenarios::full_home_bounces(stage)
            .await
            .context("bounce")?;
        scenarios::a_step_is_cut_and_comes_home(stage, 3.0, 4)
            .await
            .context("step")?;
        scenarios::forged_headers_do_nothing(stage)
            .await
            .context("forged")?;
        scenarios::changes_under_load_cost_nothing(stage)
            .await
            .context("changes")?;
        scenarios::shadow_changes_nothing(stage)
            .await
            .context("shadow")?;
        scenarios::an_override_ends_by_itself(stage, length)
            .await
            .context("override")?;
        scenarios::nothing_circles(stage).await.context("loops")?;
        scenarios::all_switch_and_return(stage, between)
            .await
            .context("switch")?;
        // Last: the endpoint that comes back is another pod.
        scenarios::a_lost_rung_costs_no_answers(stage, 31)
            .await
            .context("lost")
    })
}

/// Each Envoy of the releases that are supported, under this Istio.
async fn pass(envoy: &str) -> Result<()> {
    let mut stage = stage(Mesh::builder().envoy(envoy)).await?;
    for pod in stage.mesh.pods() {
        let version = pod.admin("/server_info").await?;
        assert!(version.contains(&format!("/{envoy}/")), "{}", pod.name());
    }
    scenarios::full_home_bounces(&mut stage).await
}

#[test]
fn envoy_1_38() -> Result<()> {
    sandbox::run("envoy_1_38", async || pass("1.38.2").await)
}

#[test]
fn envoy_1_39() -> Result<()> {
    sandbox::run("envoy_1_39", async || pass("1.39.3").await)
}
