//! How long a changed threshold takes from the hub to the sidecars that act by it.
//!
//! A round is one change of a policy. On its way it is seen by five clocks, which are one and the
//! same here, since all of it runs on one machine:
//!
//! | leg | ends when |
//! |---|---|
//! | controller | the API server of a cluster has stored the changed plugin (a watch on it) |
//! | debounce | istiod has waited for other changes, and begins to push (its log) |
//! | istiod | the plugin is handed to the sidecar's agent (its log) |
//! | agent | Envoy was given the configuration (its dump of it) |
//! | envoy | every thread acts by it (the filter's own gauge, looked at every few milliseconds) |
//!
//! A leg begins where the one before it ends, and the whole way is from before the policy is sent
//! to the hub until a sidecar acts. Every sidecar of every cluster counts in each round, once for
//! the plugin that came last.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::json;
use spillway_api::BurstPolicy;
use spillway_api::istio::Kind;
use spillway_clusters::User;
use spillway_e2e::bench::{Report, Row};
use spillway_e2e::mesh::GENERATION;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::mesh::{HUB, Mesh};
use crate::pod::Pod;
use crate::wait;

/// The legs, in order.
const LEGS: [&str; 5] = ["controller", "debounce", "istiod", "agent", "envoy"];
/// Plugins are written once a second at most; a round that comes sooner would measure that.
const BETWEEN: Duration = Duration::from_millis(1300);
/// Rounds do not fall into step with anything: each waits another part of this in addition.
const APART: Duration = Duration::from_millis(700);
const LOOK: Duration = Duration::from_millis(4);

/// The whole way of one change to one sidecar, and its legs.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    whole: Duration,
    legs: [Duration; 5],
}

/// Measures so many changes of the policy `worker`, which has to be in force.
///
/// # Errors
/// When a change does not come through, or a log is not what it was.
pub async fn measure(mesh: &Mesh, rounds: u32) -> Result<Vec<Way>> {
    let mut stores = BTreeMap::new();
    for cluster in mesh.members() {
        stores.insert(cluster.to_owned(), Store::watch(mesh, cluster).await?);
    }
    let client = mesh.cluster(HUB)?.client(User::admin())?;
    let policies: Api<BurstPolicy> = Api::namespaced(client, &mesh.service().namespace);
    let mut ways = Vec::new();
    for round in 0..rounds {
        // The golden ratio's multiples are spread evenly, in any number.
        let part = (f64::from(round) * 0.618_034).fract();
        tokio::time::sleep(BETWEEN + APART.mul_f64(part)).await;
        let mut before = Vec::new();
        for pod in mesh.pods() {
            before.push(generations(pod).await?);
        }
        let rungs = json!([{"cluster": "burst", "maxRate": format!("{}/s", 5000 + round)}]);
        let change = Patch::Merge(json!({"spec": {"overflow": rungs}}));
        let sent = Timestamp::now();
        let params = PatchParams::default();
        policies.patch("worker", &params, &change).await?;
        let followed = mesh.pods().zip(&before).map(async |(pod, before)| {
            wait_newer(pod, before).await?;
            let acts = Timestamp::now();
            anyhow::Ok((pod, acts))
        });
        // The first round finds connections that are not open yet.
        let followed = try_join_all(followed).await?;
        if round == 0 {
            continue;
        }
        for (pod, acts) in followed {
            let store = stores.get(pod.cluster()).context("no store")?;
            let way = way(mesh, pod, store, sent, acts).await;
            ways.push(way.with_context(|| format!("round {round}, {}", pod.name()))?);
        }
    }
    Ok(ways)
}

/// As rows: of each leg and of the whole the median and the 99th percentile.
///
/// # Errors
/// When the machine or the commit cannot be told.
pub fn report(ways: &[Way]) -> Result<Report> {
    let mut report = Report::new("propagation")?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    report.add(Row::new("changes", ways.len() as f64, "sidecars"));
    for (leg, name) in LEGS.iter().enumerate() {
        let times = ways.iter().filter_map(|way| way.legs.get(leg).copied());
        let times: Vec<Duration> = times.collect();
        for (part, label) in [(50, "p50"), (99, "p99")] {
            let name = format!("{name}/{label}");
            report.add(Row::new(&name, at(&times, part), "ms"));
        }
    }
    let whole: Vec<Duration> = ways.iter().map(|way| way.whole).collect();
    report.add(Row::new("whole/p50", at(&whole, 50), "ms"));
    report.add(Row::new("whole/p99", at(&whole, 99), "ms").aim("<2000"));
    report.add(Row::new("whole/most", at(&whole, 100), "ms"));
    Ok(report)
}

