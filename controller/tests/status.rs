//! Statuses and events on a real API server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use spillway_api::BurstPolicy;
use spillway_api::burst_policy::ApplyState;
use spillway_clusters::{Clusters, User};
use spillway_controller::status::{Holds, Progress, Published, Publisher, Stated, policy};

const DEFINITIONS: &str =
    include_str!("../../charts/spillway/crds/burstpolicies.spillway.dev.yaml");
const POLICY: &str = "
apiVersion: spillway.dev/v1alpha1
kind: BurstPolicy
metadata: {name: worker, namespace: default}
spec:
  targetRefs: [{name: worker}]
  overflow: [{cluster: burst}]
  capacity: {perEndpoint: {rate: 50/s}}
";

fn progress(state: ApplyState, error: Option<String>) -> Progress {
    Progress {
        state,
        generation: Some(1),
        waits_for: None,
        error,
    }
}

fn accepted() -> Vec<Stated> {
    vec![Stated::new(
        "Accepted",
        Holds::True,
        "Accepted",
        "it is carried out",
    )]
}

fn now() -> Time {
    Time(Timestamp::now())
}

fn written(published: Published<BurstPolicy>) -> Result<BurstPolicy> {
    match published {
        Published::Written(object) => Ok(*object),
        other => bail!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_written_when_it_changes_with_events() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    hub.apply(DEFINITIONS).await?;
    hub.apply(POLICY).await?;
    let client = hub.client(User::admin())?;
    let policies: Api<BurstPolicy> = Api::default_namespaced(client.clone());
    let publisher = Publisher::new(client.clone(), "test", Duration::from_secs(30));
    let first = policies.get("worker").await?;

    let mut states = BTreeMap::from([("burst".to_owned(), progress(ApplyState::Pending, None))]);
    let status = policy(None, first.metadata.generation, accepted(), &states, &now());
    let second = written(publisher.publish(&policies, &first, status).await?)?;
    assert_eq!(
        second
            .status
            .as_ref()
            .and_then(|status| status.summary.as_deref()),
        Some("0/1")
    );

    // Nothing changed: nothing is written.
    let same = policy(
        second.status.as_ref(),
        second.metadata.generation,
        accepted(),
        &states,
        &now(),
    );
    let unchanged = publisher.publish(&policies, &second, same).await?;
    assert!(matches!(unchanged, Published::Unchanged));
    assert_eq!(
        policies.get("worker").await?.resource_version(),
        second.resource_version()
    );

    // Whoever saw an older object does not write.
    let failed = progress(ApplyState::Failed, Some("no answer within 10 s".to_owned()));
    states.insert("burst".to_owned(), failed);
    let status = policy(
        second.status.as_ref(),
        second.metadata.generation,
        accepted(),
        &states,
        &now(),
    );
    let outdated = publisher.publish(&policies, &first, status.clone()).await?;
    assert!(matches!(outdated, Published::Outdated));
    let third = written(publisher.publish(&policies, &second, status).await?)?;

    // What is not there any more is gone from the status.
    states.insert("burst".to_owned(), progress(ApplyState::Applied, None));
    let status = policy(
        third.status.as_ref(),
        third.metadata.generation,
        accepted(),
        &states,
        &now(),
    );
    let fourth = written(publisher.publish(&policies, &third, status.clone()).await?)?;
    assert_eq!(fourth.status.as_ref(), Some(&status));
    assert!(
        status
            .clusters
            .iter()
            .all(|cluster| cluster.error.is_none())
    );

    let events: Api<Event> = Api::default_namespaced(client);
    let events = events.list(&ListParams::default()).await?;
    let mut told: Vec<String> = events
        .iter()
        .filter_map(|event| {
            let (kind, reason) = (event.type_.as_deref()?, event.reason.as_deref()?);
            let regarding = event.regarding.as_ref()?;
            // API servers tell of their own Services too.
            let is_ours = regarding.kind.as_deref() == Some("BurstPolicy");
            let name = regarding.name.as_deref().filter(|_| is_ours)?;
            Some(format!("{name} {kind} {reason}"))
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "worker Normal Accepted",
            "worker Normal Pending",
            "worker Normal Programmed",
            "worker Warning Failed"
        ]
    );

    let table = hub
        .kubectl(User::admin(), &["get", "burstpolicies"])
        .await?;
    let row = table.lines().nth(1).context("no row")?;
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        columns.get(..7),
        Some(&["worker", "worker", "Spill", "Active", "True", "True", "1/1"][..])
    );
    Ok(())
}

/// The definitions bound what a status may hold; the largest that is ever written fits.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_status_of_3000_clusters_that_fail() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    hub.apply(DEFINITIONS).await?;
    hub.apply(POLICY).await?;
    let policies: Api<BurstPolicy> = Api::default_namespaced(hub.client(User::admin())?);
    let publisher = Publisher::new(hub.client(User::admin())?, "test", Duration::from_secs(30));
    let failed = |n: usize| {
        (
            format!("{n:0>253}"),
            progress(ApplyState::Failed, Some("ä".repeat(10_000))),
        )
    };
    let states: BTreeMap<String, Progress> = (0..3000).map(failed).collect();
    let kinds = [
        "Accepted",
        "Conflicted",
        "BounceDisabled",
        "GatewayNotCovered",
        "RoutesNotCovered",
    ];
    let stated =
        || kinds.map(|kind| Stated::new(kind, Holds::True, "Reason", "x".repeat(1_000_000)));
    let object = policies.get("worker").await?;
    let status = policy(
        None,
        object.metadata.generation,
        stated().to_vec(),
        &states,
        &now(),
    );
    let object = written(publisher.publish(&policies, &object, status).await?)?;
    assert_eq!(
        object
            .status
            .map(|status| (status.failed, status.clusters.len())),
        Some((3000, 64))
    );

    // Another's write in between is noticed, also when it is to another part.
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "mesh"}}}));
    let before = policies.get("worker").await?;
    policies
        .patch("worker", &PatchParams::default(), &label)
        .await?;
    let status = policy(
        None,
        before.metadata.generation,
        stated().to_vec(),
        &BTreeMap::new(),
        &now(),
    );
    let outdated = publisher.publish(&policies, &before, status).await?;
    assert!(matches!(outdated, Published::Outdated));
    Ok(())
}
