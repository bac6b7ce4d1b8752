//! The hub, and what was installed there.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use spillway_controller::clusters::identity::Identity;

use super::clock::{self, SKEW};
use super::report::Category;
use super::rights::{self, Right, Role};
use crate::connection::Cluster;
use crate::exit::Failure;
use crate::install::{CONTROLLER, Count, is_established, pod_reasons};

/// A Lease counts for 15 s after its last renewal.
const LEASE: f64 = 15.0;

/// What of the installation other checks go on with.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    /// Whether the resources are there.
    pub(super) is_served: bool,
    /// Of the controller.
    pub(super) namespace: String,
    pub(super) image: Option<String>,
    pub(super) insecure: Vec<String>,
    pub(super) root_namespace: String,
}

/// Whether the hub answers, is new enough, and agrees about the time.
///
/// # Errors
/// When it does not answer.
pub(super) async fn look(hub: &Cluster) -> Result<(Vec<Category>, Option<f64>), Failure> {
    let mut category = Category::new("hub");
    version(&mut category, hub).await?;
    let clock = clock::ahead(&hub.client).await;
    match clock {
        Some(ahead) if ahead.abs() > SKEW => category.warn(
            "its clock and this machine's agree",
            format!("it is {ahead:+.0} s away"),
            "Let both follow the same time servers: overrides end, and certificates begin, by the clock.",
        ),
        Some(_) => category.fine("its clock and this machine's agree"),
        None => {}
    }
    Ok((vec![category], clock))
}

async fn version(category: &mut Category, cluster: &Cluster) -> Result<(), Failure> {
    let version = cluster.client.apiserver_version().await;
    let version = version.map_err(|error| cluster.failed("its version is not told", &error))?;
    let identity = Identity {
        uid: String::new(),
        version: version.git_version,
    };
    let description = format!("{} answers: Kubernetes {}", cluster.name, identity.version);
    match identity.too_old() {
        None => category.fine(description),
        Some(reason) => category.wrong(
            description,
            reason,
            "Upgrade it to Kubernetes 1.30 or newer.",
        ),
    }
    Ok(())
}

/// Whether the user may install.
///
/// # Errors
/// When the hub does not answer.
pub(super) async fn may_install(hub: &Cluster) -> Result<Category, Failure> {
    let mut category = Category::new("installation");
    for (resource, group) in [
        ("customresourcedefinitions", "apiextensions.k8s.io"),
        ("namespaces", ""),
        ("clusterroles", "rbac.authorization.k8s.io"),
        ("clusterrolebindings", "rbac.authorization.k8s.io"),
        ("deployments", "apps"),
        ("secrets", ""),
    ] {
        let right = Right::new("create", resource, group);
        let may = rights::may(&hub.client, None, &right).await;
        let may = may.map_err(|error| hub.failed("your rights are not told", &error))?;
        let description = format!("you may create {resource}");
        if may {
            category.fine(description);
        } else {
            category.wrong(
                description,
                "the API server says no",
                "Ask those who administer the cluster, or name another context by --context.",
            );
        }
    }
    Ok(category)
}

/// What was installed, and whether it works.
///
/// # Errors
/// When the hub does not answer.
pub(super) async fn installed(
    hub: &Cluster,
    namespace: &str,
) -> Result<(Category, Installed), Failure> {
    let mut category = Category::new("installation");
    let mut installed = Installed {
        is_served: definitions(&mut category, hub).await?,
        namespace: namespace.to_owned(),
        image: None,
        insecure: Vec::new(),
        root_namespace: "istio-system".to_owned(),
    };
    if !installed.is_served {
        return Ok((category, installed));
    }
    controller(&mut category, hub, &mut installed).await?;
    leader(&mut category, hub, namespace).await?;
    account(&mut category, hub, namespace).await?;
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
    match secrets.get_metadata_opt("spillway-tokens").await {
        Ok(Some(_)) => category.fine("the mesh has its token"),
        Ok(None) => category.wrong(
            "the mesh has its token",
            "the controller has not made the Secret spillway-tokens",
            "It makes it when it leads: look at its log.",
        ),
        Err(_) => category.warn(
            "the mesh has its token",
            format!("you may not get secrets in {namespace}"),
            "Look with another context.",
        ),
    }
    Ok((category, installed))
}

/// Whether all are served, and are those that this command knows.
async fn definitions(category: &mut Category, hub: &Cluster) -> Result<bool, Failure> {
    let known = spillway_api::crds::all().unwrap_or_default();
    let all: Api<CustomResourceDefinition> = Api::all(hub.client.clone());
    let mut is_served = true;
    for definition in known {
        let name = definition.name_any();
        let found = all.get_opt(&name).await;
        let found = found.map_err(|error| hub.failed("the definitions cannot be read", &error))?;
        let description = format!("{name} is defined");
        let Some(found) = found.filter(is_established) else {
            category.wrong(
                description,
                "the API server does not serve it",
                "Install Spillway: spillway install.",
            );
            is_served = false;
            continue;
        };
        let value =
            |it: &CustomResourceDefinition| serde_json::to_value(&it.spec).unwrap_or_default();
        if has(&value(&found), &value(&definition)) {
            category.fine(description);
        } else {
            category.warn(
                description,
                "it is another version's than this command's",
                "Bring it to this version by `spillway upgrade`, or use the command of its version.",
            );
        }
    }
    Ok(is_served)
}

