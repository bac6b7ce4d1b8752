//! Members of versions that cannot be used: it is said in words, and mended by an upgrade.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::world::{ISTIO, World, definition, eventually};

const CLIENT: &str = "WasmPlugin/spillway-client";

#[tokio::test(flavor = "multi_thread")]
async fn members_of_wrong_versions_are_named_and_hold_up_no_other() -> Result<()> {
    let world = World::start(&["a", "b", "c"]).await?;
    // Istio 1.21 and older.
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client("b"));
    for kind in ISTIO {
        let resource = kind.resource();
        if resource.version != "v1" {
            continue;
        }
        let name = format!("{}.{}", resource.plural, resource.group);
        definitions.delete(&name, &DeleteParams::default()).await?;
        eventually("it is gone", async || {
            Ok(definitions.get_opt(&name).await?.is_none())
        })
        .await?;
        let older = definition(kind).replace("\"name\":\"v1\"", "\"name\":\"v1beta1\"");
        world.cluster("b").apply(&older).await?;
    }
    let proxy = world.cluster("c").fault_proxy().await?;
    proxy.pretend_version(Some("v1.29.14"));
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.attach_behind("c", &proxy).await?;
    let mut policy = crate::world::policy("worker", "a", "b", "7721/s");
    policy["spec"]["overflow"] = json!([
        {"cluster": "b", "maxRate": "7721/s"},
        {"cluster": "c", "maxRate": "7721/s"},
    ]);
    world.hub().apply(&policy.to_string()).await?;

    let says = ["False", "KubernetesTooOld", "v1.29.14: upgrade it to 1.30"];
    world.told_of_cluster("c", "Ready", says).await?;
    let says = ["False", "NotUsed", "install Istio 1.22 or newer in b"];
    world.told_of_cluster("b", "Ready", says).await?;
    world.has_rate("a", 7721).await?;
    let says = ["True", "RungsPassedOver", "cluster b: has no Istio"];
    world.told("worker", "RungsPassedOver", says).await?;
    assert!(world.ours("c").await?.is_empty());

    // They are upgraded.
    proxy.pretend_version(None);
    world.until("c", |ours| ours.contains_key(CLIENT)).await?;
    for kind in ISTIO {
        let mut both: Value = serde_json::from_str(&definition(kind))?;
        if kind.resource().version == "v1" {
            // What was stored once has to stay.
            let mut older = both["spec"]["versions"][0].clone();
            older["name"] = "v1beta1".into();
            older["storage"] = false.into();
            let versions = both["spec"]["versions"].as_array_mut();
            versions.context("no versions")?.push(older);
        }
        world.cluster("b").apply(&both.to_string()).await?;
    }
    world.until("b", |ours| ours.contains_key(CLIENT)).await?;
    for cluster in ["a", "b", "c"] {
        engine.settled(cluster).await?;
    }
    Ok(())
}
