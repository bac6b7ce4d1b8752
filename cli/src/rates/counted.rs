//! Rates from the sidecars of a cluster, through its API server; and which of them have no filter,
//! or one with an older configuration.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::{Client, ResourceExt};

use super::{Decision, Sidecar, State};
use crate::sidecars::exposition::Sample;
use crate::sidecars::{self, Teller};

/// Rates are counted over this time.
const APART: Duration = Duration::from_secs(2);
/// So many sidecars of a cluster are asked.
pub(crate) const MOST: usize = 200;

/// What the sidecars of a cluster tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) decisions: Vec<Decision>,
    pub(super) sidecars: Vec<Sidecar>,
    /// How many there are, those that were not asked included.
    pub(super) all: usize,
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
    let (mut pods, mut meant) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        pods.extend(sidecars::proxies(client, namespace).await?);
        meant.extend(sidecars::plugins(client, Some(namespace)).await?);
    }
    let all = pods.len();
    pods.truncate(MOST);
    if pods.is_empty() {
        return Ok(Told::default());
    }
    let began = Instant::now();
    let first = sidecars::ask(client, &pods, Teller::Envoy).await;
    tokio::time::sleep(APART).await;
    let seconds = began.elapsed().as_secs_f64();
    let second = sidecars::ask(client, &pods, Teller::Envoy).await;
    let mut told = Told {
        all,
        ..Told::default()
    };
    for ((pod, first), second) in pods.iter().zip(first).zip(second) {
        let state = match (&first, &second) {
            (Ok(first), Ok(second)) => {
                told.decisions.extend(decisions(first, second, seconds));
                let meant = meant.iter().filter(|plugin| plugin.is_for(pod));
                let mut lacks = meant.filter_map(|it| Some((it.lack(second)?, it.generation)));
                lacks.next().map(|(lack, wanted)| State::of(lack, wanted))
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
