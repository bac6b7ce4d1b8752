//! What happens when a cluster fails, and that requests go nowhere else than the policy says:
//! not to a cluster that it does not name, not beyond a rung's maximum, not past a rung with room.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use spillway_e2e::analysis::{count_between, max_excess, utilisation};
use spillway_e2e::artefacts;
use spillway_e2e::load::{Load, Reply, Running};
use spillway_e2e::mesh::{Mesh, MeshBuilder};
use spillway_e2e::policy::{Policies, Policy, Rung};
use spillway_e2e::topology::{OutlierDetection, ProxyOptions, Service};

/// Capacity of home in all of these tests, requests a second, and the burst tolerance of its one
/// endpoint B = 3 + max(12, 0.1 s × C).
const CAPACITY: f64 = 50.0;
const BURST: f64 = 15.0;
const OFFERED: f64 = 150.0;

/// Requests that are to come have come within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Failures are noticed and forgotten faster than in production.
fn service() -> Service {
    Service::worker().with(|service| {
        service.outlier_detection = Some(OutlierDetection {
            interval: Some(Duration::from_millis(100)),
            base_ejection_time: Some(Duration::from_millis(500)),
            ..OutlierDetection::default()
        });
    })
}

fn mesh(clusters: &[&str], policy: Policy) -> Result<MeshBuilder> {
    let policies = Policies::for_clusters(clusters.iter().copied()).policy(policy);
    let mut builder = Mesh::builder().service(service()).proxies(ProxyOptions {
        concurrency: 2,
        ..ProxyOptions::default()
    });
    for cluster in clusters {
        builder = builder.cluster(cluster).endpoints(cluster, 1);
    }
    let builder = builder.caller("shop", "primary").policies(policies);
    Ok(builder.filter(artefacts::filter()?))
}

fn policy(rungs: &[&str]) -> Policy {
    Policy::worker("primary", rungs).total_rate("primary", "50/s", 1)
}

fn load(mesh: &Mesh, seed: u64, rate: f64, seconds: u64) -> Result<Running> {
    Load::new(seed)
        .target(1.0, mesh.target("shop")?)
        .keep_headers(&["x-spillway-shed"])
        .step(rate, Duration::from_secs(seconds))
        .start()
}

