//! The report of a flight, and the view while it lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt;
use serde::Serialize;
use spillway_api::MeshCluster;

use super::load::Unanswered;
use super::rate::Plan;
use super::tally::{FirstSpill, Latency, Tally};

/// What a flight found out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) service: String,
    pub(super) is_fine: bool,
    rate: String,
    seconds: f64,
    planned: u64,
    pub(super) sent: u64,
    /// Since too many were in flight.
    pub(super) not_sent: u64,
    pub(super) answered: u64,
    unanswered: BTreeMap<Unanswered, u64>,
    spilled: u64,
    spilled_share: f64,
    first_spill: Option<First>,
    clusters: Vec<Cluster>,
    /// Why clusters have no names.
    #[serde(skip_serializing_if = "Option::is_none")]
    nameless: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct First {
    after_requests: u64,
    seconds: f64,
    requests_per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: Option<String>,
    prefix: String,
    requests: u64,
    share: f64,
    statuses: BTreeMap<u16, u64>,
    latency_milliseconds: Percentiles,
    #[serde(skip)]
    told_statuses: String,
}

#[derive(Clone, Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Which cluster has which prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    by_prefix: BTreeMap<String, String>,
    problem: Option<String>,
}

impl Names {
    /// A prefix that several clusters have names none of them.
    pub(super) fn of(clusters: &[MeshCluster]) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for cluster in clusters {
            let prefix = cluster.spec.prefix.clone();
            all.entry(prefix).or_default().push(cluster.name_any());
        }
        let named = all.into_iter().filter_map(|(prefix, names)| {
            let [name] = &names[..] else { return None };
            Some((prefix, name.clone()))
        });
        Self {
            by_prefix: named.collect(),
            problem: None,
        }
    }

    pub(super) fn unknown(why: &str) -> Self {
        Self {
            problem: Some(why.to_owned()),
            ..Self::default()
        }
    }
}

impl Report {
    pub(super) fn new(plan: Plan, tally: &Tally, names: &Names, home: &str) -> Self {
        let answered = tally.answered();
        let share = |part: u64| {
            if answered == 0 {
                0.0
            } else {
                rounded(part as f64 / answered as f64, 4)
            }
        };
        let cluster = |(prefix, group): (&String, &super::tally::Group)| Cluster {
            name: names.by_prefix.get(prefix).cloned(),
            prefix: prefix.clone(),
            requests: group.requests(),
            share: share(group.requests()),
            statuses: group.statuses.clone(),
            told_statuses: group.statuses(),
            latency_milliseconds: percentiles(&group.latency),
        };
        let first = FirstSpill::of(tally, &plan).map(|first| First {
            after_requests: first.after,
            seconds: rounded(first.at.as_secs_f64(), 3),
            requests_per_second: rounded(first.rate, 1),
        });
        let spilled = tally.spilled(home);
        Self {
            service: String::new(),
            is_fine: tally.is_fine(),
            rate: plan.rate.to_string(),
            seconds: plan.time.as_secs_f64(),
            planned: plan.requests(),
            sent: 0,
            not_sent: 0,
            answered,
            unanswered: tally.unanswered.clone(),
            spilled,
            spilled_share: share(spilled),
            first_spill: first,
            clusters: tally.groups.iter().map(cluster).collect(),
            nameless: names.problem.clone(),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}: {} over {} s, {} of {} requests sent, {} answered\n",
            self.service, self.rate, self.seconds, self.sent, self.planned, self.answered
        );
        if self.not_sent > 0 {
            text += &format!("{} not sent, for too many were in flight\n", self.not_sent);
        }
        for (reason, count) in &self.unanswered {
            text += &format!("{count} {}\n", reason.words());
        }
        text += &self.spill();
        text += &self.table();
        if let (Some(why), false) = (&self.nameless, self.clusters.is_empty()) {
            text +=
                &format!("clusters have no names here, for the hub was not to be asked: {why}\n");
        }
        text
    }

    /// While it lasts.
    pub(super) fn view(&self, since: Duration) -> String {
        let seconds = since.as_secs_f64().min(self.seconds);
        let in_flight = self.sent - self.ended().min(self.sent);
        let mut text = format!(
            "{seconds:.0} s of {} s, {} sent, {in_flight} in flight, {} without answer\n",
            self.seconds,
            self.sent,
            self.unanswered.values().sum::<u64>()
        );
        text += &self.spill();
        text += &self.table();
        text
    }

    fn ended(&self) -> u64 {
        self.answered + self.unanswered.values().sum::<u64>()
    }

    fn spill(&self) -> String {
        if self.answered == 0 {
            return String::new();
        }
        let Some(first) = &self.first_spill else {
            return "none spilled\n".to_owned();
        };
        format!(
            "{} spilled ({:.1} %), the first after {} requests and {:.1} s, at {:.1}/s\n",
            self.spilled,
            self.spilled_share * 100.0,
            first.after_requests,
            first.seconds,
            first.requests_per_second
        )
    }

    fn table(&self) -> String {
        if self.clusters.is_empty() {
            return String::new();
        }
        let mut rows = vec![
            [
                "CLUSTER", "PREFIX", "REQUESTS", "SHARE", "P50", "P90", "P99", "MAX", "STATUS",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.clusters.iter().map(|it| {
            let none = || "-".to_owned();
            let latency = &it.latency_milliseconds;
            let time = |milliseconds: f64| format!("{milliseconds:.1} ms");
            [
                it.name.clone().unwrap_or_else(none),
                if it.prefix.is_empty() {
                    none()
                } else {
                    it.prefix.clone()
                },
                it.requests.to_string(),
                format!("{:.1} %", it.share * 100.0),
                time(latency.p50),
                time(latency.p90),
                time(latency.p99),
                time(latency.max),
                it.told_statuses.clone(),
            ]
        }));
        crate::output::table(&rows)
    }
}

fn percentiles(latency: &Latency) -> Percentiles {
    Percentiles {
        p50: latency.at(0.5),
        p90: latency.at(0.9),
        p99: latency.at(0.99),
        p999: latency.at(0.999),
        max: latency.at(1.0),
    }
}

fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}
