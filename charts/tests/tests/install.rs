//! The charts on real API servers: what is there after each step, and what the accounts may do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use spillway_charts::{Helm, charts};
use spillway_clusters::{Cluster, Clusters, User, apply};

const NAMESPACE: &str = "--namespace=spillway-system";

fn values(case: &str) -> String {
    let path = charts().join(format!("tests/golden/{case}.values.yaml"));
    format!("--values={}", path.display())
}

fn helm(cluster: &Cluster) -> Result<Helm> {
    Helm::with_cluster(&cluster.kubeconfig(User::admin())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_is_installed_upgraded_rolled_back_and_removed() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    let helm = helm(hub)?;
    let client = hub.client(User::admin())?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "spillway-system");
    let replicas = async || -> Result<Option<i32>> {
        let deployment = deployments.get("spillway-controller").await?;
        Ok(deployment.spec.and_then(|spec| spec.replicas))
    };

    let least = values("controller-least");
    let notes = helm.succeed(&[
        "install",
        "spillway",
        "spillway",
        NAMESPACE,
        "--create-namespace",
        &least,
    ])?;
    assert!(notes.contains("kubectl get burstpolicies"), "{notes}");
    assert_eq!(replicas().await?, Some(2));
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "spillway-system");
    budgets.get("spillway-controller").await?;
    definitions_are_served(&client).await?;
    rights_on_the_hub(hub).await?;

    // The definitions are upgraded beside Helm, which never touches them again.
    let definitions = helm.succeed(&["show", "crds", "spillway"])?;
    assert_eq!(apply(&client, &definitions).await?.len(), 3);
    helm.succeed(&[
        "upgrade",
        "spillway",
        "spillway",
        NAMESPACE,
        &least,
        "--set=replicas=3",
    ])?;
    assert_eq!(replicas().await?, Some(3));
    helm.succeed(&["rollback", "spillway", "1", NAMESPACE])?;
    assert_eq!(replicas().await?, Some(2));

    // A policy outlives the controller.
    let policy = "{apiVersion: spillway.dev/v1alpha1, kind: Fleet, metadata: {name: cloud}, \
                  spec: {clusterSelector: {matchLabels: {site: cloud}}}}";
    apply(&client, policy).await?;
    helm.succeed(&["uninstall", "spillway", NAMESPACE])?;
    assert!(
        deployments
            .list(&ListParams::default())
            .await?
            .items
            .is_empty()
    );
    let left = hub
        .kubectl(
            User::admin(),
            &[
                "get",
                "clusterroles,clusterrolebindings,roles,rolebindings,services,serviceaccounts",
                "--all-namespaces",
                "--selector=app.kubernetes.io/part-of=spillway",
                "--output=name",
            ],
        )
        .await?;
    assert_eq!(left, "");
    let fleets = hub
        .kubectl(User::admin(), &["get", "fleets", "--output=name"])
        .await?;
    assert_eq!(fleets, "fleet.spillway.dev/cloud\n");
    Ok(())
}

async fn definitions_are_served(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in ["burstpolicies", "fleets", "meshclusters"] {
        definitions.get(&format!("{name}.spillway.dev")).await?;
    }
    Ok(())
}

