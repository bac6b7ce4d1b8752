//! Switch mode where callers share the limits: none of them is over the limit alone, and they leave
//! and return together. A lie about it changes little.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, HttpClient};
use spillway_e2e::load::{Load, Outcome, Reply};
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Policies, Policy, Switch};
use spillway_e2e::topology::{ProxyOptions, Service};

/// Callers with their shares: each is below the limit of 15/s even when all together are at 30/s.
const CALLERS: [(&str, f64); 3] = [("shop", 0.4), ("desk", 0.4), ("till", 0.2)];
const ABOVE: f64 = 30.0;
const BETWEEN: f64 = 14.0;
const BELOW: f64 = 4.0;
const ENDPOINTS: u32 = 2;

fn policies(enter: &str, leave: &str) -> Policies {
    let policy = Policy::worker("primary", &["burst"]).with(|policy| {
        policy.mode = Some("Switch");
        policy.switch = Some(Switch {
            enter: enter.to_owned(),
            leave: leave.to_owned(),
            endpoints: BTreeMap::from([("primary".to_owned(), ENDPOINTS)]),
        });
    });
    Policies::for_clusters(["primary", "burst"])
        .prefix("burst", "bursty-")
        .policy(policy)
}

async fn start() -> Result<Mesh> {
    let mesh = Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(Service::worker())
        .proxies(ProxyOptions {
            concurrency: 2,
            ..ProxyOptions::default()
        })
        .endpoints("primary", ENDPOINTS as usize)
        .endpoints("burst", 1);
    CALLERS
        .iter()
        .fold(mesh, |mesh, (name, _)| mesh.caller(name, "primary"))
        .filter(artefacts::filter()?)
        .policies(policies("15/s", "10/s"))
        .start()
        .await
}

fn load(mesh: &Mesh, seed: u64) -> Result<Load> {
    CALLERS
        .iter()
        .try_fold(Load::new(seed), |load, (name, share)| {
            Ok(load.target(*share, mesh.target(name)?))
        })
}

fn all_answered(outcome: &Outcome) {
    let failures: Vec<_> = outcome.failures().take(5).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(outcome.dropped, 0);
}

fn away(reply: &Reply) -> bool {
    reply.served_by.as_deref() == Some("burst")
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_share_the_limits_leave_together_and_come_back_together() -> Result<()> {
    let mesh = start().await?;
    let seconds = Duration::from_secs;
    let (up, down, end) = (seconds(4), seconds(16), seconds(40));
    let load = load(&mesh, 3)?
        .step(BELOW, up)
        .step(ABOVE, down - up)
        .step(BELOW, end - down);
    let outcome = load.start()?.finish().await?;
    all_answered(&outcome);
    let at = |reply: &Reply| reply.intended - outcome.started;
    let (mut left, mut back) = (Vec::new(), Vec::new());
    for (caller, (name, _)) in CALLERS.iter().enumerate() {
        let mine = || {
            outcome
                .replies
                .iter()
                .filter(move |reply| reply.target == caller)
        };
        let first = mine().find(|reply| away(reply)).context("it never left")?;
        let last = mine().rfind(|reply| away(reply)).context("it never left")?;
        left.push((at(first).as_secs_f64() - up.as_secs_f64()).max(0.0));
        back.push((at(last).as_secs_f64() - down.as_secs_f64()).max(0.0));
        assert!(at(first) > up, "{name} left at {:?}", at(first));
        // A request a second of each of two threads, for news, and what that leaves to chance.
        let there = mine().filter(|reply| at(reply) > up + seconds(6) && at(reply) < down);
        let (all, gone) = there.fold((0, 0), |(all, gone), reply| {
            (all + 1, gone + usize::from(away(reply)))
        });
        assert!(gone * 2 > all, "{name}: {gone} of {all} spill");
    }
    let spread = |times: &[f64]| {
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        times.iter().copied().fold(0.0, f64::max) - least
    };
    println!(
        "left {left:.1?} s after the step, {:.1} s apart; the last away {back:.1?} s after the other",
        spread(&left)
    );
    assert!(left.iter().all(|time| *time < 6.0), "{left:.1?}");
    assert!(spread(&left) < 2.0, "{left:.1?}");
    assert!(back.iter().all(|time| *time < 20.0), "{back:.1?}");
    Ok(())
}

/// Waits until most of a second's requests are away.
async fn wait_until_away(mesh: &Mesh, limit: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        mesh.forget();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (home, burst) = (mesh.count("primary"), mesh.count("burst"));
        if burst > home {
            return Ok(());
        }
        ensure!(
            began.elapsed() < limit,
            "{home} at home, {burst} away, after {limit:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_survives_a_configuration_and_the_restart_of_a_caller_and_lies() -> Result<()> {
    let mut mesh = start().await?;
    let minutes = Duration::from_secs(300);
    let patience = Duration::from_secs(15);
    let running = load(&mesh, 5)?.step(ABOVE, minutes).start()?;
    wait_until_away(&mesh, patience).await?;

    // Between the limits what is lost does not come back by itself.
    let between = Load::new(6)
        .target(0.5, mesh.target("desk")?)
        .target(0.5, mesh.target("till")?)
        .step(BETWEEN, minutes)
        .start()?;
    running.stop();
    all_answered(&running.finish().await?);
    let generation = mesh.apply(&policies("16/s", "9/s")).await?;
    mesh.wait_generation(generation).await?;
    wait_until_away(&mesh, Duration::from_secs(5)).await?;

    mesh.caller_mut("shop")?.stop().await?;
    mesh.caller_mut("shop")?.start().await?;
    mesh.wait_plugins().await?;
    let shop = Load::new(7)
        .target(1.0, mesh.target("shop")?)
        .step(BETWEEN, Duration::from_secs(3));
    let outcome = shop.start()?.finish().await?;
    all_answered(&outcome);
    let gone = outcome.replies.iter().filter(|reply| away(reply)).count();
    let all = outcome.replies.len();
    assert!(gone * 2 > all, "{gone} of {all}");
    between.stop();
    all_answered(&between.finish().await?);

    let running = load(&mesh, 8)?.step(ABOVE, minutes).start()?;
    wait_until_away(&mesh, patience).await?;
    // Above the limits lies bring nobody home for long: the next epoch, and those far ahead.
    let liar = mesh
        .endpoints("primary")
        .next()
        .context("an endpoint")?
        .inbound();
    let client = HttpClient::new(&liar);
    for lie in [2, 4, 1_000, 400_000_000] {
        for _ in 0..5 {
            let hop = format!("primary;mesh-token-1;primary;worker;1;;{lie}");
            let answer = client
                .call(&Call::get("/lie").header("x-spillway", &hop))
                .await?;
            ensure!(answer.status == 200);
        }
    }
    wait_until_away(&mesh, patience).await?;
    running.stop();
    all_answered(&running.finish().await?);
    Ok(())
}
