//! Clusters as the controller's tests need them: apart from each other, with users and rights, and
//! with servers that break and come back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use spillway_clusters::{Cluster, Clusters, Identity, StatusCode, User, programs};
use spillway_e2e::killed;

const SETTINGS: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}";

async fn settings(client: Client) -> Result<Option<ConfigMap>> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    Ok(maps.get_opt("settings").await?)
}

/// The status of an answer that is an error.
fn status(error: &kube::Error) -> Option<StatusCode> {
    match error {
        kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
        _ => None,
    }
}

/// How the API server refuses to list the configuration of `shop`, if it does.
async fn refusal(cluster: &Cluster, identity: impl Into<Identity>) -> Result<Option<StatusCode>> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(identity)?, "shop");
    let answer = maps.list(&ListParams::default()).await;
    let refused = answer.err().map(|error| status(&error).context(error));
    refused.transpose()
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_ready_and_apart() -> Result<()> {
    let clusters = Clusters::start(&["hub", "burst"]).await?;
    let (hub, burst) = (clusters.cluster("hub")?, clusters.cluster("burst")?);
    assert!(clusters.cluster("other").is_err());
    // Tasks of a test may share them.
    fn is_shared(_: &(impl Send + Sync)) {}
    is_shared(&clusters);
    is_shared(&hub.fault_proxy().await?);
    let names: Vec<&str> = clusters.iter().map(Cluster::name).collect();
    assert_eq!(names, ["hub", "burst"]);
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        let version = hub.client(User::admin())?.apiserver_version().await?;
        assert_eq!(
            version.git_version,
            format!("v{}", programs::kubernetes_version()?)
        );
    }

    hub.apply(SETTINGS).await?;
    assert!(settings(hub.client(User::admin())?).await?.is_some());
    assert!(settings(burst.client(User::admin())?).await?.is_none());
    let uids = [hub, burst].map(async |cluster| {
        let namespaces: Api<Namespace> = Api::all(cluster.client(User::admin())?);
        anyhow::Ok(namespaces.get("kube-system").await?.uid())
    });
    let [one, other] = uids;
    assert_ne!(one.await?, other.await?);

    // Neither believes the other's users, nor would a client of the one believe the other.
    let foreign = hub.kubeconfig(User::admin())?;
    assert!(foreign.contains(hub.url()));
    let foreign = foreign.replace(hub.url(), burst.url());
    assert!(hub.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_ne!(hub.ca_pem(), burst.ca_pem());
    let foreign = kube::config::Kubeconfig::from_yaml(&foreign)?;
    let foreign = kube::Config::from_custom_kubeconfig(foreign, &Default::default()).await?;
    let error = settings(foreign.try_into()?).await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    Ok(())
}

const RIGHTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: User, apiGroup: rbac.authorization.k8s.io, name: alice}
- {kind: Group, apiGroup: rbac.authorization.k8s.io, name: readers}
- {kind: ServiceAccount, name: robot, namespace: shop}
";

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_their_role_says() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    hub.apply(RIGHTS).await?;

    assert_eq!(refusal(hub, User::admin()).await?, None);
    assert_eq!(refusal(hub, User::named("alice")).await?, None);
    assert_eq!(
        refusal(hub, User::named("bob").in_group("readers")).await?,
        None
    );
    let forbidden = Some(StatusCode::FORBIDDEN);
    assert_eq!(refusal(hub, User::named("bob")).await?, forbidden);
    let robot = hub.service_account("shop", "robot").await?;
    assert_eq!(refusal(hub, robot.clone()).await?, None);

    // May read, and no more.
    for identity in [User::named("alice").into(), robot] {
        let error = spillway_clusters::apply(&hub.client(identity)?, SETTINGS).await;
        let error = error.unwrap_err();
        let error = error
            .downcast_ref::<kube::Error>()
            .context("another error")?;
        assert_eq!(status(error), forbidden);
    }

    let unauthorized = Some(StatusCode::UNAUTHORIZED);
    assert_eq!(refusal(hub, User::admin().expired()).await?, unauthorized);
    let forged = Identity::Token("forged".to_owned());
    assert_eq!(refusal(hub, forged).await?, unauthorized);
    assert!(hub.service_account("shop", "nobody").await.is_err());
    Ok(())
}

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: limits.test.spillway.dev}
spec:
  group: test.spillway.dev
  names: {kind: Limit, plural: limits, singular: limit, shortNames: [li]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Enter, type: integer, jsonPath: .spec.enter}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {enter: {type: integer}, leave: {type: integer}}
            x-kubernetes-validations:
            - {rule: self.leave < self.enter, message: leave must be below enter}
