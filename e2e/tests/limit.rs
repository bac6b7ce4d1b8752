//! The limit of the primary, as the application sees it: by its own time stamps, in every window.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use spillway_e2e::analysis::{max_excess, utilisation};
use spillway_e2e::artefacts;
use spillway_e2e::canary::Canary;
use spillway_e2e::load::{Load, Outcome};
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::Service;

/// Capacity of the primary's one endpoint, requests a second, and its burst tolerance
/// B = 3 + max(12, 0.1 s × C).
const CAPACITY: f64 = 200.0;
const BURST: f64 = 23.0;

/// A machine that stands still for longer loses capacity.
const STALL: Duration = Duration::from_millis(5);

async fn one_endpoint() -> Result<Mesh> {
    mesh(1).await
}

async fn mesh(endpoints: u32) -> Result<Mesh> {
    let policy = Policy::worker("primary", &["burst"]).total_rate("primary", "200/s", endpoints);
    Mesh::two_clusters(Service::worker(), usize::try_from(endpoints)?)
        .caller("shop", "primary")
        .filter(artefacts::filter()?)
        .policies(Policies::two_clusters(policy))
        .start()
        .await
}

async fn run(mesh: &Mesh, load: Load) -> Result<(Instant, Outcome)> {
    mesh.forget();
    let running = load.target(1.0, mesh.target("shop")?).start()?;
    let started = running.started();
    let outcome = running.finish().await?;
    Ok((started, outcome))
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_limit_nothing_spills() -> Result<()> {
    let mesh = one_endpoint().await?;
    let load = Load::new(1).step(0.6 * CAPACITY, Duration::from_secs(6));
    let (_, outcome) = run(&mesh, load).await?;
    outcome.all_ok()?;
    assert_eq!(mesh.count("burst"), 0);
    assert_eq!(mesh.count("primary"), outcome.replies.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_no_window_holds_more_and_little_is_wasted() -> Result<()> {
    let mesh = one_endpoint().await?;
    // The bound is exact. A run that lost capacity since the machine stood still is repeated.
    for attempt in 0..4 {
        let canary = Canary::start(STALL);
        let load = Load::new(2 + attempt).step(3.0 * CAPACITY, Duration::from_secs(23));
        let (started, outcome) = run(&mesh, load).await?;
        outcome.all_ok()?;
        let served = mesh.arrivals("primary");
        assert_eq!(served.len() + mesh.count("burst"), outcome.replies.len());
        let decided = outcome.decided("primary");
        let excess = max_excess(&decided, CAPACITY).context("nothing was served")?;
        assert!(excess.requests <= BURST, "{excess:?} above {BURST}");
        let (from, to) = (
            started + Duration::from_secs(2),
            started + Duration::from_secs(22),
        );
        let used = utilisation(&served, from, to, CAPACITY);
        println!(
            "attempt {attempt}: {used:.3} of the capacity, {:.1} of {BURST} above it in one window, {} stalls",
            excess.requests,
            canary.stalls().len(),
        );
        if used >= 0.97 {
            return Ok(());
        }
        assert!(
            canary.stalled_between(from, to),
            "only {used:.3} of the capacity was used"
        );
    }
    anyhow::bail!("the machine stood still in every run")
}

/// M endpoints share the capacity: the limit holds for all of them together, however unevenly the
/// requests fall on them.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_on_two_endpoints_is_cut_at_once() -> Result<()> {
    /// M·B, with B = 3 + max(12, 0.1 s × C)/M.
    const BURST_OF_BOTH: f64 = 26.0;
    let mesh = mesh(2).await?;
    let load = Load::new(8)
        .step(0.3 * CAPACITY, Duration::from_secs(3))
        .step(5.0 * CAPACITY, Duration::from_secs(4));
    let (started, outcome) = run(&mesh, load).await?;
    outcome.all_ok()?;
    let served = mesh.arrivals("primary");
    let excess = max_excess(&outcome.decided("primary"), CAPACITY).context("nothing was served")?;
    println!(
        "{:.1} of {BURST_OF_BOTH} above the capacity",
        excess.requests
    );
    assert!(excess.requests <= BURST_OF_BOTH, "{excess:?}");
    let (from, to) = (
        started + Duration::from_secs(4),
        started + Duration::from_secs(7),
    );
    let used = utilisation(&served, from, to, CAPACITY);
    assert!(used > 0.8, "{used:.2} of the capacity, so the step was cut");
    Ok(())
}
