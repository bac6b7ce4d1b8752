//! What people see: `kubectl get` of each resource, with its status, by name and by category.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use anyhow::{Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spillway_api::burst_policy::{ApplyState, ClusterState};
use spillway_api::fleet::Band;
use spillway_api::mesh_cluster::Versions;
use spillway_api::{
    BurstPolicy, BurstPolicyStatus, Fleet, FleetStatus, MeshCluster, MeshClusterStatus,
};
use spillway_clusters::{Cluster, Clusters, User};

const OBJECTS: &str = "
apiVersion: spillway.dev/v1alpha1
kind: BurstPolicy
metadata: {name: worker, namespace: default}
spec:
  targetRefs: [{name: worker-service}]
  home: primary
  overflow: [{cluster: burst}]
  capacity: {total: {rate: 15/s}}
---
apiVersion: spillway.dev/v1alpha1
kind: Fleet
metadata: {name: cloud}
spec: {clusterSelector: {matchLabels: {site: cloud}}}
---
apiVersion: spillway.dev/v1alpha1
kind: MeshCluster
metadata: {name: burst}
spec: {secretRef: {namespace: spillway-system, name: burst}, controlPlane: primary}
";

fn condition(kind: &str, status: &str) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: "AsExpected".to_owned(),
        message: format!("{kind} is {status}"),
        observed_generation: Some(1),
        last_transition_time: Time("2026-11-21T10:00:00Z".parse().unwrap()),
    }
}

async fn set_status<K>(api: Api<K>, name: &str, status: impl Serialize) -> Result<Value>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Serialize,
{
    let patch = json!({"status": status});
    let parameters = PatchParams::default();
    let written = api
        .patch_status(name, &parameters, &Patch::Merge(patch))
        .await?;
    Ok(serde_json::to_value(written)?)
}

async fn columns(hub: &Cluster, resource: &str) -> Result<Vec<Vec<String>>> {
    let table = hub
        .kubectl(User::admin(), &["get", resource, "-o", "wide"])
        .await?;
    // The age differs from run to run; columns are parted by two spaces or more.
    let row = |line: &str| {
        let cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    Ok(table.lines().map(row).collect())
}

fn assert_reads(table: &[Vec<String>], expected: &[(&str, &str)]) -> Result<()> {
    ensure!(table.len() == 2, "{table:?}");
    let names: Vec<&str> = table
        .iter()
        .flat_map(|row| row.first())
        .map(String::as_str)
        .collect();
    ensure!(names.first() == Some(&"NAME"), "{table:?}");
    for (column, value) in expected {
        let at = table.iter().flatten().position(|cell| cell == column);
        let cell = at.and_then(|at| table.last()?.get(at));
        ensure!(
            cell.is_some_and(|cell| cell == value),
            "{column} in {table:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_get_reads_well() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    for crd in spillway_api::crds::all()? {
        hub.apply(&serde_saphyr::to_string(&crd)?).await?;
    }
    hub.apply(OBJECTS).await?;
    let client = hub.client(User::admin())?;

    let policies: Api<BurstPolicy> = Api::namespaced(client.clone(), "default");
    let status = BurstPolicyStatus {
        observed_generation: Some(1),
        conditions: vec![
            condition("Accepted", "True"),
            condition("Programmed", "False"),
        ],
        summary: Some("11/12".to_owned()),
        desired: 12,
        applied: 11,
        failed: 1,
        clusters: vec![ClusterState {
            name: "burst".to_owned(),
            generation: Some(1),
            state: ApplyState::Failed,
            error: Some("connection refused".to_owned()),
            since: None,
        }],
    };
    let written = set_status(policies, "worker", &status).await?;
    assert_eq!(
        written["status"],
        serde_json::to_value(&status)?,
        "nothing is pruned"
    );
    let expected = [
        ("SERVICE", "worker-service"),
        ("MODE", "Spill"),
        ("ENFORCEMENT", "Active"),
        ("ACCEPTED", "True"),
        ("PROGRAMMED", "False"),
        ("CLUSTERS", "11/12"),
        ("HOME", "primary"),
        ("BOUNCE", "On"),
        ("MESSAGE", "Accepted is True"),
    ];
    for name in ["burstpolicy", "bp", "burstpolicies.v1alpha1.spillway.dev"] {
        assert_reads(&columns(hub, name).await?, &expected)?;
    }

    let status = FleetStatus {
        clusters: 12,
        deployed: 11,
        failed: 1,
        score: Some(91),
        band: Some(Band::of(91)),
        ..FleetStatus::default()
    };
    let written = set_status(Api::<Fleet>::all(client.clone()), "cloud", &status).await?;
    assert_eq!(
        written["status"],
        serde_json::to_value(&status)?,
        "nothing is pruned"
    );
    let expected = [
        ("CLUSTERS", "12"),
        ("DEPLOYED", "11"),
        ("IN PROGRESS", "0"),
        ("FAILED", "1"),
        ("HEALTH", "green"),
    ];
    assert_reads(&columns(hub, "fleet").await?, &expected)?;

    let status = MeshClusterStatus {
        conditions: vec![condition("Reachable", "True"), condition("Ready", "False")],
        uid: Some("2f1f".to_owned()),
        versions: Some(Versions {
            kubernetes: Some("v1.36.4".to_owned()),
        }),
        system_labels: [("topology.istio.io/network".to_owned(), "eu".to_owned())].into(),
        score: Some(40),
        ..MeshClusterStatus::default()
    };
    let written = set_status(Api::<MeshCluster>::all(client.clone()), "burst", &status).await?;
    assert_eq!(
        written["status"],
        serde_json::to_value(&status)?,
        "nothing is pruned"
    );
    let expected = [
        ("REACHABLE", "True"),
        ("READY", "False"),
        ("ACCESS", "Attached"),
        ("CONTROL PLANE", "primary"),
        ("KUBERNETES", "v1.36.4"),
        ("MESSAGE", "Ready is False"),
    ];
    assert_reads(&columns(hub, "mc").await?, &expected)?;

    let all = hub
        .kubectl(User::admin(), &["get", "spillway", "-o", "name"])
        .await?;
    for name in [
        "burstpolicy.spillway.dev/worker",
        "fleet.spillway.dev/cloud",
        "meshcluster.spillway.dev/burst",
    ] {
        ensure!(all.contains(name), "{name} in {all}");
    }
    let described = hub
        .kubectl(User::admin(), &["explain", "burstpolicy.spec.overflow"])
        .await?;
    ensure!(
        described.contains("Where the excess goes, in this order."),
        "{described}"
    );
    Ok(())
}
