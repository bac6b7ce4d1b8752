//! The limit of requests in flight: an endpoint that becomes slow is worth less, at an unchanged
//! rate of requests, and what it cannot take goes elsewhere before it queues.

use std::time::{Duration, Instant};

use anyhow::Result;
use spillway_e2e::analysis::count_between;
use spillway_e2e::app::Behaviour;
use spillway_e2e::artefacts;
use spillway_e2e::load::Load;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::Service;

/// What each of the primary's two endpoints serves at a time.
const LIMIT: u32 = 8;
const ENDPOINTS: u32 = 2;
/// Two times eight at 80 ms are worth 200/s, and at 400 ms 40/s.
const QUICK: Duration = Duration::from_millis(80);
const SLOW: Duration = Duration::from_millis(400);
const SLOW_RATE: f64 = 40.0;
/// Half of what home is worth while it is quick, so that chance alone seldom fills it.
const RATE: f64 = 100.0;
/// What may spill of a rate that fits: the machine stands still at times, and then sends at once.
const STALL: f64 = 0.1;

async fn mesh() -> Result<Mesh> {
    let policy =
        Policy::worker("primary", &["burst"]).concurrency_per_endpoint("primary", LIMIT, ENDPOINTS);
    Mesh::two_clusters(Service::worker(), ENDPOINTS as usize)
        .caller("shop", "primary")
        .caller("desk", "primary")
        .filter(artefacts::filter()?)
        .policies(Policies::two_clusters(policy))
        .start()
        .await
}

fn serve_in(mesh: &Mesh, service_time: Duration) {
    for endpoint in mesh.endpoints("primary") {
        endpoint.app.behave(Behaviour {
            service_time,
            ..Behaviour::default()
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_becomes_slow_sheds_its_load_and_gets_it_back() -> Result<()> {
    let mesh = mesh().await?;
    let seconds = Duration::from_secs;
    serve_in(&mesh, QUICK);
    let running = Load::new(5)
        .target(1.0, mesh.target("shop")?)
        .target(1.0, mesh.target("desk")?)
        .step(RATE, seconds(13))
        .start()?;
    let started = running.started();
    let at = |second: u64| started + seconds(second);
    let (slow, quick, end) = (at(3), at(8), at(13));
    tokio::time::sleep_until(slow.into()).await;
    let most_before = mesh.endpoints("primary").map(|e| e.app.most_in_flight());
    let most_before = most_before.max().unwrap_or(0);
    serve_in(&mesh, SLOW);
    tokio::time::sleep_until(quick.into()).await;
    serve_in(&mesh, QUICK);
    let outcome = running.finish().await?;

    outcome.all_ok()?;
    // Exact at every moment: each request could have gone elsewhere.
    let most: Vec<_> = mesh
        .endpoints("primary")
        .map(|e| e.app.most_in_flight())
        .collect();
    assert!(most.iter().all(|most| *most == LIMIT as usize), "{most:?}");

    let (home, burst) = (mesh.arrivals("primary"), mesh.arrivals("burst"));
    let rate = |times: &[Instant], from: Instant, to: Instant| {
        count_between(times, from, to) as f64 / (to - from).as_secs_f64()
    };
    let (shed, back) = (slow + seconds(2), quick + seconds(3));
    let first = burst.iter().find(|time| **time > slow);
    let worst = outcome
        .replies
        .iter()
        .filter(|reply| reply.intended > shed && reply.intended < quick)
        .map(|reply| reply.latency())
        .max();
    println!(
        "before: {:.3} of all spill; first spill after {:.2} s; while slow home serves {:.1}/s of {SLOW_RATE}, \
         slowest answer {worst:?}; back: {} requests spill after 3 s; at most {most_before} and {most:?} at a time",
        rate(&burst, at(0), slow) / RATE,
        first.map_or(f64::NAN, |time| (*time - slow).as_secs_f64()),
        rate(&home, shed, quick),
        count_between(&burst, back, end),
    );
    assert!(rate(&burst, at(1), slow) < STALL * RATE);
    assert!(first.is_some_and(|time| *time < slow + seconds(1)));
    // Of 16 places and as much demand as they are worth, chance leaves a sixth empty (Erlang B).
    let served = rate(&home, shed, quick);
    assert!(
        (0.75 * SLOW_RATE..=1.02 * SLOW_RATE).contains(&served),
        "home serves {served:.1}/s"
    );
    // One that waited in line would take the time of another as well.
    assert!(worst.is_some_and(|worst| worst < 2 * SLOW));
    assert!(rate(&burst, back, end) < STALL * RATE, "it is home again");
    Ok(())
}
