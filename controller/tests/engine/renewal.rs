//! The filter's image can be had again: its plugins are written anew, and nothing else.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::DynamicObject;
use spillway_controller::image::{Returned, Unavailable};
use spillway_plan::output::INTENT;
use tokio::sync::watch;

use crate::world::{World, spec};

const CLUSTERS: [&str; 2] = ["a", "b"];
/// More than the repairs of an object that come at once.
const RETURNS: u64 = 5;

fn generation(plugin: &DynamicObject) -> Option<u64> {
    spec(plugin)["pluginConfig"]["generation"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_written_anew_once_for_each_return() -> Result<()> {
    let world = World::start(&CLUSTERS).await?;
    for cluster in CLUSTERS {
        world.attach(cluster).await?;
    }
    world.policy("a", "b", "50/s").await?;
    let (tell, image) = watch::channel(Ok(Returned::default()));
    let running = world.engine_told(image).await?;
    let mut before = Vec::new();
    for cluster in CLUSTERS {
        running.settled(cluster).await?;
        before.push(world.ours(cluster).await?);
    }
    for returned in (1..=RETURNS).map(Returned) {
        tell.send_modify(|known| {
            *known = Err(Unavailable {
                reason: "RegistryUnreachable",
                message: "it is away".to_owned(),
            });
        });
        tell.send_modify(|known| *known = Ok(returned));
        for cluster in CLUSTERS {
            let answered = running.until(cluster, |report| report.renewed == returned);
            let report = answered.await?;
            // Nobody's fault, and no change that came to the cluster.
            ensure!(report.repairs == 0 && report.is_settled(), "{report:?}");
        }
    }
    for (cluster, before) in CLUSTERS.iter().zip(before) {
        let after = world.ours(cluster).await?;
        ensure!(after.len() == before.len());
        for (name, object) in after {
            let was = &before[&name];
            ensure!(object.annotations()[INTENT] == was.annotations()[INTENT]);
            if name.starts_with("WasmPlugin") {
                let counted = generation(was).map(|generation| generation + RETURNS);
                ensure!(generation(&object) == counted, "{name}: {object:?}");
            } else {
                ensure!(
                    object.resource_version() == was.resource_version(),
                    "{name}"
                );
            }
        }
    }
    Ok(())
}