/// The rung is killed while it is in use, is away for some seconds, and comes back.
async fn outage(on_exhausted: &'static str, seed: u64) -> Result<()> {
    let policy = policy(&["burst"]).with(|policy| policy.on_exhausted = Some(on_exhausted));
    let mut mesh = mesh(&["primary", "burst"], policy)?.start().await?;
    let running = load(&mesh, seed, OFFERED, 60)?;
    mesh.wait_for_arrivals("burst", 100, PATIENCE).await?;
    mesh.kill_cluster("burst").await;
    let killed = Instant::now();
    mesh.wait_for_arrivals("primary", 200, PATIENCE).await?;
    let noon = Instant::now();
    mesh.restart_cluster("burst").await?;
    mesh.wait_for_arrivals("burst", 100, PATIENCE).await?;
    running.stop();
    let outcome = running.finish().await?;

    // Lost are requests that were under way, and one that is bounced to the rung just when Envoy
    // ejects its endpoint: a few of an outage, however long.
    let settled = killed + Duration::from_millis(500);
    let by_gate = |reply: &&Reply| reply.headers.contains_key("x-spillway-shed");
    let (shed, lost): (Vec<_>, Vec<_>) = outcome.failures().partition(by_gate);
    assert!(shed.iter().all(|reply| reply.status == 503));
    let (shed, lost) = (shed.len(), lost.len());
    let home = mesh.arrivals("primary");
    let used = utilisation(&home, settled, noon, CAPACITY);
    println!("{on_exhausted}: {lost} lost, {shed} shed, {used:.2} of home's capacity used");
    assert!(lost <= 10, "{lost} requests lost");
    if on_exhausted == "Shed" {
        assert!(shed > 50, "{shed} were shed");
        let excess = max_excess(&outcome.decided("primary"), CAPACITY).context("served")?;
        assert!(excess.requests <= BURST, "{excess:?}");
    } else {
        assert_eq!(shed, 0);
        // All of the 150/s, at a capacity of 50/s; σ is a tenth at a second's 150.
        assert!(used > 2.2, "home took {used:.2} of its capacity");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rung_costs_no_answers_and_is_used_again() -> Result<()> {
    tokio::try_join!(outage("Home", 31), outage("Shed", 32))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_no_policy_names_gets_nothing_where_bounces_are_off() -> Result<()> {
    let all = ["primary", "burst", "third"];
    let off = policy(&["burst"]).with(|policy| policy.bounce = Some("Off"));
    let (mut on, off) = tokio::try_join!(
        mesh(&all, policy(&["burst"]))?.start(),
        mesh(&all, off)?.start()
    )?;

    // Without bounces, requests go where the caller sends them.
    let outcome = load(&off, 33, OFFERED, 4)?.finish().await?;
    outcome.all_ok()?;
    assert_eq!(off.count("third"), 0);
    assert!(off.count("burst") > 100);

    // A bounced request goes to any other cluster with endpoints: so with such a cluster there,
    // bounces are to be off.
    let outcome = load(&on, 34, OFFERED, 2)?.finish().await?;
    outcome.all_ok()?;
    assert!(on.count("third") > 0, "this test can fail");
    // Where discovery does not hand its endpoints out, it gets none of them either.
    on.announce("third", false).await?;
    on.forget();
    let outcome = load(&on, 35, OFFERED, 4)?.finish().await?;
    outcome.all_ok()?;
    assert_eq!(on.count("third"), 0);
    assert!(on.count("burst") > 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rung_takes_no_more_than_its_maximum_rate() -> Result<()> {
    const MOST: f64 = 30.0;
    let policy = policy(&["burst"]).with(|policy| {
        policy.bounce = Some("Off");
        policy.overflow = vec![Rung {
            cluster: "burst".to_owned(),
            max_rate: Some("30/s".to_owned()),
        }];
    });
    let mesh = mesh(&["primary", "burst"], policy)?.start().await?;
    let running = load(&mesh, 36, OFFERED, 8)?;
    let started = running.started();
    let outcome = running.finish().await?;
    outcome.all_ok()?;
    let away = mesh.arrivals("burst");
    // A second's worth may go at once.
    let excess = max_excess(&outcome.decided("burst"), MOST).context("served")?;
    let (from, to) = (
        started + Duration::from_secs(2),
        started + Duration::from_secs(8),
    );
    let used = utilisation(&away, from, to, MOST);
    println!("{used:.3} of the maximum, {:.1} above it", excess.requests);
    assert!(excess.requests <= MOST, "{excess:?}");
    // The rest comes home, where it is served beyond the capacity.
    assert!(used > 0.9, "{used:.3} of the maximum rate");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_rung_begins_where_the_first_one_is_full() -> Result<()> {
    let policy = policy(&["burst", "third"]).total_rate("burst", "50/s", 1);
    let mesh = mesh(&["primary", "burst", "third"], policy)?
        .start()
        .await?;
    let seconds = Duration::from_secs;
    let running = Load::new(37)
        .target(1.0, mesh.target("shop")?)
        .step(1.5 * CAPACITY, seconds(6))
        .step(3.0 * CAPACITY, seconds(6))
        .start()?;
    let (first, second, end) = (
        running.started() + seconds(2),
        running.started() + seconds(6),
        running.started() + seconds(12),
    );
    running.finish().await?.all_ok()?;
    let shares = |from: Instant, to: Instant| {
        ["primary", "burst", "third"]
            .map(|cluster| utilisation(&mesh.arrivals(cluster), from, to, CAPACITY))
    };
    let (low, high) = (shares(first, second), shares(second + seconds(2), end));
    println!("{low:.2?} of the capacity each at 1.5, {high:.2?} at 3.0");
    // A bounced request goes to either of them, so that the second gets a few.
    assert!(low[1] > 0.3 && low[2] < 0.15, "{low:.2?}");
    assert!(
        high[0] > 0.85 && high[1] > 0.75 && high[2] > 0.7,
        "{high:.2?}"
    );
    assert!(high[0] < 1.2 && high[1] < 1.2, "{high:.2?}");
    assert!(count_between(&mesh.arrivals("third"), second, end) > 100);
    Ok(())
}
