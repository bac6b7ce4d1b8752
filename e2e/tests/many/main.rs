//! Many sidecars that share one limit, on real Envoys: twenty-four callers, of which some send 150
//! requests a second and some one in ten seconds, four endpoints with one limit together, and two
//! clusters to overflow into, of which the first has a limit of its own.
//!
//! What counts is what the applications saw, by their own clocks. Exact is the limit on what home
//! could have turned away. What comes to home from another cluster that has turned it away is served
//! by force: Envoy tries the other clusters alike, so that this is not only what has room nowhere,
//! but also a part of what the first rung turned away while the second had room. It is at most
//! [`FORCED`] of all requests, and takes the room of others: home serves [`MOST_USED`] of its limit
//! in all, and never more than twice the tolerance beyond it.

mod faults;
mod world;

use std::time::Duration;

use anyhow::Result;
use world::{ENDPOINTS, Going, HOME, NEAR, Part, builder, capacity, is_forced, load, tolerance};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// After a change of the demand it takes so long until everybody has heard of it.
const HEARD: Duration = seconds(2);

/// The share of requests that comes home by force, at most.
const FORCED: f64 = 0.05;

/// How much of its capacity home serves at most, by force and not, as soon as all have heard of the
/// demand: over the shortest part, the tolerance alone is 3 %.
const MOST_USED: f64 = 1.03;

/// How much of its capacity home serves when the demand is just that, and which share of all is
/// bounced at five times that. Both are a matter of the tolerance in requests, B = 3 + max(12,
/// 0.1 s·C)/M: 13 an endpoint at 400/s and 6 at 120/s, where the simulator and the studies have .92
/// to .95 as well.
fn aims() -> (f64, f64) {
    if capacity() >= 400.0 {
        (0.93, 0.1)
    } else {
        (0.9, 0.16)
    }
}

fn print(name: &str, part: &Part<'_>) -> Result<()> {
    let [home, spilled, bounced] = part.latencies()?;
    println!(
        "{name}: {:.3} used, Jain {:.4}, {:.3} bounced, {:.3} forced; near {}, far {}; \
         ms p50 p99: home {home:?}, spilled {spilled:?}, bounced {bounced:?}; stalls {:?}",
        part.used(),
        part.jain(),
        part.bounced(),
        part.share(is_forced),
        part.served_by("near"),
        part.served_by("far"),
        part.stalled(),
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_limit_is_shared_at_any_demand() -> Result<()> {
    /// Demand in capacities, for so many seconds.
    const STEPS: [(f64, u64); 5] = [(0.5, 5), (1.0, 22), (2.0, 8), (5.0, 22), (0.5, 6)];
    let mesh = builder(false)?.start().await?;
    let (least_at_demand, most_bounced) = aims();
    // The bounds on what is served too much are exact; a run in which the machine stood still, so
    // that too little was served, is repeated.
    for run in 0..3 {
        let load = STEPS
            .iter()
            .fold(load(&mesh, 51 + run)?, |load, (demand, length)| {
                load.step(demand * capacity(), seconds(*length))
            });
        let seen = Going::start(&mesh, load)?.end().await?;
        seen.all_answered();
        let (excess, most) = (seen.excess()?, tolerance(capacity(), ENDPOINTS));
        println!("{excess:.1} of {most} above the capacity");
        assert!(excess <= most, "{excess:.1} above the capacity");
        let all = seen.excess_of(HOME, capacity(), Duration::ZERO, Duration::MAX, |_| true)?;
        println!("{all:.1} of {:.1} with what came by force", 2.0 * most);
        assert!(all <= 2.0 * most, "{all:.1} above, by force and not");

        let mut from = Duration::ZERO;
        let mut too_little = Vec::new();
        for (demand, length) in STEPS {
            let part = seen.part(from + HEARD, from + seconds(length));
            print(&format!("{demand} C"), &part)?;
            let is_first = from.is_zero();
            from += seconds(length);
            let least = match demand {
                d if d < 1.0 && is_first => 1.0,
                // A caller with few requests hears of the fall with its next one.
                d if d < 1.0 => 0.9,
                d if d < 1.2 => least_at_demand,
                // Over 20 s; of six, the tolerance alone is 3 %.
                d if d < 5.0 => 0.95,
                _ => 0.97,
            };
            if part.used() < least {
                too_little.push((demand, part.used(), part.stalled()));
            }
            if demand > 1.0 {
                let used = part.used();
                assert!(
                    used <= MOST_USED,
                    "{demand} C: {used:.3} of the capacity is used"
                );
                let jain = part.jain();
                assert!(jain >= 0.98, "{demand} C: Jain {jain:.4}");
                let forced = part.share(is_forced);
                assert!(forced <= FORCED, "{demand} C: {forced:.3} came by force");
            }
            let bounced = part.bounced();
            assert!(bounced <= most_bounced, "{demand} C: {bounced:.3} bounced");
            if demand >= 5.0 {
                let near = part.rate("near") / capacity();
                assert!(near <= 1.05 * NEAR, "{near:.2} C in the first rung");
                assert!(part.rate("far") > 0.0, "the second rung takes the rest");
            }
        }
        if too_little.is_empty() {
            return Ok(());
        }
        let stood_still = too_little.iter().any(|(_, _, stalled)| !stalled.is_zero());
        assert!(stood_still, "too little was used: {too_little:?}");
        println!("too little was used: {too_little:?}");
    }
    anyhow::bail!("the machine stood still in every run")
}

/// The strongest of the faults.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_outlasts_what_goes_wrong() -> Result<()> {
    let mut mesh = builder(true)?.start().await?;
    faults::endpoints(&mut mesh).await?;
    faults::feedback(&mut mesh).await?;
    faults::neighbours_spill(&mut mesh).await?;
    faults::rungs(&mut mesh).await
}

/// The others: `make test-many`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "for its length: make test-many"]
async fn the_limit_outlasts_the_rest() -> Result<()> {
    let mut mesh = builder(true)?.start().await?;
    faults::caller_restarts(&mut mesh).await?;
    faults::capacities(&mut mesh).await?;
    faults::callers_without_the_filter(&mut mesh).await?;
    faults::storm(&mut mesh).await?;
    faults::one_connection(&mut mesh).await?;
    faults::slow_home(&mut mesh).await?;
    faults::forger(&mut mesh).await
}
