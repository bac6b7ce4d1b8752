//! Two WasmPlugins a namespace: CLIENT where callers are, SERVER where targets are, so that no
//! filter has to ask for its direction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spillway_api::istio::Kind;
use spillway_api::istio::wasm_plugin::{
    FailStrategy, PullPolicy, Selector, TrafficSelector, WasmPluginSpec, WorkloadMode,
};
use spillway_core::config::{MAX_BYTES, wire};

use super::{Place, document};
use crate::conditions::Type;
use crate::model::Target;
use crate::names;
use crate::output::{ControlPlane, Object};
use crate::text::Text;
use crate::validate::Ledger;

/// Room in a document for its generation.
const SPARE: usize = 64;
/// Room for a row of the table of clusters, besides the cluster's name.
const ROW: usize = 96;
/// The most policies that the filter takes.
const MAX_POLICIES: usize = 1_024;
/// The most clusters that it takes.
const MAX_CLUSTERS: usize = 4_096;

/// One side of a namespace.
struct Side<'t> {
    namespace: &'t str,
    side: wire::Side,
    selector: BTreeMap<String, String>,
    targets: Vec<&'t Target>,
}

pub(super) fn write(
    place: &Place<'_, '_>,
    targets: &[Target],
    bounces: &BTreeMap<&str, bool>,
    ledger: &mut Ledger,
    control_plane: &mut ControlPlane,
) {
    let sides = clients(place, targets)
        .into_iter()
        .chain(servers(place, targets, ledger));
    for side in sides {
        if let Some(plugin) = plugin(place, side, bounces, ledger) {
            control_plane.objects.push(plugin);
        }
    }
}

fn clients<'t>(place: &Place<'_, '_>, targets: &'t [Target]) -> Vec<Side<'t>> {
    let mut by_namespace: BTreeMap<&str, Side<'t>> = BTreeMap::new();
    for target in targets {
        for namespace in place.clients(target) {
            by_namespace
                .entry(namespace)
                .or_insert_with(|| Side {
                    namespace,
                    side: wire::Side::Client,
                    selector: target.selector.clone(),
                    targets: Vec::new(),
                })
                .targets
                .push(target);
        }
    }
    by_namespace.into_values().collect()
}

/// One for all services of a namespace: the filter tells its workload by labels. With one service
/// only its pods get it; in the root namespace nothing else will do.
fn servers<'t>(place: &Place<'_, '_>, targets: &'t [Target], ledger: &mut Ledger) -> Vec<Side<'t>> {
    let mut by_namespace: BTreeMap<&str, Side<'t>> = BTreeMap::new();
    for target in targets {
        let here = place.observed.namespaces.contains_key(&target.namespace);
        if !here || !document::may_be_served(place, target) {
            continue;
        }
        let labels = document::workload(place, target).labels;
        let side = by_namespace
            .entry(&target.namespace)
            .or_insert_with(|| Side {
                namespace: &target.namespace,
                side: wire::Side::Server,
                selector: labels.clone(),
                targets: Vec::new(),
            });
        if side.selector != labels {
            if target.namespace == place.world.mesh.root_namespace {
                ledger.note(
                    &target.policy,
                    Type::Conflicted,
                    "RootNamespace",
                    format!(
                        "in {}: {} is the mesh's root namespace, where a plugin needs a selector, and another service has it: move the service",
                        place.site.name, target.namespace
                    ),
                );
                continue;
            }
            side.selector.clear();
        }
        side.targets.push(target);
    }
    by_namespace.into_values().collect()
}

fn plugin(
    place: &Place<'_, '_>,
    side: Side<'_>,
    bounces: &BTreeMap<&str, bool>,
    ledger: &mut Ledger,
) -> Option<Object> {
    let (name, mode) = match side.side {
        wire::Side::Client => (names::CLIENT, WorkloadMode::Client),
        wire::Side::Server => (names::SERVER, WorkloadMode::Server),
    };
    let (config, owners) = fitting(place, &side, bounces, ledger);
    if owners.is_empty() {
        return None;
    }
    let mesh = place.world.mesh;
    let spec = WasmPluginSpec {
        selector: (!side.selector.is_empty()).then_some(Selector {
            match_labels: side.selector,
        }),
        url: mesh.image.url().to_owned(),
        image_pull_policy: PullPolicy::IfNotPresent,
        image_pull_secret: mesh.image_pull_secret.clone(),
        plugin_name: name.to_owned(),
        fail_strategy: FailStrategy::FailOpen,
        r#match: vec![TrafficSelector { mode }],
        plugin_config: config,
    };
    Some(Object {
        kind: Kind::WASM_PLUGIN,
        namespace: side.namespace.to_owned(),
        name: name.to_owned(),
        policies: owners,
        spec: Text::from(&value(&spec)),
    })
}

/// The configuration with all policies that fit the filter's limits, and their owners. A second
/// plugin on the same proxies would take the first one's header for a forged one, so what does not
/// fit is left out and told; the older policies go first.
fn fitting(
    place: &Place<'_, '_>,
    side: &Side<'_>,
    bounces: &BTreeMap<&str, bool>,
    ledger: &mut Ledger,
) -> (Value, BTreeSet<String>) {
    let mut kept = Vec::new();
    let mut owners = BTreeSet::new();
    let mut clusters = document::clusters(place, &[]);
    let mut bytes = SPARE + text_of(&document::around(place, side.side, Vec::new()));
    for target in &side.targets {
        let bounce = bounces.get(target.id.as_str()).copied().unwrap_or(false);
        let policy = document::policy(place, target, bounce);
        let mut with = document::clusters(place, std::slice::from_ref(&policy));
        with.retain(|cluster| !clusters.contains(cluster));
        let more = 1 + text_of(&policy) + with.iter().map(|name| name.len() + ROW).sum::<usize>();
        let fits = bytes + more <= MAX_BYTES
            && kept.len() < MAX_POLICIES
            && clusters.len() + with.len() <= MAX_CLUSTERS;
        if !fits {
            too_large(place, side, target, ledger);
            continue;
        }
        bytes += more;
        clusters.append(&mut with);
        kept.push(policy);
        owners.insert(target.policy.clone());
    }
    (value(&document::around(place, side.side, kept)), owners)
}

fn text_of(part: &impl serde::Serialize) -> usize {
    serde_json::to_string(part).map_or(0, |text| text.len())
}

fn too_large(place: &Place<'_, '_>, side: &Side<'_>, target: &Target, ledger: &mut Ledger) {
    let name = match side.side {
        wire::Side::Client => names::CLIENT,
        wire::Side::Server => names::SERVER,
    };
    ledger.note(
        &target.policy,
        Type::ClientsNotCovered,
        "ConfigurationTooLarge",
        format!(
            "in {}: the configuration of {name} in {} would be larger than 512 KiB, 1024 policies or 4096 clusters: write fewer services, routes or client namespaces",
            place.site.name, side.namespace
        ),
    );
}

/// What is written has no map with keys other than texts, so that it always has a JSON form.
pub(super) fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}
