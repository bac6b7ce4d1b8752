//! The filters that run: in which proxies, and by which configuration.
//!
//! Of a namespace with many pods some are asked, and it is said how many: one proxy in trouble is
//! found by its metrics, and a whole cluster in trouble by any of its proxies.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use spillway_api::MeshCluster;

use super::report::Category;
use crate::connection::Cluster;
use crate::output::counted;
use crate::sidecars::exposition::{FETCHES, Sample};
use crate::sidecars::{self, Lack, Plugin, Teller};

/// Of each plugin so many pods are asked.
const ASKED: usize = 25;
/// So many are named.
const NAMED: usize = 5;

/// What the proxies of a cluster say, for each plugin of ours.
pub(super) async fn look(seen: &Cluster, cluster: &MeshCluster) -> Option<Category> {
    let mut category = Category::new(format!("filters in {}", cluster.name_any()));
    let plugins = sidecars::plugins(&seen.client, None).await.ok()?;
    for plugin in &plugins {
        look_at(&mut category, seen, plugin).await;
    }
    Some(category)
}

async fn look_at(category: &mut Category, seen: &Cluster, plugin: &Plugin) {
    let Plugin {
        namespace, name, ..
    } = plugin;
    let description = format!("proxies in {namespace} run {name}");
    let pods: Api<Pod> = Api::namespaced(seen.client.clone(), namespace);
    let list = pods
        .list(&ListParams::default().labels(&plugin.query()))
        .await;
    let pods = match list {
        Ok(pods) => pods.items,
        Err(error) => {
            let mend = "Look as who may list pods and get pods/proxy.";
            category.warn(description, error.to_string(), mend);
            return;
        }
    };
    if pods.is_empty() {
        category.fine(format!("no pod in {namespace} is to run {name}"));
        return;
    }
    let mut pods: Vec<Pod> = pods.into_iter().filter(sidecars::has_proxy).collect();
    let all = pods.len();
    if all == 0 {
        category.warn(
            description,
            "no pod that it is for has a proxy that runs",
            "Label the namespace for injection, and restart its pods.",
        );
        return;
    }
    pods.truncate(ASKED);
    let description = format!("{description} ({} of {all} asked)", pods.len());
    let answers = sidecars::ask(&seen.client, &pods, Teller::Agent).await;
    let mut found = Found::default();
    for (pod, answer) in pods.iter().zip(answers) {
        found.add(pod.name_any(), answer, plugin);
    }
    found.tell(category, &description, plugin.generation);
}

/// What they say.
#[derive(Debug, Default)]
struct Found {
    current: usize,
    /// By pod.
    older: BTreeMap<String, u64>,
    /// By pod, with the images that could not be fetched.
    without: BTreeMap<String, u64>,
    /// By pod, with the reason.
    silent: BTreeMap<String, String>,
}

impl Found {
    fn add(&mut self, pod: String, answer: Result<Vec<Sample>, String>, plugin: &Plugin) {
        let samples = match answer {
            Ok(samples) => samples,
            Err(why) => {
                self.silent.insert(pod, why);
                return;
            }
        };
        match plugin.lack(&samples) {
            Some(Lack::Filter) => {
                let fetches = samples.iter().filter(|it| it.name.starts_with(FETCHES));
                let failed = fetches.filter(|it| {
                    let result = it.labels.get("result");
                    result.is_some_and(|result| result.contains("failure"))
                });
                let failed: f64 = failed.map(|it| it.value).sum();
                self.without.insert(pod, failed as u64);
            }
            Some(Lack::Newer(has)) => {
                self.older.insert(pod, has);
            }
            None => self.current += 1,
        }
    }

    fn tell(&self, category: &mut Category, description: &str, generation: u64) {
        if !self.without.is_empty() {
            let failed: u64 = self.without.values().sum();
            let why = if failed > 0 {
                format!(
                    "; their agents could not fetch an image {}",
                    counted(usize::try_from(failed).unwrap_or(usize::MAX), "time")
                )
            } else {
                String::new()
            };
            category.wrong(
                description,
                format!("{} run no filter: {}{why}", self.without.len(), some(self.without.keys())),
                "See that the image can be had from these pods (registry, its authority, credentials); their next configuration, or a restart, fetches it anew. Their requests stay at home.",
            );
        }
        if !self.older.is_empty() {
            let least = self.older.values().min().copied().unwrap_or_default();
            category.warn(
                description,
                format!("{} act by an older configuration, down to {least} of {generation}: {}", self.older.len(), some(self.older.keys())),
                "It takes a second after a change. If it stays so: istioctl proxy-status, and the log of istiod.",
            );
        }
        if !self.silent.is_empty() {
            let why = self.silent.values().next().cloned().unwrap_or_default();
            category.warn(
                description,
                format!(
                    "{} did not answer: {}: {why}",
                    self.silent.len(),
                    some(self.silent.keys())
                ),
                "Look as who may get pods/proxy; a pod that is starting or ending may be silent.",
            );
        }
        if self.without.is_empty() && self.older.is_empty() && self.current > 0 {
            category.fine(format!("{description}, generation {generation}"));
        }
    }
}

fn some<'n>(names: impl ExactSizeIterator<Item = &'n String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        format!("{first} and {more} more")
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;
    use crate::sidecars::exposition::samples;

    #[test]
    fn every_state_of_a_proxy_is_told() {
        let plugin = Plugin::of("client", 7);
        let read = |text: &str| Ok(samples(text).collect::<Vec<Sample>>());
        let said = |generation: u64| {
            read(&format!(
                "spillway_config_generation{{side=\"client\"}} {generation}"
            ))
        };
        let tell = |answers: Vec<Result<Vec<Sample>, String>>| {
            let mut found = Found::default();
            for (number, answer) in answers.into_iter().enumerate() {
                found.add(format!("pod-{number}"), answer, &plugin);
            }
            let mut category = Category::new("filters");
            found.tell(&mut category, "proxies", 7);
            let checks = category.checks;
            checks
                .into_iter()
                .map(|it| (it.result, it.reason.unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            tell(vec![said(7), said(8)]),
            [(Level::Success, String::new())]
        );
        let failed = read("istio_agent_wasm_remote_fetch_count{result=\"fetch_failure\"} 2");
        let told = tell(vec![failed, said(6), Err("no".to_owned())]);
        assert_eq!(told[0].0, Level::Error);
        assert!(
            told[0].1.contains("pod-0") && told[0].1.contains("2 times"),
            "{told:?}"
        );
        assert_eq!(told[1].0, Level::Warning);
        assert!(told[1].1.contains("down to 6 of 7: pod-1"), "{told:?}");
        assert!(
            told[2].1.contains("1 did not answer: pod-2: no"),
            "{told:?}"
        );
    }
}
