//! The controller and the control planes are killed: requests and decisions go on, by the capacity
//! and the mode that were there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spillway_e2e::analysis::{max_excess, utilisation};
use spillway_e2e::canary::Canary;
use spillway_e2e::load::{Load, Outcome};
use spillway_istio::mesh::Mesh;
use spillway_istio::sandbox;
use spillway_istio::spillway::{Spillway, policy};

/// Of each endpoint of the primary, and of both together.
const EACH: &str = "80/s";
const CAPACITY: f64 = 160.0;
/// Two endpoints: M·B, with B = 3 + max(12, 0.1 s × C)/M.
const BURST: f64 = 3.0 * 2.0 + 16.0;
/// Counted from the start of a load: the new rate is known, and goes on.
const FULL: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(6));
/// A machine that stands still for longer loses capacity.
const STALL: Duration = Duration::from_millis(5);

#[test]
fn decisions_go_on_while_control_is_away() -> Result<()> {
    sandbox::run("decisions_go_on_while_control_is_away", async || {
        let mesh = Mesh::builder()
            .cluster("primary")
            .cluster("burst")
            .endpoints("primary", 2)
            .endpoints("burst", 1)
            .caller("shop", "primary")
            .start()
            .await?;
        let mut spillway = Spillway::install(&mesh).await?;
        // The number of endpoints is what proxies know from their control plane.
        let mut policy = policy(&mesh, "primary", &["burst"], EACH);
        let spec = policy.get_mut("spec").context("a policy has a spec")?;
        spec["capacity"] = json!({"perEndpoint": {"rate": EACH}});
        spillway.apply(&mesh, &policy).await?;
        for cluster in mesh.members() {
            mesh.wait_filters(cluster, &[]).await?;
        }
        the_limit_holds(&mesh, "all are there").await?;

        spillway.kill();
        the_limit_holds(&mesh, "without the controller").await?;
        kill_control_planes(&mesh)?;
        the_limit_holds(&mesh, "without both").await?;
        spillway.start()?;
        the_limit_holds(&mesh, "without istiod").await?;
        start_control_planes(&mesh).await?;

        let before = mesh.generations("primary").await?;
        policy["spec"]["enforcement"] = "Shadow".into();
        spillway.apply(&mesh, &policy).await?;
        mesh.wait_filters("primary", &before).await?;
        spillway.kill();
        kill_control_planes(&mesh)?;
        // Nothing is held: two of three endpoints are at home, and get their share.
        let began = Instant::now();
        load(&mesh, 7).await?;
        let used = used(&mesh, began);
        println!("Shadow, without both: {used:.3} of the capacity");
        ensure!(used > 1.5, "the limit is held: {used:.3} of the capacity");
        Ok(())
    })
}

fn kill_control_planes(mesh: &Mesh) -> Result<()> {
    for cluster in mesh.members() {
        mesh.istiod(cluster)?.kill();
    }
    Ok(())
}

async fn start_control_planes(mesh: &Mesh) -> Result<()> {
    for cluster in mesh.members() {
        mesh.istiod(cluster)?.start().await?;
    }
    Ok(())
}

/// From half to three times the capacity after two seconds; no request fails.
async fn load(mesh: &Mesh, seed: u64) -> Result<Outcome> {
    mesh.forget();
    let load = Load::new(seed)
        .step(0.5 * CAPACITY, Duration::from_secs(2))
        .step(3.0 * CAPACITY, Duration::from_secs(5));
    let outcome = mesh.start_load("shop", load).await?.finish().await?;
    let failures: Vec<_> = outcome.failures().take(5).collect();
    ensure!(failures.is_empty(), "{failures:?}");
    Ok(outcome)
}

/// How much of the capacity was used in the middle of the load.
fn used(mesh: &Mesh, began: Instant) -> f64 {
    let served = mesh.arrivals("primary");
    utilisation(&served, began + FULL.0, began + FULL.1, CAPACITY)
}

async fn the_limit_holds(mesh: &Mesh, when: &str) -> Result<()> {
    // The bound is exact. A run that lost capacity since the machine stood still is repeated.
    for seed in 11..15 {
        let canary = Canary::start(STALL);
        let began = Instant::now();
        let outcome = load(mesh, seed).await?;
        let excess = max_excess(&outcome.decided("primary"), CAPACITY);
        let excess = excess.context("nothing was served")?.requests;
        let used = used(mesh, began);
        let spilled = mesh.count("burst");
        println!("{when}: {used:.3} of the capacity, {excess:.1} above it, {spilled} spilled");
        ensure!(excess <= BURST, "{when}: {excess} above the capacity");
        if used >= 0.95 {
            return Ok(());
        }
        ensure!(
            canary.stalled_between(began, began + FULL.1),
            "{when}: only {used:.3} of the capacity"
        );
    }
    anyhow::bail!("the machine stood still in every run")
}
