//! Writes that come too late, as from a leader that was paused: they replace nothing.

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use spillway_api::istio;
use spillway_controller::engine::write::Writer;
use spillway_controller::observe::index::Index;
use spillway_controller::observe::kinds::Kind;
use spillway_plan::diff::Action;
use spillway_plan::output::Key;
use tokio::sync::watch;

use crate::world::{World, impatient, spec};

fn rule(host: &str, version: Option<&str>) -> Value {
    let mut rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {
            "name": "spillway-worker",
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "spillway"},
        },
        "spec": {"host": host},
    });
    if let Some(version) = version {
        rule["metadata"]["resourceVersion"] = version.into();
    }
    rule
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_comes_late_replaces_nothing() -> Result<()> {
    let world = World::start(&["a"]).await?;
    let client = world.client("a");
    let key = Key::new(istio::Kind::DESTINATION_RULE, "shop", "spillway-worker");
    // Each sees what it saw when it went to sleep.
    let index = || {
        let index = Index::new(watch::Sender::new(0), watch::Sender::new(0));
        index.open((Kind::DestinationRule, "shop".to_owned()));
        index
    };
    let apply = |object: Value| Action::Apply {
        key: key.clone(),
        object,
    };
    let carry_out = async |index: &Index, action: &Action| {
        let writer = Writer {
            client: &client,
            index,
            deadline: impatient().deadline,
        };
        writer.carry_out(action).await
    };
    let rules: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "shop", &Kind::DestinationRule.resource());
    let host = async || -> Result<Value> {
        let there = rules.get("spillway-worker").await?;
        Ok(spec(&there)["host"].clone())
    };

    let first = index();
    carry_out(&first, &apply(rule("new", None))).await?;
    let made = rules.get("spillway-worker").await?;
    let version = made.metadata.resource_version.context("no version")?;

    // One that thinks that there is none: refused, and then it knows better.
    let late = index();
    let failure = carry_out(&late, &apply(rule("old", None)))
        .await
        .unwrap_err();
    assert!(matches!(failure.code(), Some(409 | 422)), "{failure}");
    assert_eq!(host().await?, "new");
    assert_eq!(late.deployed().len(), 1);

    // One that has compared with what is not there any more.
    let newer = json!({"spec": {"host": "newer"}});
    let params = PatchParams::default();
    rules
        .patch("spillway-worker", &params, &Patch::Merge(&newer))
        .await?;
    let failure = carry_out(&first, &apply(rule("old", Some(&version))))
        .await
        .unwrap_err();
    assert_eq!(failure.code(), Some(409), "{failure}");
    assert_eq!(host().await?, "newer");

    // One that would delete what it has not seen.
    let uid = made.metadata.uid;
    let delete = Action::Delete { key, uid };
    let failure = carry_out(&late, &delete).await.unwrap_err();
    assert_eq!(failure.code(), Some(409), "{failure}");
    // Now it has seen it.
    carry_out(&late, &delete).await?;
    assert!(rules.get_opt("spillway-worker").await?.is_none());
    Ok(())
}
