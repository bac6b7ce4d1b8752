//! With the rights of the charts and no more; and what the program tells.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use serde_json::json;
use spillway_api::burst_policy::ApplyState;
use spillway_controller::observe::kinds::Kind;

use crate::fixtures::{PATIENCE, eventually};
use crate::world::{NAMESPACE, World};

#[tokio::test(flavor = "multi_thread")]
async fn where_it_may_not_look_it_says_so_and_goes_on() -> Result<()> {
    let world = World::start().await?;
    // Held by nobody who lives, with times of a clock that is hours ahead.
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "spillway-controller", "namespace": NAMESPACE},
        "spec": {
            "holderIdentity": "another_0",
            "leaseDurationSeconds": 2,
            "acquireTime": "2099-01-01T00:00:00.000000Z",
            "renewTime": "2099-01-01T00:00:00.000000Z",
        },
    });
    world.hub().apply(&lease.to_string()).await?;
    let only = world.replica("only").await?;
    only.ready().await?;
    world.led_by(&only).await?;

    // In `b` the account has no right to `front`.
    world.policy(7821, &["shop", "front"]).await?;
    world
        .have(7821, PATIENCE)
        .await
        .with_context(|| only.log())?;
    let policies = world.policies();
    let read = async || -> Result<_> {
        let status = policies.get("worker").await?.status.unwrap_or_default();
        let programmed = status.conditions.iter().find(|it| it.type_ == "Programmed");
        let told = programmed.map(|it| (it.status.clone(), it.message.clone()));
        Ok((told.unwrap_or_default(), status))
    };
    eventually("b is named, and a has all", async || {
        let ((holds, message), status) = read().await?;
        Ok(holds == "False"
            && message.contains("1 of 2 clusters could not be written to: b")
            && status
                .clusters
                .iter()
                .any(|it| it.name == "a" && it.state == ApplyState::Applied))
    })
    .await
    .with_context(|| only.log())?;
    let (_, status) = read().await?;
    let b = status.clusters.iter().find(|it| it.name == "b");
    let error = b.and_then(|b| b.error.clone());
    let error = error.context("no error")?;
    assert!(error.contains("403") && error.contains("front"), "{error}");
    let plugins = Api::<kube::api::DynamicObject>::namespaced_with(
        world.client("a"),
        "front",
        &Kind::WasmPlugin.resource(),
    );
    plugins.get("spillway-client").await?;

    // The others go on.
    world.policy(7822, &["shop", "front"]).await?;
    world.have(7822, PATIENCE).await?;

    assert_eq!(only.get("/healthz").await?, "ok\n");
    let metrics = only.get("/metrics").await?;
    assert!(
        metrics.contains("spillway_controller_leader 1"),
        "{metrics}"
    );
    let level = "info,spillway_controller=debug,kube=debug,hyper=debug";
    assert!(only.set_level(level).await?.contains("debug"));
    world.policy(7823, &["shop"]).await?;
    world.have(7823, PATIENCE).await?;
    eventually("all is well", async || Ok(read().await?.0.0 == "True")).await?;

    // It writes its own time, whatever stood there.
    let leases: Api<Lease> = Api::namespaced(world.client("hub"), NAMESPACE);
    let spec = leases.get("spillway-controller").await?.spec;
    let renewed = spec.and_then(|spec| spec.renew_time).context("never")?;
    ensure!(renewed.0 < "2099-01-01T00:00:00Z".parse()?, "{renewed:?}");
    world.keeps_secrets(&[only.log()]).await
}
