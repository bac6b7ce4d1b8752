//! What is compared, in rounds.
//!
//! A round is one change of the threshold by the controller and one by the bare client, one after
//! the other, so that a slow minute of the machine is both's. Before each, the controller is at
//! rest: its statuses are written, and its plugins may be pushed again. The result is the ratio of
//! the medians.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use spillway_e2e::bench::{Report, Row, median};

use crate::bare::BareClient;
use crate::fleet::Fleet;
use crate::members::{CONTROLLER, Requests};

/// What was seen of changes.
#[derive(Debug, Default)]
pub struct Changes {
    /// By round, when each member had it, from the first to the last.
    pub controller: Vec<Vec<Duration>>,
    /// The same of the bare client.
    pub bare: Vec<Vec<Duration>>,
    /// The controller's requests to all members, by round.
    pub requests: Vec<Requests>,
    /// The processor time of the controller, by round.
    pub cpu: Vec<Duration>,
}

/// Changes the threshold in so many rounds.
///
/// # Errors
/// When a member does not get it.
pub async fn changes(fleet: &mut Fleet, rounds: usize) -> Result<Changes> {
    let bare = BareClient::connect(&fleet.members).await?;
    let mut changes = Changes::default();
    // The first round fills caches; it does not count.
    for round in 0..=rounds {
        let requests = fleet.members.requests(CONTROLLER).await?;
        let cpu = fleet.controller.cpu_time()?;
        let began = SystemTime::now();
        fleet.set_rate(100 + round).await?;
        let controller = fleet.members.written(CONTROLLER, bare.objects(), began);
        let controller = controller.await?;
        fleet.applied().await?;
        let cpu = fleet.controller.cpu_time()?.saturating_sub(cpu);
        let requests = since(&requests, fleet.members.requests(CONTROLLER).await?);
        let bare = bare.write(&fleet.members, 1 + round).await?;
        let (ours, its) = (at(&controller, 1.0), at(&bare, 1.0));
        eprintln!("round {round} of {rounds}: {ours:?}, the bare client {its:?}");
        if round > 0 {
            changes.controller.push(controller);
            changes.bare.push(bare);
            changes.requests.push(requests);
            changes.cpu.push(cpu);
        }
    }
    Ok(changes)
}

/// The controller's requests to all members while nothing changes for so long.
///
/// # Errors
/// When a process is gone.
pub async fn rest(fleet: &mut Fleet, watched: Duration) -> Result<Requests> {
    fleet.controller.quiet().await?;
    let before = fleet.members.requests(CONTROLLER).await?;
    tokio::time::sleep(watched).await;
    Ok(since(&before, fleet.members.requests(CONTROLLER).await?))
}

/// How many requests have this beginning; all have the empty one.
#[must_use]
pub fn count(requests: &Requests, beginning: &str) -> u64 {
    let of_these = requests
        .iter()
        .filter(|(what, _)| what.starts_with(beginning));
    of_these.map(|(_, count)| count).sum()
}

/// All that was measured, as rows.
///
/// # Errors
/// When the controller has ended.
pub fn report(
    fleet: &Fleet,
    changes: &Changes,
    rest: &Requests,
    watched: Duration,
) -> Result<Report> {
    let mut report = Report::new("fleet")?;
    let clusters = number(fleet.members.count());
    report.add(Row::new("clusters", clusters, "clusters"));
    let attached = milliseconds(fleet.attached);
    report.add(Row::new("attached", attached, "ms"));
    let first = &fleet.first;
    for (name, part) in PARTS {
        let row = format!("first/{name}");
        report.add(Row::new(&row, milliseconds(at(first, part)), "ms"));
    }
    for (name, part) in PARTS {
        let of = |rounds: &[Vec<Duration>]| -> Vec<f64> {
            let times = rounds.iter().map(|times| milliseconds(at(times, part)));
            times.collect()
        };
        let (controller, bare) = (of(&changes.controller), of(&changes.bare));
        report.add(Row::median(&format!("change/{name}"), &controller, "ms"));
        report.add(Row::median(&format!("change/{name}-of-bare"), &bare, "ms"));
        let ratio = median(&controller) / median(&bare);
        let row = Row::new(&format!("change/{name}-vs-bare"), ratio, "ratio");
        let aimed = name == "last";
        report.add(if aimed { row.aim("<=2.0") } else { row });
    }
    let per_cluster = |beginning: &str| -> Vec<f64> {
        let counts = changes.requests.iter();
        counts
            .map(|requests| number(count(requests, beginning)) / clusters)
            .collect()
    };
    // Two plugins, and a look at the claim when the last is older than ten seconds.
    let row = Row::median(
        "change/applies-per-cluster",
        &per_cluster("patch"),
        "requests",
    );
    report.add(row.aim("<=2"));
    let row = Row::median("change/requests-per-cluster", &per_cluster(""), "requests");
    report.add(row.aim("<=3"));
    let cpu: Vec<f64> = changes.cpu.iter().map(Duration::as_secs_f64).collect();
    report.add(Row::median("change/cpu", &cpu, "s"));

    let memory = fleet.controller.resident_memory()?;
    let own = memory.saturating_sub(fleet.memory_alone);
    report.add(Row::new("memory/alone", mib(fleet.memory_alone), "MiB"));
    report.add(Row::new("memory/rest", mib(memory), "MiB"));
    let peak = Row::new("memory/peak", mib(fleet.controller.peak_memory()?), "MiB");
    report.add(peak.aim("<512"));
    report.add(Row::new(
        "memory/per-cluster",
        mib(own) * 1024.0 / clusters,
        "KiB",
    ));
    let sockets = number(fleet.controller.sockets()?) / clusters;
    report.add(Row::new("rest/sockets-per-cluster", sockets, "sockets"));
    let minutes = watched.as_secs_f64() / 60.0;
    let watches = number(count(rest, "watch")) / minutes;
    let others = number(count(rest, "")) / minutes - watches;
    report.add(Row::new("rest/watches", watches, "requests/min"));
    report.add(Row::new("rest/others", others, "requests/min").aim("=0"));
    Ok(report)
}

/// Which of the members, in the order in which they had it.
const PARTS: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("last", 1.0)];

fn at(times: &[Duration], part: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a small count"
    )]
    let rank = (number(times.len()) * part).ceil() as usize;
    let index = rank.clamp(1, times.len().max(1)) - 1;
    times.get(index).copied().unwrap_or_default()
}

fn since(before: &Requests, mut now: Requests) -> Requests {
    for (what, count) in &mut now {
        *count -= before.get(what).copied().unwrap_or_default();
    }
    now.retain(|_, count| *count > 0);
    now
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    number(bytes) / 1024.0 / 1024.0
}

fn number(count: impl TryInto<u64>) -> f64 {
    let count = count.try_into().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let number = count as f64;
    number
}
