//! The proxy before an API server: invisible until it is told to misbehave.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use spillway_clusters::{Clusters, Method, Requests, Seen, StatusCode, User};

/// Long for an answer on one machine; waited for only where there is none.
const LONG: Duration = Duration::from_secs(1);

async fn put(client: Client, name: &str) -> Result<()> {
    let yaml = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}");
    spillway_clusters::apply(&client, &yaml).await?;
    Ok(())
}

/// The error that an API server answered.
fn failure(error: &anyhow::Error) -> Option<&Status> {
    match error.downcast_ref()? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_stays_who_they_are() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    let proxy = hub.fault_proxy().await?;
    assert_ne!(proxy.url(), hub.url());
    assert!(proxy.kubeconfig(User::admin())?.contains(proxy.url()));
    hub.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}}")
        .await?;
    let robot = hub.service_account("default", "robot").await?;

    for identity in [User::admin().into(), User::named("alice").into(), robot] {
        let mut seen = Vec::new();
        for client in [hub.client(identity.clone())?, proxy.client(identity)?] {
            let reviews: Api<SelfSubjectReview> = Api::all(client);
            let review = SelfSubjectReview::default();
            let review = reviews.create(&PostParams::default(), &review).await?;
            let user = review.status.and_then(|status| status.user_info);
            let user = user.context("nobody")?;
            seen.push((user.username, user.groups));
        }
        assert_eq!(seen[0], seen[1]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_fail_as_often_as_they_are_told_to() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    let proxy = hub.fault_proxy().await?;
    let client = proxy.client(User::admin())?;

    let applies = Requests::all().method(Method::PATCH);
    proxy.fail_next(
        2,
        applies.clone().path("/configmaps/a"),
        StatusCode::CONFLICT,
    );
    proxy.fail_next(1, applies.clone(), StatusCode::TOO_MANY_REQUESTS);
    let mut answers = Vec::new();
    for name in ["a", "b", "a", "a", "b"] {
        let error = put(client.clone(), name).await.err();
        let status = error.as_ref().and_then(failure);
        answers.push(status.map(|status| status.reason.clone()));
    }
    let [conflict, busy] = ["Conflict", "TooManyRequests"].map(|reason| Some(reason.to_owned()));
    assert_eq!(answers, [conflict.clone(), busy, conflict, None, None]);

    proxy.fail_next(1, Requests::all(), StatusCode::INTERNAL_SERVER_ERROR);
    let error = put(client.clone(), "c").await.unwrap_err();
    assert_eq!(failure(&error).map(|status| status.code), Some(500));
    proxy.fail_next(9, Requests::all(), StatusCode::INTERNAL_SERVER_ERROR);
    proxy.fail_no_more();
    put(client, "c").await?;

    let seen = proxy.seen();
    let is_apply = |seen: &&Seen| seen.method == Method::PATCH;
    let failed: Vec<_> = seen
        .iter()
        .filter(is_apply)
        .map(|seen| seen.failed)
        .collect();
    let [conflict, busy] = [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS].map(Some);
    assert_eq!(failed, [conflict, busy, conflict, None, None, None]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_hangs_and_goes_on() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    let proxy = hub.fault_proxy().await?;
    let client = proxy.client(User::admin())?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let params = WatchParams::default()
        .fields("metadata.name=a")
        .disable_bookmarks();
    let mut watch = pin!(maps.watch(&params, "0").await?);

    proxy.hang();
    hub.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
        .await?;
    // Over a connection that there is, over a new one, and on a watch.
    let mut held = pin!(put(client, "b"));
    assert!(tokio::time::timeout(LONG, held.as_mut()).await.is_err());
    let new = put(proxy.client(User::admin())?, "c");
    assert!(tokio::time::timeout(LONG, new).await.is_err());
    assert!(tokio::time::timeout(LONG, watch.next()).await.is_err());

    proxy.resume();
    held.await?;
    let event = tokio::time::timeout(10 * LONG, watch.next()).await?;
    let event = event.context("the watch ended")??;
    assert!(
        matches!(&event, WatchEvent::Added(map) if map.name_any() == "a"),
        "{event:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut_and_refused() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let proxy = clusters.cluster("hub")?.fault_proxy().await?;
    let client = proxy.client(User::admin())?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut watch = pin!(maps.watch(&WatchParams::default(), "0").await?);

    proxy.refuse().await;
    // What the watch had is followed by its end.
    let end = async { while let Some(Ok(_)) = watch.next().await {} };
    tokio::time::timeout(10 * LONG, end).await?;
    let error = put(client.clone(), "a").await.unwrap_err();
    assert!(
        format!("{error:?}").contains("Connection refused"),
        "{error:?}"
    );

    proxy.accept().await?;
    put(client, "a").await?;
    Ok(())
}
