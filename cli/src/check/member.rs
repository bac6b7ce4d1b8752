//! A cluster as the controller's account sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::Access;
use spillway_controller::clusters::identity::identity;
use spillway_controller::clusters::kubeconfig;

use super::clock::{self as clock_of, SKEW};
use super::report::Category;
use super::rights::{self, Role};
use super::{World, hub};

/// One answer.
const CALL: Duration = Duration::from_secs(10);

/// A cluster that no context leads to.
pub(super) fn unseen(cluster: &MeshCluster) -> Category {
    let mut category = Category::new(format!("mesh of {}", cluster.name_any()));
    category.warn(
        "Istio's settings and the filters are looked at",
        "no context of the kubeconfig leads there, and the controller's account may not see them",
        "Name a kubeconfig that leads there by --kubeconfig.",
    );
    category
}

/// A cluster that did not answer in time.
pub(super) fn late(name: &str, limit: Duration) -> Category {
    let mut category = Category::new(format!("cluster {name}"));
    category.wrong(
        "it answers",
        format!("not all was answered within {} s", limit.as_secs()),
        format!("Look at whether it is well: kubectl --context {name} get --raw /readyz?verbose"),
    );
    category
}

/// Whether the controller can work there.
pub(super) async fn look(world: &World, cluster: &MeshCluster) -> Category {
    let mut category = Category::new(format!("cluster {}", cluster.name_any()));
    let client = match client(world, cluster).await {
        Ok(client) => client,
        Err((reason, mend)) => {
            category.wrong("the hub has a kubeconfig of it", reason, mend);
            return category;
        }
    };
    let found = match identity(&client, CALL).await {
        Ok(found) => found,
        Err(failure) => {
            category.wrong(
                "it answers",
                failure.to_string(),
                "Look at whether its API server is well, and at the token: `spillway attach` gives the hub a new one.",
            );
            return category;
        }
    };
    let description = format!("it answers: Kubernetes {}", found.version);
    match found.too_old() {
        None => category.fine(description),
        Some(reason) => {
            category.wrong(
                description,
                reason,
                "Upgrade it to Kubernetes 1.30 or newer.",
            );
        }
    }
    let known = cluster.status.clone().unwrap_or_default().uid;
    if known.as_ref().is_some_and(|known| *known != found.uid) {
        category.wrong(
            "it is the cluster that it was",
            "its kube-system has another UID: its address leads to another cluster now",
            "Detach it, and attach it anew.",
        );
    }
    if cluster.spec.access == Access::Discovered {
        category.warn(
            "it can be written to",
            "it was found in Istio's remote secrets, and may only be read",
            format!(
                "Attach it: spillway attach CONTEXT --name {}",
                cluster.name_any()
            ),
        );
        return category;
    }
    clock(&mut category, world, &client).await;
    account(&mut category, world, &client).await;
    claim(&mut category, world, &client).await;
    category
}

/// The account that the controller has there.
async fn client(world: &World, cluster: &MeshCluster) -> Result<Client, (String, String)> {
    let again = format!(
        "Attach it again: spillway attach CONTEXT --name {}",
        cluster.name_any()
    );
    let Some(place) = &cluster.spec.secret_ref else {
        let client = hub::as_controller(&world.hub, &world.installed.namespace);
        return client.ok_or_else(|| ("the context cannot be used".to_owned(), again));
    };
    let secrets: Api<Secret> = Api::namespaced(world.hub.client.clone(), &place.namespace);
    let named = format!("the Secret {}/{}", place.namespace, place.name);
    let secret = match secrets.get_opt(&place.name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return Err((format!("{named} is not there"), again)),
        Err(_) => {
            let mend = "Look with a context that may get Secrets there.";
            return Err((format!("you may not get {named}"), mend.to_owned()));
        }
    };
    let data = secret.data.unwrap_or_default();
    let text = data.get("kubeconfig").or_else(|| data.values().next());
    let Some(text) = text else {
        return Err((format!("{named} is empty"), again));
    };
    let config = kubeconfig::config(&text.0, false).await;
    let mut config = config.map_err(|error| (error.to_string(), again.clone()))?;
    config.default_retry = false;
    config.connect_timeout = Some(CALL);
    config.read_timeout = Some(CALL);
    config.write_timeout = Some(CALL);
    Client::try_from(config).map_err(|error| (error.to_string(), again))
}

