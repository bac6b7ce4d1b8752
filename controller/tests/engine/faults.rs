//! Clusters that misbehave: no other is held up, and nothing is lost once it is over.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams};
use spillway_clusters::{FaultProxy, Method, Requests, StatusCode, User};

use crate::world::{ISTIO, Running, World, definition, eventually, policies};

const CLIENT: &str = "WasmPlugin/spillway-client";

/// Two clusters that have a policy, of which `b` is reached through a proxy.
async fn two() -> Result<(World, FaultProxy, Running)> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.policy("a", "b", "50/s").await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    Ok((world, proxy, engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_hangs_holds_up_no_other() -> Result<()> {
    let (world, proxy, engine) = two().await?;
    proxy.hang();
    world.policy("a", "b", "7771/s").await?;
    world.has_rate("a", 7771).await?;
    let report = engine.until("b", |report| report.problem.is_some()).await?;
    assert_eq!(report.problem.context("none")?.reason, "NoAnswer");
    proxy.resume();
    world.has_rate("b", 7771).await?;
    engine.settled("b").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_refuses_holds_up_no_other() -> Result<()> {
    let (world, proxy, engine) = two().await?;
    proxy.refuse().await;
    world.policy("a", "b", "7772/s").await?;
    world.has_rate("a", 7772).await?;
    engine
        .until("b", |report| {
            report.problem.is_some() || report.unseen.is_some()
        })
        .await?;
    proxy.accept().await?;
    world.has_rate("b", 7772).await?;
    engine.settled("b").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_for_a_while_are_outlasted() -> Result<()> {
    let (world, proxy, engine) = two().await?;
    let mut rate = 7000;
    for status in [409, 429, 500] {
        rate += 1;
        let status = StatusCode::from_u16(status)?;
        proxy.fail_next(4, Requests::all().method(Method::PATCH), status);
        world.policy("a", "b", &format!("{rate}/s")).await?;
        world.has_rate("a", rate).await?;
        world.has_rate("b", rate).await?;
        engine.settled("b").await?;
        proxy.fail_no_more();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_are_taken_at_once() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    let expired = world.cluster("b").kubeconfig(User::admin().expired())?;
    world.attach_as("b", &expired).await?;
    world.policy("a", "b", "50/s").await?;
    let report = engine.until("b", |report| report.problem.is_some()).await?;
    assert_eq!(report.problem.context("none")?.reason, "Unauthorized");
    let good = world.cluster("b").kubeconfig(User::admin())?;
    world.secret("b", &good).await?;
    world.until("b", |ours| ours.contains_key(CLIENT)).await?;
    engine.settled("b").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_istio_gets_its_objects_when_it_has() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client("b"));
    for kind in ISTIO {
        let resource = kind.resource();
        let name = format!("{}.{}", resource.plural, resource.group);
        definitions.delete(&name, &DeleteParams::default()).await?;
        eventually("it is gone", async || {
            Ok(definitions.get_opt(&name).await?.is_none())
        })
        .await?;
    }
    let _engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "50/s").await?;
    let says = ["False", "NotUsed", "install Istio 1.22 or newer in b"];
    world.told_of_cluster("b", "Ready", says).await?;
    for kind in ISTIO {
        world.cluster("b").apply(&definition(kind)).await?;
    }
    world.until("b", |ours| ours.contains_key(CLIENT)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_goes_without_a_cluster_that_stays_away() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let options = spillway_controller::engine::Options {
        abandon_after: std::time::Duration::from_secs(3),
        ..crate::world::impatient()
    };
    let engine = world.engine_with(options).await?;
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.policy("a", "b", "50/s").await?;
    engine.settled("a").await?;
    engine.settled("b").await?;

    proxy.refuse().await;
    engine.until("b", |report| report.unseen.is_some()).await?;
    let policies = policies(world.client("hub"));
    policies.delete("worker", &DeleteParams::default()).await?;
    world.until("a", |ours| ours.is_empty()).await?;
    assert!(
        policies.get_opt("worker").await?.is_some(),
        "it waits for b"
    );
    eventually("it goes", async || {
        Ok(policies.get_opt("worker").await?.is_none())
    })
    .await?;
    assert!(!world.ours("b").await?.is_empty());

    // Back again, it is cleaned.
    proxy.accept().await?;
    world.until("b", |ours| ours.is_empty()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_every_server_changes_nothing() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world.attach("b").await?;
    world.policy("a", "b", "50/s").await?;
    engine.settled("a").await?;
    engine.settled("b").await?;
    let before = world.ours("a").await?;
    world.clusters().etcd().restart().await?;
    for cluster in ["hub", "a", "b"] {
        world.cluster(cluster).api_server().restart().await?;
    }
    world.policy("a", "b", "7773/s").await?;
    world.has_rate("a", 7773).await?;
    world.has_rate("b", 7773).await?;
    let after = world.ours("a").await?;
    let rule = "DestinationRule/spillway-worker";
    assert_eq!(
        crate::world::versions(&after)[rule],
        crate::world::versions(&before)[rule]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_one_namespace_does_what_it_may() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    world.cluster("b").apply(RIGHTS).await?;
    let account = world
        .cluster("b")
        .service_account("spillway-system", "spillway")
        .await?;
    let engine = world.engine().await?;
    world.attach("a").await?;
    world
        .attach_as("b", &world.cluster("b").kubeconfig(account)?)
        .await?;
    let mut policy = crate::world::policy("worker", "a", "b", "50/s");
    policy["spec"]["clients"] = serde_json::json!({"namespaces": ["shop", "front"]});
    world.hub().apply(&policy.to_string()).await?;
    let report = engine
        .until("b", |report| !report.failed.is_empty())
        .await?;
    assert_eq!(report.forbidden, ["front"]);
    let message = report.failed.get("shop/worker").context("another policy")?;
    assert!(
        message.contains("403") && message.contains("front"),
        "{message}"
    );
    let ours = world.until("b", |ours| ours.contains_key(CLIENT)).await?;
    assert!(
        ours.values()
            .all(|it| it.metadata.namespace.as_deref() == Some("shop"))
    );

    // Given the right, it does the rest.
    world
        .cluster("b")
        .apply(&RIGHTS.replace("namespace: shop", "namespace: front"))
        .await?;
    engine.settled("b").await?;
    Ok(())
}

const RIGHTS: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: spillway, namespace: spillway-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: everywhere}
rules: [{apiGroups: [''], resources: [namespaces], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: everywhere}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: everywhere}
subjects: [{kind: ServiceAccount, name: spillway, namespace: spillway-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: claim, namespace: spillway-system}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: claim, namespace: spillway-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: claim}
subjects: [{kind: ServiceAccount, name: spillway, namespace: spillway-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: member, namespace: shop}
rules:
- {apiGroups: [''], resources: [services], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.istio.io], resources: [gateways, serviceentries], verbs: [get, list, watch]}
- {apiGroups: [gateway.networking.k8s.io], resources: [httproutes], verbs: [get, list, watch]}
- apiGroups: [networking.istio.io]
  resources: [destinationrules, virtualservices]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [extensions.istio.io]
  resources: [wasmplugins]
  verbs: [get, list, watch, create, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: member, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: member}
subjects: [{kind: ServiceAccount, name: spillway, namespace: spillway-system}]
";
