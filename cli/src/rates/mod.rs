//! How much traffic policies decide about, and what they decide.
//!
//! It is counted where requests are, in the sidecars of callers, and read from Prometheus: from the
//! one that is named, or from the one that each cluster has. A cluster without one is asked for the
//! metrics of its sidecars. Each cluster has a deadline, and what is missing is said.

mod counted;
mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Client;
use serde::Serialize;
use spillway_api::{BurstPolicy, MeshCluster};
use spillway_controller::observe::interest;

pub(crate) use self::counted::MOST as MOST_SIDECARS;
use self::prometheus::Prometheus;
use crate::connection::{Cluster, Connection};
use crate::reach;
use crate::sidecars::Lack;
use crate::sidecars::exposition::within;

/// For all that one cluster is asked.
const DEADLINE: Duration = Duration::from_secs(8);
/// What sidecars are that are not as they should be.
const WITHOUT_FILTER: &str = "without the filter";
const OLDER: &str = "with an older configuration";
const SILENT: &str = "did not tell";
/// All of these, in the order in which they are told.
pub(crate) const LACKS: [&str; 3] = [WITHOUT_FILTER, OLDER, SILENT];
/// What is decided for requests that stay because they may, or because nothing else is to be had.
const STAYS: [&str; 3] = ["below-limit", "never-route", "probe"];

/// Requests a second of one service, to one cluster, for one reason.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) service: String,
    pub(crate) reason: String,
    pub(crate) target: String,
    pub(crate) rate: f64,
}

/// A sidecar that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Sidecar {
    pub(crate) cluster: String,
    /// `NAMESPACE/POD`.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "detail")]
pub(crate) enum State {
    /// A plugin is meant for it, and it has no filter.
    NoFilter,
    /// It acts by an older configuration.
    Older {
        /// Its generation.
        has: u64,
        /// The newest one.
        wanted: u64,
    },
    /// It did not tell.
    Silent(String),
}

impl Sidecar {
    /// Whether it does not do what it should, as far as it is known.
    pub(crate) fn lacks(&self) -> bool {
        !matches!(self.state, State::Silent(_))
    }
}

impl State {
    /// Of a sidecar that lacks something of a plugin of this generation.
    fn of(lack: Lack, wanted: u64) -> Self {
        match lack {
            Lack::Filter => Self::NoFilter,
            Lack::Newer(has) => Self::Older { has, wanted },
        }
    }

    /// What a sidecar in this state is.
    pub(crate) const fn words(&self) -> &'static str {
        match self {
            Self::NoFilter => WITHOUT_FILTER,
            Self::Older { .. } => OLDER,
            Self::Silent(_) => SILENT,
        }
    }

    /// What else is to be said of it.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::NoFilter => String::new(),
            Self::Older { has, wanted } => format!(", generation {has} of {wanted}"),
            Self::Silent(why) => format!(", {why}"),
        }
    }
}

/// All that was found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    decisions: Vec<Decision>,
    pub(crate) sidecars: Vec<Sidecar>,
    /// Who told, for each.
    pub(crate) sources: BTreeSet<&'static str>,
    /// How many clusters were asked, and those that did not answer.
    pub(crate) asked: usize,
    pub(crate) silent: Vec<(String, String)>,
    /// Clusters with more sidecars than are asked, and how many they have.
    pub(crate) cut: Vec<(String, usize)>,
}

/// The traffic of one policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Traffic {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Of these, between 0 and 1.
    pub(crate) home_share: f64,
    /// Why most of those leave home that do, or why they stay.
    pub(crate) reason: String,
    /// Requests a second by the cluster that they are sent to.
    pub(crate) targets: BTreeMap<String, f64>,
}

/// Finds the rates of these policies out.
///
/// # Errors
/// In words, when the Prometheus that was named does not answer.
pub(crate) async fn find(
    connection: &Connection,
    hub: &Cluster,
    prometheus: Option<&str>,
    policies: &[BurstPolicy],
    clusters: &[MeshCluster],
) -> Result<Rates, String> {
    if let Some(url) = prometheus {
        let asked = async { Prometheus::at(url)?.decisions().await };
        let late = || Err(format!("no answer within {} s", DEADLINE.as_secs()));
        let asked = tokio::time::timeout(DEADLINE, asked).await;
        return Ok(Rates {
            decisions: asked.unwrap_or_else(|_| late())?,
            sources: BTreeSet::from([PROMETHEUS]),
            ..Rates::default()
        });
    }
    let namespaces = interest::namespaces(policies);
    if namespaces.is_empty() {
        return Ok(Rates::default());
    }
    let namespaces = &namespaces;
    let answers = reach::ask(
        connection,
        hub,
        clusters,
        DEADLINE,
        |name, client| async move { of_cluster(&name, &client, namespaces).await },
    )
    .await;
    let mut rates = Rates {
        asked: answers.len(),
        ..Rates::default()
    };
    for (name, answer) in answers {
        match answer {
            Err(why) => rates.silent.push((name, why)),
            Ok(answer) => {
                if answer.told.all > counted::MOST {
                    rates.cut.push((name, answer.told.all));
                }
                rates.sources.extend(answer.source);
                rates.decisions.extend(answer.told.decisions);
                rates.sidecars.extend(answer.told.sidecars);
            }
        }
    }
    Ok(rates)
}

