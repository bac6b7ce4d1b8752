//! Waits until what was installed is ready.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::attach::step;
use crate::connection::Cluster;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;

/// How often is looked for what no event tells.
const LOOK: Duration = Duration::from_millis(250);
/// How the controller's Deployment and pods are found, whatever the release is called.
pub(crate) const CONTROLLER: &str = "app.kubernetes.io/name=spillway-controller";

/// Waits until the API server serves the resources.
pub(super) async fn definitions(hub: &Cluster, timeout: u64) -> Result<(), Failure> {
    let _progress = Progress::new(format!("{} takes the definitions in", hub.name));
    let all: Api<CustomResourceDefinition> = Api::all(hub.client.clone());
    let began = Instant::now();
    loop {
        let found = all.list(&ListParams::default()).await;
        let found = found.map_err(|error| hub.failed("the definitions cannot be read", &error))?;
        let ours = found.iter().filter(|it| it.spec.group == "spillway.dev");
        let late: Vec<String> = ours
            .filter(|it| !is_established(it))
            .map(ResourceExt::name_any)
            .collect();
        if late.is_empty() {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(timeout) {
            return Err(Failure::new(
                Exit::TimedOut,
                format!("{} does not serve {}", hub.name, late.join(", ")),
                "Look at their conditions: kubectl describe customresourcedefinitions.",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether it is served.
pub(crate) fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|it| &it.conditions);
    conditions
        .flatten()
        .any(|it| it.type_ == "Established" && it.status == "True")
}

/// Waits until every replica of the controller is ready, and is of the newest kind.
pub(super) async fn wait(hub: &Cluster, namespace: &str, timeout: u64) -> Result<(), Failure> {
    let progress = Progress::new(format!("{} starts the controller", hub.name));
    let all: Api<Deployment> = Api::namespaced(hub.client.clone(), namespace);
    let began = Instant::now();
    loop {
        let found = all.list(&ListParams::default().labels(CONTROLLER)).await;
        let found = found.map_err(|error| hub.failed("the controller cannot be read", &error))?;
        let Some(controller) = found.items.first() else {
            return Err(Failure::bad_input(
                format!("{} has no controller in {namespace}", hub.name),
                "Look at the release: helm status spillway --namespace NAMESPACE.",
            ));
        };
        let count = Count::of(controller);
        let words = format!(
            "Deployment {namespace}/{} in {}: {} of {} ready",
            controller.name_any(),
            hub.name,
            count.ready,
            count.wanted
        );
        if count.is_complete {
            drop(progress);
            step(&words);
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(timeout) {
            let why = reasons(hub, namespace).await;
            return Err(Failure::new(
                Exit::TimedOut,
                format!("{words} after {timeout} s{why}"),
                format!(
                    "Look at its pods: kubectl --context {} --namespace {namespace} describe pods --selector {CONTROLLER}",
                    hub.name
                ),
            ));
        }
        progress.say(words);
        tokio::time::sleep(LOOK).await;
    }
}

/// How many replicas there are.
pub(crate) struct Count {
    pub(crate) ready: i32,
    pub(crate) wanted: i32,
    /// All are ready, and none of an older kind is left.
    pub(crate) is_complete: bool,
}

impl Count {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or_default();
        let updated = status.updated_replicas.unwrap_or_default();
        let all = status.replicas.unwrap_or_default();
        let is_seen = status.observed_generation >= deployment.metadata.generation;
        Self {
            ready,
            wanted,
            is_complete: is_seen && ready >= wanted && updated >= wanted && all <= updated,
        }
    }
}

/// Why pods do not start, as far as they say.
pub(crate) async fn reasons(hub: &Cluster, namespace: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(hub.client.clone(), namespace);
    let Ok(pods) = pods.list(&ListParams::default().labels(CONTROLLER)).await else {
        return String::new();
    };
    if pods.items.is_empty() {
        return ": there is no pod of it".to_owned();
    }
    let mut reasons = Vec::new();
    for pod in &pods {
        let status = pod.status.clone().unwrap_or_default();
        for container in status.container_statuses.unwrap_or_default() {
            let waiting = container.state.and_then(|state| state.waiting);
            reasons.extend(waiting.map(|waiting| {
                let reason = waiting.reason.unwrap_or_default();
                let message = waiting.message.unwrap_or_default();
                format!("{}: {reason} {message}", pod.name_any())
            }));
        }
        let conditions = status.conditions.unwrap_or_default();
        let unscheduled = conditions
            .into_iter()
            .find(|it| it.type_ == "PodScheduled" && it.status == "False");
        reasons.extend(
            unscheduled.map(|it| format!("{}: {}", pod.name_any(), it.message.unwrap_or_default())),
        );
    }
    reasons.sort();
    reasons
        .iter()
        .map(|it| format!("\n  {}", it.trim()))
        .collect()
}
