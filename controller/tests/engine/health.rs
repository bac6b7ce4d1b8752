//! Whether a loop that is stuck is seen.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::config::Kubeconfig;
use kube::{Client, Config};
use spillway_clusters::User;
use spillway_controller::engine::{Engine, Inputs};
use spillway_controller::serve::{Health, Pulse};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::world::{World, eventually, impatient, inputs, mesh, policies};

/// Real planners are given more.
const STUCK: Duration = Duration::from_secs(2);

/// Runs an engine by itself: what blocks its thread must not block the test.
fn run(kubeconfig: &str, inputs: Inputs, pulse: Pulse, end: CancellationToken) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let engine = Engine::new(Client::try_from(config)?, "hub", impatient(), inputs);
        engine.run(None, pulse, end).await;
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planner_that_is_stuck_is_no_longer_alive() -> Result<()> {
    let world = World::start(&[]).await?;
    let (health, end) = (Health::default(), CancellationToken::new());
    let (settings, mesh) = watch::channel(Some(mesh()));
    let inputs = inputs(mesh);
    let kubeconfig = world.hub().kubeconfig(User::admin())?;
    let pulse = health.pulse("the planner", STUCK, Instant::now());
    let ended = end.clone();
    let engine = std::thread::spawn(move || run(&kubeconfig, inputs, pulse, ended));
    world.policy("a", "b", "50/s").await?;
    eventually("it has planned", async || {
        let policy = policies(world.client("hub")).get("worker").await?;
        Ok(policy.metadata.finalizers.is_some())
    })
    .await?;
    // With nothing to do it lives, and so it does without its hub.
    world.hub().api_server().pause().await?;
    tokio::time::sleep(STUCK * 2).await;
    let stuck = health.alive(Instant::now());
    world.hub().api_server().resume()?;
    ensure!(stuck.is_empty(), "{stuck:?}");

    // Whoever holds the settings' lock holds the planner.
    let (release, held) = mpsc::channel::<()>();
    std::thread::spawn(move || settings.send_modify(|_| held.recv().unwrap_or_default()));
    world.policy("a", "b", "60/s").await?;
    eventually("it is stuck", async || {
        let stuck = health.alive(Instant::now());
        Ok(stuck
            .iter()
            .any(|it| it.starts_with("the planner is stuck")))
    })
    .await?;
    drop(release);
    let lives = async || Ok(health.alive(Instant::now()).is_empty());
    eventually("it lives", lives).await?;
    end.cancel();
    let ended = tokio::task::spawn_blocking(|| engine.join()).await?;
    ended.ok().context("the engine panicked")?
}