---
apiVersion: test.spillway.dev/v1
kind: Limit
metadata: {name: good}
spec: {enter: 15, leave: 10}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_a_definition_refuses_a_bad_object() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    // Also the object that follows its definition at once.
    let applied = hub.apply(DEFINITION).await?;
    let names: Vec<String> = applied.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["limits.test.spillway.dev", "good"]);

    let bad = DEFINITION.split_once("---").unwrap().1;
    let bad = bad.replace("good", "bad").replace("leave: 10", "leave: 20");
    let error = hub.apply(&bad).await.unwrap_err();
    let error = error
        .downcast_ref::<kube::Error>()
        .context("another error")?;
    assert_eq!(status(error), Some(StatusCode::UNPROCESSABLE_ENTITY));
    assert!(
        error.to_string().contains("leave must be below enter"),
        "{error}"
    );

    let table = hub
        .kubectl(User::admin(), &["get", "li", "--no-headers"])
        .await?;
    let cells: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(cells, ["good", "15"]);
    let error = hub
        .kubectl(User::named("bob"), &["get", "li"])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Forbidden"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_or_stopped_keep_their_objects() -> Result<()> {
    let clusters = Clusters::start(&["hub", "burst"]).await?;
    let (hub, burst) = (clusters.cluster("hub")?, clusters.cluster("burst")?);
    hub.apply(SETTINGS).await?;
    let kubeconfig = hub.kubeconfig(User::admin())?;
    let before = hub.api_server().pid();

    hub.api_server().kill();
    assert_eq!(hub.api_server().pid(), None);
    assert!(settings(hub.client(User::admin())?).await.is_err());
    assert!(settings(burst.client(User::admin())?).await.is_ok());
    hub.api_server().start().await?;
    assert_ne!(hub.api_server().pid(), before);
    assert!(kubeconfig.contains(hub.url()));
    assert!(settings(hub.client(User::admin())?).await?.is_some());

    hub.api_server().stop().await?;
    assert_eq!(hub.api_server().pid(), None);
    assert!(hub.api_server().stop().await.is_err());
    hub.api_server().start().await?;
    assert!(settings(hub.client(User::admin())?).await?.is_some());

    clusters.etcd().restart().await?;
    hub.api_server().wait_ready().await?;
    assert!(settings(hub.client(User::admin())?).await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_api_server_answers_nothing_and_comes_back() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    hub.apply(SETTINGS).await?;
    let client = hub.client(User::admin())?;
    settings(client.clone()).await?;

    hub.api_server().pause().await?;
    // Over a connection that there is, and over a new one.
    for client in [client.clone(), hub.client(User::admin())?] {
        let answer = tokio::time::timeout(Duration::from_secs(1), settings(client)).await;
        assert!(answer.is_err(), "an answer from a paused server");
    }
    hub.api_server().resume()?;
    hub.api_server().wait_ready().await?;
    assert!(settings(client).await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_do_their_work_when_they_are_started() -> Result<()> {
    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    hub.apply(RIGHTS).await?;
    let namespaces: Api<Namespace> = Api::all(hub.client(User::admin())?);
    namespaces.delete("shop", &DeleteParams::default()).await?;
    // Nobody finishes it.
    let namespace = namespaces.get("shop").await?;
    assert!(namespace.metadata.deletion_timestamp.is_some());

    let error = hub.start_controllers(&["no-such-controller"]).await;
    let error = error
        .err()
        .context("started a controller that does not exist")?;
    assert!(error.to_string().contains("no-such-controller"), "{error}");
    let manager = hub.start_controllers(&["namespace-controller"]).await?;
    assert!(manager.pid().is_some());
    let began = Instant::now();
    while namespaces.get_opt("shop").await?.is_some() {
        ensure!(began.elapsed() < Duration::from_secs(60), "still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn pids(clusters: &Clusters) -> Vec<u32> {
    let servers = clusters.iter().map(Cluster::api_server);
    let servers = servers.chain([clusters.etcd()]);
    servers.filter_map(spillway_clusters::Server::pid).collect()
}

fn is_running(pid: u32) -> bool {
    killed::runs(pid, "etcd") || killed::runs(pid, "kube-")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_clusters_are_dropped() -> Result<()> {
    let clusters = Clusters::start(&["hub", "burst"]).await?;
    let manager = clusters
        .cluster("hub")?
        .start_controllers(&["namespace-controller"])
        .await?;
    let mut pids = pids(&clusters);
    pids.extend(manager.pid());
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| is_running(*pid)));
    let folder = clusters.folder().to_owned();
    assert!(folder.exists());

    // A paused one, too.
    clusters.cluster("burst")?.api_server().pause().await?;
    drop(manager);
    drop(clusters);
    assert!(
        pids.iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    );
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_the_process_is_killed() -> Result<()> {
    if killed::is_meant() {
        let clusters = Clusters::start(&["hub"]).await?;
        killed::wait(clusters.folder(), &pids(&clusters)).await;
    }
    let left = killed::run("nothing_is_left_when_the_process_is_killed")?;
    assert_eq!(left.pids.len(), 2);
    left.ends("etcd").await?;
    left.ends("kube-").await?;
    // The next clusters clean up what only files are left of.
    assert!(left.folder.exists());
    drop(Clusters::start(&[]).await?);
    assert!(!left.folder.exists());
    Ok(())
}