async fn clock(category: &mut Category, world: &World, client: &Client) {
    let (Some(here), Some(there)) = (world.clock, clock_of::ahead(client).await) else {
        return;
    };
    let description = "its clock and the hub's agree";
    let apart = there - here;
    if apart.abs() > SKEW {
        category.warn(
            description,
            format!("it is {apart:+.0} s away"),
            "Let both follow the same time servers: overrides end by each cluster's own clock.",
        );
    } else {
        category.fine(description);
    }
}

/// What the account may do, in the system namespace and where services and callers are.
async fn account(category: &mut Category, world: &World, client: &Client) {
    let system = &world.installed.namespace;
    let mut needed = Role::Member.rights();
    needed.extend(Role::MemberSystem.rights());
    let mend =
        |namespaces: &str| format!("Give them: spillway attach CONTEXT --namespaces {namespaces}");
    let description = "the account has its rights";
    let spaces = Api::<Namespace>::all(client.clone());
    let spaces = spaces.list_metadata(&ListParams::default()).await;
    let there: BTreeSet<String> = spaces
        .map(|spaces| spaces.iter().map(ResourceExt::name_any).collect())
        .unwrap_or_default();
    let shared = world.namespaces.intersection(&there);
    let shared: Vec<&String> = shared.collect();
    let mut ask = vec![(system, needed)];
    ask.extend(
        shared
            .iter()
            .map(|it| (*it, Role::MemberNamespace.rights())),
    );
    // One without a binding may not be meant to have one; what it keeps from whom stands with the
    // policies.
    let (mut without, mut failed) = (Vec::new(), Vec::new());
    for (namespace, needed) in ask {
        let all = needed.len();
        match rights::missing(client, namespace, needed).await {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) if missing.len() == all && namespace != system => {
                without.push(namespace.as_str());
            }
            Ok(missing) => failed.push(format!(
                "in {namespace} it may not {}",
                rights::words(&missing)
            )),
            Err(error) => failed.push(format!("{namespace}: {error}")),
        }
    }
    if !failed.is_empty() {
        let names: Vec<&str> = shared.iter().map(|it| it.as_str()).collect();
        category.wrong(description, failed.join("; "), mend(&names.join(",")));
    } else if without.is_empty() {
        category.fine(description);
    } else {
        let names = without.join(",");
        category.warn(
            description,
            format!("it has none in {names}, where policies have services or callers"),
            mend(&names),
        );
    }
}

/// Whether this hub may write to it.
async fn claim(category: &mut Category, world: &World, client: &Client) {
    const DESCRIPTION: &str = "it is this hub's to write to";
    let namespace = &world.installed.namespace;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let hub = identity(&world.hub.client, CALL)
        .await
        .ok()
        .map(|it| it.uid);
    match maps.get_opt("spillway-claim").await {
        Ok(Some(map)) => {
            let holder = map.data.unwrap_or_default().remove("hub");
            if holder == hub {
                category.fine(DESCRIPTION);
            } else {
                category.wrong(
                    DESCRIPTION,
                    format!("the hub with the UID {} has claimed it", holder.unwrap_or_default()),
                    format!("If that hub is gone: kubectl --context CONTEXT --namespace {namespace} delete configmap spillway-claim"),
                );
            }
        }
        Ok(None) => category.warn(
            DESCRIPTION,
            "the controller has not claimed it yet",
            "It does so before it writes: see `spillway status`.",
        ),
        // Told with the rights.
        Err(_) => {}
    }
}
