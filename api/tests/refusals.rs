//! A real API server takes the good objects of `refusals.yaml`, with their defaults filled in, and
//! refuses every bad one, which is a good one with one fault, with the words that say what to
//! write instead.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::core::Request;
use kube::core::params::PostParams;
use serde::Deserialize;
use serde_json::Value;
use spillway_clusters::{Clusters, User, merge};

/// The objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    good: BTreeMap<String, Value>,
    defaults: Vec<Default>,
    bad: Vec<Bad>,
}

/// What the API server fills in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Default {
    object: String,
    path: String,
    value: Value,
}

/// A good object with one fault: `change` is a JSON merge patch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    from: String,
    change: Value,
    because: String,
}

fn table() -> Result<Table> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refusals.yaml");
    let text = std::fs::read_to_string(path).context(path)?;
    serde_saphyr::from_str(&text).context(path)
}

/// Asks to create an object, as `kubectl create --dry-run=server` does.
async fn create(client: &Client, object: &Value) -> Result<Value, kube::Error> {
    let plural = match object["kind"].as_str().unwrap() {
        "BurstPolicy" => "namespaces/default/burstpolicies",
        "Fleet" => "fleets",
        "MeshCluster" => "meshclusters",
        other => panic!("no resource {other}"),
    };
    let parameters = PostParams {
        dry_run: true,
        field_manager: None,
    };
    let url = format!("/apis/{}/v1alpha1/{plural}", spillway_api::GROUP);
    let mut request = Request::new(url)
        .create(&parameters, object.to_string().into_bytes())
        .unwrap();
    let strict = format!("{}&fieldValidation=Strict", request.uri());
    *request.uri_mut() = strict.parse().unwrap();
    client.request(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_bad_objects_in_words() -> Result<()> {
    let table = table()?;
    ensure!(
        table.bad.len() >= 40,
        "only {} bad objects",
        table.bad.len()
    );
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    for crd in spillway_api::crds::all()? {
        hub.apply(&serde_saphyr::to_string(&crd)?).await?;
    }
    let client = hub.client(User::admin())?;

    let mut wrong = Vec::new();
    for (name, object) in &table.good {
        match create(&client, object).await {
            Err(error) => wrong.push(format!("{name} is good and was refused: {error}")),
            Ok(created) => {
                let expected = table.defaults.iter().filter(|d| d.object == *name);
                for default in expected {
                    let filled = created.pointer(&default.path);
                    if filled != Some(&default.value) {
                        wrong.push(format!("{name}: {} is {filled:?}", default.path));
                    }
                }
            }
        }
    }
    for bad in &table.bad {
        let mut object = table.good.get(&bad.from).context("no such object")?.clone();
        merge(&mut object, &bad.change);
        match create(&client, &object).await {
            Ok(_) => wrong.push(format!("was taken: {}", bad.change)),
            Err(kube::Error::Api(status)) if status.message.contains(&bad.because) => {}
            Err(error) => wrong.push(format!(
                "{}: was to be refused with\n  {}\nand was with\n  {error}",
                bad.change, bad.because
            )),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
