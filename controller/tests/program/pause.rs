//! A leader that sleeps while another one leads, and wakes up with what it was about to write.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher;
use rustix::process::Signal;
use tokio_util::task::AbortOnDropHandle;

use crate::fixtures::PATIENCE;
use crate::world::{World, rate_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_up_replaces_nothing_newer() -> Result<()> {
    let world = World::start().await?;
    let first = world.replica("first").await?;
    world.led_by(&first).await?;
    world.policy(7811, &["shop"]).await?;
    world
        .have(7811, PATIENCE)
        .await
        .with_context(|| first.log())?;
    let second = world.replica("second").await?;
    second.ready().await?;
    let (rates, _watch) = rates(world.plugins("a"));

    // It has seen this one, and is about to write it: plugins are written once in a second.
    world.policy(7812, &["shop"]).await?;
    world.have(7812, PATIENCE).await?;
    world.policy(7813, &["shop"]).await?;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    first.signal(Signal::STOP)?;
    world.policy(7814, &["shop"]).await?;
    world.led_by(&second).await?;
    world
        .have(7814, PATIENCE)
        .await
        .with_context(|| second.log())?;

    first.signal(Signal::CONT)?;
    first.says("this process does not lead any more", 1).await?;
    world.policy(7815, &["shop"]).await?;
    world.have(7815, PATIENCE).await?;
    // Longer than what it may still have under way.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    first.ready().await?;
    world.led_by(&second).await?;
    let seen = rates.lock().expect("no panic").clone();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&7811), Some(&7815)));

    // It stands by again, and knows what the other did.
    let logs = [first.log(), second.log()];
    second.stop().await?;
    world.led_by(&first).await?;
    world.policy(7816, &["shop"]).await?;
    world
        .have(7816, PATIENCE)
        .await
        .with_context(|| first.log())?;
    world.keeps_secrets(&logs).await
}

/// The rates of all versions of a plugin, in their order.
fn rates(plugins: Api<DynamicObject>) -> (Arc<Mutex<Vec<u32>>>, AbortOnDropHandle<()>) {
    let rates: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = rates.clone();
    let watch = async move {
        let config = watcher::Config::default().fields("metadata.name=spillway-client");
        let mut events = pin!(watcher(plugins, config));
        while let Some(event) = events.next().await {
            if let Ok(watcher::Event::InitApply(found) | watcher::Event::Apply(found)) = event {
                seen.lock().expect("no panic").extend(rate_of(&found));
            }
        }
    };
    (rates, AbortOnDropHandle::new(tokio::spawn(watch)))
}