/// Whether all that is wanted is in what was found: an API server adds what is so by default.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            let found = found.get(name).unwrap_or(&Value::Null);
            has(found, wanted)
        }),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(it, wanted)| has(it, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

async fn controller(
    category: &mut Category,
    hub: &Cluster,
    installed: &mut Installed,
) -> Result<(), Failure> {
    let namespace = installed.namespace.clone();
    let all: Api<Deployment> = Api::namespaced(hub.client.clone(), &namespace);
    let found = all.list(&ListParams::default().labels(CONTROLLER)).await;
    let found = found.map_err(|error| hub.failed("the controller cannot be read", &error))?;
    let Some(deployment) = found.items.first() else {
        category.wrong(
            "the controller is installed",
            format!("{namespace} has no Deployment of it"),
            "Install it by `spillway install`, or name its namespace by --system-namespace.",
        );
        return Ok(());
    };
    let count = Count::of(deployment);
    let description = format!(
        "the controller is ready: {} of {}",
        count.ready, count.wanted
    );
    if count.is_complete {
        category.fine(description);
    } else if count.ready > 0 {
        let reason = pod_reasons(hub, &namespace).await;
        let mend = "One is enough to go on; look at why the others are not there.";
        category.warn(description, format!("not all are{reason}"), mend);
    } else {
        let reason = pod_reasons(hub, &namespace).await;
        category.wrong(
            description,
            format!("none is{reason}"),
            "Nothing changes in any cluster meanwhile. Look at its pods and their log.",
        );
    }
    let version = deployment.labels().get("app.kubernetes.io/version");
    let version = version.map(String::as_str).unwrap_or_default();
    let own = env!("CARGO_PKG_VERSION");
    if version == own {
        category.fine(format!(
            "the controller and this command are of the version {own}"
        ));
    } else {
        category.warn(
            "the controller and this command are of the same version",
            format!("{version} and {own}"),
            "Bring the controller to this version by `spillway upgrade`, or use the command of its version.",
        );
    }
    settings(deployment, installed);
    Ok(())
}

/// What its arguments say.
fn settings(deployment: &Deployment, installed: &mut Installed) {
    let pods = deployment
        .spec
        .as_ref()
        .and_then(|it| it.template.spec.as_ref());
    let containers = pods.into_iter().flat_map(|pods| &pods.containers);
    let arguments = containers.flat_map(|it| it.args.iter().flatten());
    for (name, value) in arguments.filter_map(|it| it.split_once('=')) {
        match name {
            "--image" => installed.image = Some(value.to_owned()),
            "--insecure-registries" => {
                installed.insecure = value.split(',').map(str::to_owned).collect();
            }
            "--root-namespace" => installed.root_namespace = value.to_owned(),
            _ => {}
        }
    }
}

async fn leader(category: &mut Category, hub: &Cluster, namespace: &str) -> Result<(), Failure> {
    let leases: Api<Lease> = Api::namespaced(hub.client.clone(), namespace);
    let lease = leases.get_opt("spillway-controller").await;
    let lease = lease.map_err(|error| hub.failed("the Lease cannot be read", &error))?;
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    // By this machine's clock, which may be another: what is off by that is told above.
    let age = spec.renew_time.map(|time| {
        let age = Timestamp::now().as_millisecond() - time.0.as_millisecond();
        age as f64 / 1_000.0
    });
    match (holder, age) {
        (Some(holder), Some(age)) if age < LEASE + SKEW => {
            category.fine(format!("one leads: {holder}"));
        }
        (Some(holder), Some(age)) => category.wrong(
            "one leads",
            format!("{holder} has not renewed its Lease for {age:.0} s"),
            "Look at the controller's pods and their log.",
        ),
        _ => category.wrong(
            "one leads",
            "nobody holds the Lease spillway-controller",
            "Look at the controller's pods and their log.",
        ),
    }
    Ok(())
}

/// Whether the controller has its rights on the hub.
async fn account(category: &mut Category, hub: &Cluster, namespace: &str) -> Result<(), Failure> {
    let description = "the controller's account has its rights on the hub";
    let mut needed = Role::Hub.rights();
    needed.extend(Role::HubSystem.rights());
    let Some(client) = as_controller(hub, namespace) else {
        return Ok(());
    };
    match rights::missing(&client, namespace, needed).await {
        Ok(missing) if missing.is_empty() => category.fine(description),
        Ok(missing) => category.wrong(
            description,
            format!("it may not {}", rights::words(&missing)),
            "Bring them back by `spillway upgrade`.",
        ),
        Err(_) => category.warn(
            description,
            "you may not ask as somebody else",
            "Look as who may impersonate service accounts.",
        ),
    }
    Ok(())
}

/// A client that asks as the controller's account.
pub(super) fn as_controller(hub: &Cluster, namespace: &str) -> Option<Client> {
    let mut config = hub.config.clone();
    config.auth_info.impersonate = Some(format!(
        "system:serviceaccount:{namespace}:spillway-controller"
    ));
    Client::try_from(config).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_added_by_default_is_no_difference() {
        let wanted = json!({"a": 1, "list": [{"b": 2}]});
        assert!(has(
            &json!({"a": 1, "more": 0, "list": [{"b": 2, "c": 3}]}),
            &wanted
        ));
        assert!(!has(&json!({"a": 1, "list": []}), &wanted));
        assert!(!has(&json!({"list": [{"b": 2}]}), &wanted));
    }
}