/// Everything that the account may do on the hub, and some of what it may not.
async fn rights_on_the_hub(hub: &Cluster) -> Result<()> {
    let account = hub
        .service_account("spillway-system", "spillway-controller")
        .await?;
    for (may, arguments) in [
        (true, "watch burstpolicies.spillway.dev --all-namespaces"),
        (
            true,
            "update burstpolicies.spillway.dev --subresource=status --namespace=shop",
        ),
        (true, "update fleets.spillway.dev --subresource=status"),
        (true, "patch burstpolicies.spillway.dev --namespace=shop"),
        (true, "create events.events.k8s.io --namespace=shop"),
        (true, "get namespaces/kube-system"),
        (
            true,
            "create leases.coordination.k8s.io --namespace=spillway-system",
        ),
        (
            true,
            "update leases.coordination.k8s.io/spillway-controller --namespace=spillway-system",
        ),
        (true, "watch secrets --namespace=spillway-system"),
        (true, "create secrets --namespace=spillway-system"),
        (
            true,
            "patch secrets/spillway-tokens --namespace=spillway-system",
        ),
        (false, "patch secrets/another --namespace=spillway-system"),
        (
            false,
            "update secrets/spillway-tokens --namespace=spillway-system",
        ),
        (
            false,
            "delete secrets/spillway-tokens --namespace=spillway-system",
        ),
        (
            false,
            "update leases.coordination.k8s.io/another --namespace=spillway-system",
        ),
        (false, "get secrets --namespace=istio-system"),
        (false, "get secrets --namespace=shop"),
        (false, "list namespaces"),
        (false, "create burstpolicies.spillway.dev --namespace=shop"),
        (false, "delete burstpolicies.spillway.dev --namespace=shop"),
        (false, "create meshclusters.spillway.dev"),
        (false, "delete meshclusters.spillway.dev"),
        (false, "patch meshclusters.spillway.dev"),
        (false, "update fleets.spillway.dev"),
        (false, "get pods --namespace=spillway-system"),
        (
            false,
            "create virtualservices.networking.istio.io --namespace=shop",
        ),
        (
            false,
            "create clusterrolebindings.rbac.authorization.k8s.io",
        ),
    ] {
        let arguments = ["auth", "can-i"].into_iter().chain(arguments.split(' '));
        let arguments: Vec<&str> = arguments.collect();
        // It fails where the answer is no.
        let answer = hub.kubectl(account.clone(), &arguments).await;
        assert_eq!(answer.is_ok(), may, "{arguments:?}: {answer:?}");
    }
    Ok(())
}

/// Istio's kinds, as far as the rights are about them.
fn istio() -> String {
    let definition = |group: &str, version: &str, kind: &str, plural: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [{
                    "name": version, "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    }},
                }],
            },
        })
        .to_string()
    };
    let networking = "networking.istio.io";
    [
        definition(networking, "v1", "VirtualService", "virtualservices"),
        definition(networking, "v1", "DestinationRule", "destinationrules"),
        definition(
            "extensions.istio.io",
            "v1alpha1",
            "WasmPlugin",
            "wasmplugins",
        ),
    ]
    .join("\n---\n")
}

const NAMESPACES: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: bank}}
";

fn api(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = match kind {
        "WasmPlugin" => ("extensions.istio.io", "v1alpha1"),
        "ConfigMap" => ("", "v1"),
        _ => ("networking.istio.io", "v1"),
    };
    let kind = GroupVersionKind::gvk(group, version, kind);
    Api::namespaced_with(
        client.clone(),
        namespace,
        &kube::api::ApiResource::from_gvk(&kind),
    )
}

fn object(kind: &str, name: &str, labelled: bool, spec: Value) -> Result<DynamicObject> {
    let api_version = match kind {
        "WasmPlugin" => "extensions.istio.io/v1alpha1",
        "ConfigMap" => "v1",
        _ => "networking.istio.io/v1",
    };
    let labels = if labelled {
        json!({"app.kubernetes.io/managed-by": "spillway"})
    } else {
        json!({})
    };
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels},
    });
    let field = if kind == "ConfigMap" { "data" } else { "spec" };
    if let Some(object) = object.as_object_mut() {
        object.insert(field.to_owned(), spec);
    }
    Ok(serde_json::from_value(object)?)
}

/// What the API server says to a request: nothing where it carries it out.
fn said<T>(answer: kube::Result<T>) -> Result<String> {
    match answer {
        Ok(_) => Ok(String::new()),
        Err(kube::Error::Api(status)) => Ok(status.message),
        Err(error) => Err(error.into()),
    }
}

const NOT_OURS: &str = "writes only objects with the label";
const NOT_OUR_ROUTE: &str = "adds and removes only routes named spillway-*";
const NO_RIGHT: &str = "cannot";