const PROMETHEUS: &str = "Prometheus";

struct Answer {
    source: Option<&'static str>,
    told: counted::Told,
}

async fn of_cluster(
    name: &str,
    client: &Client,
    namespaces: &BTreeSet<String>,
) -> Result<Answer, String> {
    // Who may not look for it may still have the right to ask sidecars.
    let found = Prometheus::of(client).await.ok().flatten();
    if let Some(prometheus) = found
        && let Ok(decisions) = prometheus.decisions().await
        && !decisions.is_empty()
    {
        return Ok(Answer {
            source: Some(PROMETHEUS),
            told: counted::Told {
                decisions,
                ..counted::Told::default()
            },
        });
    }
    let told = counted::ask(name, client, namespaces).await?;
    Ok(Answer {
        source: (told.all > 0).then_some("sidecars"),
        told,
    })
}

impl Rates {
    /// The traffic of these services, each `NAMESPACE/NAME`; nothing where nobody counted any.
    pub(crate) fn of(&self, services: &[String], home: Option<&str>) -> Option<Traffic> {
        let is_it = |it: &&Decision| {
            let mut names = services.iter();
            names.any(|name| it.service == *name || it.service == within(name))
        };
        let of_policy: Vec<&Decision> = self.decisions.iter().filter(is_it).collect();
        let rate: f64 = of_policy.iter().map(|it| it.rate).sum();
        if of_policy.is_empty() {
            return None;
        }
        let stays = |it: &Decision| match home {
            Some(home) => it.target == home || it.target == within(home),
            None => STAYS.contains(&it.reason.replace('_', "-").as_str()),
        };
        let mut targets: BTreeMap<String, f64> = BTreeMap::new();
        let mut reasons: BTreeMap<String, f64> = BTreeMap::new();
        let (at_home, away): (Vec<&Decision>, Vec<&Decision>) =
            of_policy.iter().partition(|it| stays(it));
        for it in &of_policy {
            *targets.entry(it.target.clone()).or_default() += it.rate;
        }
        let at_home_rate: f64 = at_home.iter().map(|it| it.rate).sum();
        let leave = away.iter().map(|it| it.rate).sum::<f64>() > 0.0;
        for it in if leave { away } else { at_home } {
            *reasons.entry(it.reason.replace('_', "-")).or_default() += it.rate;
        }
        let most = reasons
            .into_iter()
            .max_by(|(_, one), (_, other)| one.total_cmp(other));
        targets.retain(|_, rate| *rate > 0.0);
        Some(Traffic {
            rate,
            home_share: if rate > 0.0 { at_home_rate / rate } else { 1.0 },
            reason: most.map(|(reason, _)| reason).unwrap_or_default(),
            targets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decisions: &[(&str, &str, f64)]) -> Rates {
        let decision = |(reason, target, rate): &(&str, &str, f64)| Decision {
            service: "default/worker".to_owned(),
            reason: (*reason).to_owned(),
            target: (*target).to_owned(),
            rate: *rate,
        };
        Rates {
            decisions: decisions.iter().map(decision).collect(),
            ..Rates::default()
        }
    }

    #[test]
    fn the_reason_is_that_of_most_requests_that_leave() {
        let rates = rates(&[
            ("below-limit", "primary", 14.0),
            ("exhausted", "primary", 1.0),
            ("over-limit", "burst", 30.0),
            ("override", "burst", 15.0),
        ]);
        let worker = ["default/worker".to_owned()];
        for home in [Some("primary"), None] {
            let traffic = rates.of(&worker, home).unwrap();
            assert_eq!(
                (traffic.rate, traffic.reason.as_str()),
                (60.0, "over-limit")
            );
            assert_eq!(traffic.targets["burst"], 45.0);
        }
        assert_eq!(rates.of(&worker, Some("primary")).unwrap().home_share, 0.25);
        assert!(rates.of(&["default/other".to_owned()], None).is_none());
    }
}