/// The percentile, in milliseconds.
fn at(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let time = sorted.get(rank - 1).copied().unwrap_or_default();
    time.as_secs_f64() * 1e3
}

async fn way(
    mesh: &Mesh,
    pod: &Pod,
    store: &Store,
    sent: Timestamp,
    acts: Timestamp,
) -> Result<Way> {
    let stored = store.last_since(sent).await?;
    let node = format!("for node:{}.", pod.name());
    let log = mesh.istiod(pod.cluster())?.log();
    let first = |since: Timestamp, words: [&str; 2]| {
        let mut lines = log
            .lines()
            .filter(|it| words.iter().all(|word| it.contains(word)));
        lines.find_map(|line| time_of(line).filter(|time| *time >= since))
    };
    let debounced = first(stored, ["Push debounce stable", ""]);
    let debounced = debounced.context("istiod says nothing of a push")?;
    let pushed = first(debounced, ["ECDS: PUSH", &node]);
    let pushed = pushed.context("istiod says nothing of the sidecar")?;
    let filters = pod.filters().await?;
    let given = filters.iter().map(|filter| filter.updated).max();
    let given = given.context("no filter")?;
    // Milliseconds on one side, microseconds on the other, and a line that comes after its deed.
    let mut legs = [Duration::ZERO; 5];
    let mut last = sent;
    for (leg, end) in legs
        .iter_mut()
        .zip([stored, debounced, pushed, given, acts])
    {
        *leg = between(last, end);
        last = last.max(end);
    }
    let whole = between(sent, acts);
    ensure!(whole > Duration::ZERO, "time went back");
    Ok(Way { whole, legs })
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

/// A log line begins with its time.
fn time_of(line: &str) -> Option<Timestamp> {
    line.split_whitespace().next()?.parse().ok()
}

/// Of each side of the filter.
async fn generations(pod: &Pod) -> Result<BTreeMap<String, u64>> {
    let stats = pod.stats(&format!("^{GENERATION}")).await?;
    Ok(stats.into_iter().collect())
}

async fn wait_newer(pod: &Pod, before: &BTreeMap<String, u64>) -> Result<()> {
    let what = format!("{} acts by the change", pod.name());
    let newer = async || {
        tokio::time::sleep(LOOK).await;
        let now = generations(pod).await?;
        Ok(before.iter().all(|(name, was)| now.get(name) > Some(was)))
    };
    wait::until(&what, newer).await.map(drop)
}

/// When the plugins of a cluster were stored.
struct Store {
    times: watch::Receiver<Vec<Timestamp>>,
    _watch: JoinHandle<()>,
}

impl Store {
    async fn watch(mesh: &Mesh, cluster: &str) -> Result<Self> {
        let client = mesh.cluster(cluster)?.client(User::admin())?;
        let plugin = Kind::WASM_PLUGIN;
        let resource = ApiResource {
            group: plugin.group.to_owned(),
            version: plugin.version.to_owned(),
            api_version: plugin.api_version(),
            kind: plugin.kind.to_owned(),
            plural: plugin.plural.to_owned(),
        };
        let plugins: Api<DynamicObject> =
            Api::namespaced_with(client, &mesh.service().namespace, &resource);
        let since = plugins.list(&kube::api::ListParams::default()).await?;
        let since = since.metadata.resource_version.unwrap_or_default();
        let mut events = plugins
            .watch(&WatchParams::default(), &since)
            .await?
            .boxed();
        let (sender, times) = watch::channel(Vec::new());
        let watched = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Modified(_) = event {
                    sender.send_modify(|times| times.push(Timestamp::now()));
                }
            }
        });
        Ok(Self {
            times,
            _watch: watched,
        })
    }

    /// The last one of a round: the sidecars act by it already.
    async fn last_since(&self, sent: Timestamp) -> Result<Timestamp> {
        let mut times = self.times.clone();
        let is_new = |times: &Vec<Timestamp>| times.last().is_some_and(|last| *last > sent);
        let found = tokio::time::timeout(wait::PATIENCE, times.wait_for(is_new)).await;
        let times = found.context("no plugin was stored")??;
        times.last().copied().context("it was just there")
    }
}