#[tokio::test(flavor = "multi_thread")]
async fn a_members_account_writes_only_what_is_spillways() -> Result<()> {
    let clusters = Clusters::start(&["burst"]).await?;
    let burst = clusters.cluster("burst")?;
    burst.apply(&istio()).await?;
    burst.apply(NAMESPACES).await?;
    helm(burst)?.succeed(&[
        "install",
        "spillway-member",
        "spillway-member",
        NAMESPACE,
        "--create-namespace",
        "--set=namespaces={shop}",
    ])?;
    let account = burst
        .service_account("spillway-system", "spillway-member")
        .await?;
    let client = burst.client(account)?;
    holds(&client).await?;

    objects_of_ours(&client).await?;
    objects_of_others(&burst.client(User::admin())?, &client).await?;
    claims(&client).await
}

/// Waits until the API server has taken in the policy, and the rights.
async fn holds(client: &Client) -> Result<()> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let unlabelled = object("DestinationRule", "probe", false, json!({"host": "probe"}))?;
    let began = Instant::now();
    loop {
        let answer = api(client, "DestinationRule", "shop")
            .create(&params, &unlabelled)
            .await;
        let answer = said(answer)?;
        if answer.contains(NOT_OURS) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "nothing holds the account: {answer}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn objects_of_ours(client: &Client) -> Result<()> {
    let create = PatchParams::apply("spillway").force();
    let open = json!({"failStrategy": "FAIL_OPEN"});
    for (kind, namespace, labelled, spec, answer) in [
        (
            "DestinationRule",
            "shop",
            true,
            json!({"host": "worker"}),
            "",
        ),
        (
            "VirtualService",
            "shop",
            true,
            json!({"hosts": ["worker"]}),
            "",
        ),
        ("WasmPlugin", "shop", true, open.clone(), ""),
        (
            "DestinationRule",
            "shop",
            false,
            json!({"host": "other"}),
            NOT_OURS,
        ),
        (
            "VirtualService",
            "shop",
            false,
            json!({"hosts": ["other"]}),
            NOT_OURS,
        ),
        ("WasmPlugin", "shop", false, open, NOT_OURS),
        (
            "WasmPlugin",
            "shop",
            true,
            json!({"failStrategy": "FAIL_CLOSE"}),
            "FAIL_OPEN",
        ),
        ("WasmPlugin", "shop", true, json!({}), "FAIL_OPEN"),
        (
            "DestinationRule",
            "bank",
            true,
            json!({"host": "worker"}),
            NO_RIGHT,
        ),
    ] {
        let name = if answer.is_empty() { "ours" } else { "refused" };
        let object = object(kind, name, labelled, spec.clone())?;
        let applied = api(client, kind, namespace)
            .patch(name, &create, &Patch::Apply(&object))
            .await;
        let told = said(applied)?;
        let right = if answer.is_empty() {
            told.is_empty()
        } else {
            told.contains(answer)
        };
        assert!(right, "{kind} in {namespace} with {spec}: {told}");
    }
    // What is ours stays ours, and can be deleted.
    let rules = api(client, "DestinationRule", "shop");
    let unlabel = json!({"metadata": {"labels": null}});
    let told = said(
        rules
            .patch("ours", &PatchParams::default(), &Patch::Merge(&unlabel))
            .await,
    )?;
    assert!(told.contains(NOT_OURS), "{told}");
    assert_eq!(
        said(rules.delete("ours", &DeleteParams::default()).await)?,
        ""
    );
    Ok(())
}

