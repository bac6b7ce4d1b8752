//! Rates from the sidecars of a cluster, through its API server; and which of them have no filter,
//! or one with an older configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use spillway_controller::observe::kinds::Kind;
use spillway_plan::output::{GENERATION, MANAGED_BY, SPILLWAY};

use super::exposition::{Sample, samples};
use super::{Decision, Sidecar, State};
use crate::sidecars::has_proxy;

/// Where sidecars tell their metrics, and those of Spillway only.
const METRICS: &str = "15090/proxy/stats/prometheus?filter=spillway_";
/// Rates are counted over this time.
const APART: Duration = Duration::from_secs(2);
/// So many sidecars of a cluster are asked, and so many at once.
pub(crate) const MOST: usize = 200;
const AT_ONCE: usize = 32;

/// What the sidecars of a cluster tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) decisions: Vec<Decision>,
    pub(super) sidecars: Vec<Sidecar>,
    /// How many there are, those that were not asked included.
    pub(super) all: usize,
}

/// Which configuration the sidecars of a plugin should have.
struct Plugin {
    namespace: String,
    side: &'static str,
    generation: u64,
    selector: BTreeMap<String, String>,
}

/// Asks the sidecars in these namespaces.
///
/// # Errors
/// In words, when it is not known which there are.
pub(super) async fn ask(
    cluster: &str,
    client: &Client,
    namespaces: &BTreeSet<String>,
) -> Result<Told, String> {
    let mut pods = Vec::new();
    let mut plugins = Vec::new();
    for namespace in namespaces {
        let all: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let running = ListParams::default().fields("status.phase=Running");
        let found = all
            .list(&running)
            .await
            .map_err(|error| error.to_string())?;
        pods.extend(found.items.into_iter().filter(has_proxy));
        plugins.extend(self::plugins(client, namespace).await?);
    }
    let all = pods.len();
    pods.truncate(MOST);
    if pods.is_empty() {
        return Ok(Told::default());
    }
    let began = Instant::now();
    let first = scrape(client, &pods).await;
    tokio::time::sleep(APART).await;
    let seconds = began.elapsed().as_secs_f64();
    let second = scrape(client, &pods).await;
    let mut told = Told {
        all,
        ..Told::default()
    };
    for ((pod, first), second) in pods.iter().zip(first).zip(second) {
        let state = match (&first, &second) {
            (Ok(first), Ok(second)) => {
                told.decisions.extend(decisions(first, second, seconds));
                state(pod, second, &plugins)
            }
            (_, Err(why)) | (Err(why), _) => Some(State::Silent(why.clone())),
        };
        told.sidecars.extend(state.map(|state| Sidecar {
            cluster: cluster.to_owned(),
            name: format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()),
            state,
        }));
    }
    Ok(told)
}

/// The plugins of ours in a namespace.
async fn plugins(client: &Client, namespace: &str) -> Result<Vec<Plugin>, String> {
    let resource = Kind::WasmPlugin.resource();
    let all: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={SPILLWAY}"));
    let found = match all.list(&ours).await {
        Ok(found) => found.items,
        // Istio is not there.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error.to_string()),
    };
    let plugin = |object: DynamicObject| {
        let generation = object.annotations().get(GENERATION)?.parse().ok()?;
        let mode = object.data.pointer("/spec/match/0/mode")?.as_str()?;
        let labels = object.data.pointer("/spec/selector/matchLabels");
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let selector =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Some(Plugin {
            namespace: namespace.to_owned(),
            side: if mode == "CLIENT" { "client" } else { "server" },
            generation,
            selector: selector.collect(),
        })
    };
    Ok(found.into_iter().filter_map(plugin).collect())
}

/// The metrics of each pod, in their order.
async fn scrape(client: &Client, pods: &[Pod]) -> Vec<Result<Vec<Sample>, String>> {
    let one = |pod: &Pod| {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}:{METRICS}");
        async move {
            let request = Request::get(uri).body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            let text = client.request_text(request).await;
            let text = text.map_err(|error| error.to_string())?;
            Ok(samples(&text).collect())
        }
    };
    let asked = futures_util::stream::iter(pods).map(one);
    asked.buffered(AT_ONCE).collect().await
}

/// What was decided between two scrapes. A sidecar that was started anew counts from 0.
fn decisions(first: &[Sample], second: &[Sample], seconds: f64) -> Vec<Decision> {
    let before = |sample: &Sample| {
        let same = |it: &&Sample| it.name == sample.name && it.labels == sample.labels;
        first.iter().find(same).map_or(0.0, |it| it.value)
    };
    let decided = second.iter().filter(|it| it.name == "spillway_decisions");
    let decision = |sample: &Sample| {
        let label = |key: &str| sample.labels.get(key).cloned();
        let before = before(sample);
        let since = if before > sample.value { 0.0 } else { before };
        Some(Decision {
            service: label("service")?,
            reason: label("reason")?,
            target: label("target")?,
            rate: (sample.value - since) / seconds,
        })
    };
    decided.filter_map(decision).collect()
}

/// What is not as it should be with a sidecar.
fn state(pod: &Pod, samples: &[Sample], plugins: &[Plugin]) -> Option<State> {
    let namespace = pod.namespace().unwrap_or_default();
    let meant = plugins.iter().filter(|plugin| {
        let mut labels = plugin.selector.iter();
        plugin.namespace == namespace
            && labels.all(|(key, value)| pod.labels().get(key) == Some(value))
    });
    for plugin in meant {
        let has = samples.iter().find(|it| {
            it.name == "spillway_config_generation"
                && it
                    .labels
                    .get("side")
                    .is_some_and(|side| side == plugin.side)
        });
        match has {
            None => return Some(State::NoFilter),
            // Generations are small whole numbers.
            Some(has) if has.value < plugin.generation as f64 => {
                return Some(State::Older {
                    has: has.value as u64,
                    wanted: plugin.generation,
                });
            }
            Some(_) => {}
        }
    }
    None
}