async fn objects_of_others(admin: &Client, client: &Client) -> Result<()> {
    let route =
        |name: &str, to: &str| json!({"name": name, "route": [{"destination": {"host": to}}]});
    let plain = json!({"route": [{"destination": {"host": "worker"}}]});
    let http = json!([route("first", "worker"), plain]);
    let theirs = json!({"hosts": ["worker"], "gateways": ["mesh"], "http": http});
    let params = PostParams::default();
    let existing = object("VirtualService", "theirs", false, theirs.clone())?;
    api(admin, "VirtualService", "shop")
        .create(&params, &existing)
        .await?;
    let rule = object(
        "DestinationRule",
        "theirs",
        false,
        json!({"host": "worker"}),
    )?;
    api(admin, "DestinationRule", "shop")
        .create(&params, &rule)
        .await?;

    let ours = route("spillway-first-burst", "worker");
    let first = route("first", "worker");
    let merged = json!({"spec": {"http": [ours, first, plain]}});
    let back = json!({"spec": {"http": http}});
    for (patch, answer) in [
        (merged, ""),
        (back, ""),
        (json!({"spec": {"http": [ours, first]}}), NOT_OUR_ROUTE),
        (
            json!({"spec": {"http": [ours, plain, first]}}),
            NOT_OUR_ROUTE,
        ),
        (
            json!({"spec": {"http": [ours, route("first", "other"), plain]}}),
            NOT_OUR_ROUTE,
        ),
        (
            json!({"spec": {"http": [route("mine", "worker"), first, plain]}}),
            NOT_OUR_ROUTE,
        ),
        (json!({"spec": {"http": null}}), NOT_OUR_ROUTE),
        (json!({"spec": {"hosts": ["other"]}}), NOT_OUR_ROUTE),
        (json!({"spec": {"gateways": null}}), NOT_OUR_ROUTE),
        (json!({"spec": {"exportTo": ["."]}}), NOT_OUR_ROUTE),
        (json!({"spec": {"tcp": [{}]}}), NOT_OUR_ROUTE),
        (
            json!({"metadata": {"annotations": {"a": "b"}}}),
            NOT_OUR_ROUTE,
        ),
        (
            json!({"metadata": {"finalizers": ["example.com/kept"]}}),
            NOT_OUR_ROUTE,
        ),
        (
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "spillway"}}}),
            NOT_OUR_ROUTE,
        ),
    ] {
        let services = api(client, "VirtualService", "shop");
        let edited = services
            .patch("theirs", &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let told = said(edited)?;
        let right = if answer.is_empty() {
            told.is_empty()
        } else {
            told.contains(answer)
        };
        assert!(right, "{patch}: {told}");
    }
    let found = api(admin, "VirtualService", "shop").get("theirs").await?;
    assert_eq!(found.data.get("spec"), Some(&theirs));

    let delete = DeleteParams::default();
    for kind in ["VirtualService", "DestinationRule"] {
        let told = said(api(client, kind, "shop").delete("theirs", &delete).await)?;
        assert!(told.contains(NOT_OURS), "{kind}: {told}");
    }
    let patch = json!({"spec": {"host": "other"}});
    let rules = api(client, "DestinationRule", "shop");
    let told = said(
        rules
            .patch("theirs", &PatchParams::default(), &Patch::Merge(&patch))
            .await,
    )?;
    assert!(told.contains(NOT_OURS), "{told}");

    // One of ours that lost its label is known by its annotation, and gets the label back.
    let mut lost = object("DestinationRule", "lost", false, json!({"host": "worker"}))?;
    lost.annotations_mut()
        .insert("spillway.dev/intent".to_owned(), "0".to_owned());
    api(admin, "DestinationRule", "shop")
        .create(&params, &lost)
        .await?;
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "spillway"}}});
    let told = said(
        rules
            .patch("lost", &PatchParams::default(), &Patch::Merge(&label))
            .await,
    )?;
    assert_eq!(told, "");
    Ok(())
}

async fn claims(client: &Client) -> Result<()> {
    let params = PostParams::default();
    for (name, namespace, answer) in [
        ("spillway-claim", "spillway-system", ""),
        (
            "another",
            "spillway-system",
            "no ConfigMap but spillway-claim",
        ),
        ("spillway-claim", "shop", NO_RIGHT),
    ] {
        let map = object("ConfigMap", name, true, json!({"hub": "0b5b"}))?;
        let told = said(
            api(client, "ConfigMap", namespace)
                .create(&params, &map)
                .await,
        )?;
        let right = if answer.is_empty() {
            told.is_empty()
        } else {
            told.contains(answer)
        };
        assert!(right, "{name} in {namespace}: {told}");
    }
    let maps = api(client, "ConfigMap", "spillway-system");
    let note = Patch::Merge(json!({"data": {"namespaces": "shop"}}));
    let noted = maps
        .patch("spillway-claim", &PatchParams::default(), &note)
        .await?;
    let namespaces = noted
        .data
        .pointer("/data/namespaces")
        .context("not noted")?;
    assert_eq!(namespaces, "shop");
    let told = said(
        maps.delete("spillway-claim", &DeleteParams::default())
            .await,
    )?;
    assert!(told.contains(NO_RIGHT), "{told}");
    Ok(())
}
