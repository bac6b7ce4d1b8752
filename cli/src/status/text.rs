//! What is shown, for people.

use std::collections::BTreeMap;

use super::shown::{Member, Policy, Said, Shown, Site, State, age};
use crate::output::{self, FINE, WRONG};
use crate::rates::{self, Sidecar, Traffic};

/// So many clusters that did not tell are named.
const SILENT: usize = 5;

fn mark(is_fine: bool) -> String {
    if is_fine {
        format!("{FINE}√{FINE:#}")
    } else {
        format!("{WRONG}×{WRONG:#}")
    }
}

/// Policies with what they do and where they are, then clusters and fleets, then what is missing.
pub(super) fn tree(shown: &Shown, is_wide: bool) -> String {
    let mut text = String::new();
    for it in &shown.policies {
        let age = age(it.created.as_deref());
        let age = age.map(|age| format!(", {age} old")).unwrap_or_default();
        text += &format!(
            "{} policy {}: {}{age}\n",
            mark(it.is_fine),
            it.name,
            policy(it)
        );
        let mut branches = vec![format!(
            "{}: home {}, then {}",
            it.services.join(", "),
            it.home.as_deref().unwrap_or("the caller's own"),
            it.overflow.join(", ")
        )];
        branches.extend(it.traffic.as_ref().map(|it| traffic(it, is_wide)));
        branches.extend(it.forced.as_ref().map(|forced| format!("forced: {forced}")));
        branches.extend(lines(&it.conditions));
        branches.extend(it.states.iter().map(|it| state(it, is_wide)));
        text += &limbs(&branches);
    }
    for it in &shown.clusters {
        text += &format!("{} cluster {}: {}\n", mark(it.is_fine), it.name, member(it));
        text += &limbs(&lines(&it.conditions));
    }
    for it in &shown.fleets {
        text += &format!("{} fleet {}: {}\n", mark(it.is_fine), it.name, site(it));
    }
    if text.is_empty() {
        text += "there is no policy, no cluster and no fleet yet\n";
    }
    text += &counted(shown, is_wide);
    text
}

/// A line about each, without what changes all the time.
pub(super) fn summaries(shown: &Shown) -> BTreeMap<String, String> {
    let with = |line: String, conditions: &[Said]| {
        let lines = [vec![line], lines(conditions)].concat();
        lines.join("; ")
    };
    let policies = shown.policies.iter().map(|it| {
        (
            format!("policy {}", it.name),
            with(policy(it), &it.conditions),
        )
    });
    let clusters = shown.clusters.iter().map(|it| {
        (
            format!("cluster {}", it.name),
            with(member(it), &it.conditions),
        )
    });
    let fleets = shown
        .fleets
        .iter()
        .map(|it| (format!("fleet {}", it.name), site(it)));
    policies.chain(clusters).chain(fleets).collect()
}

fn policy(it: &Policy) -> String {
    let has = it.clusters.as_deref().unwrap_or("no");
    format!("{}, {}, {has} clusters", it.mode, it.enforcement)
}

fn member(it: &Member) -> String {
    let version = it.kubernetes.as_deref().unwrap_or("of an unknown version");
    format!("{}, Kubernetes {version}", it.access)
}

fn site(it: &Site) -> String {
    format!(
        "{} clusters, {} deployed, {} in progress, {} failed",
        it.clusters, it.deployed, it.in_progress, it.failed
    )
}

fn traffic(it: &Traffic, is_wide: bool) -> String {
    let home = it.home_share * 100.0;
    let mut text = format!("{:.1}/s, {home:.0} % at home: {}", it.rate, it.reason);
    if is_wide {
        for (target, rate) in &it.targets {
            text += &format!(", {rate:.1}/s to {target}");
        }
    }
    text
}

fn state(it: &State, is_wide: bool) -> String {
    let generation = it.generation.map(|it| format!(", generation {it}"));
    let error = it.error.as_ref().map(|error| format!(": {error}"));
    let since = age(it.since.as_deref()).filter(|_| is_wide);
    let since = since.map(|since| format!(", for {since}"));
    format!(
        "{} {}: {}{}{}{}",
        mark(it.is_fine),
        it.cluster,
        it.state,
        generation.unwrap_or_default(),
        since.unwrap_or_default(),
        error.unwrap_or_default()
    )
}

/// Who counted, which sidecars are not as they should be, and who did not tell.
fn counted(shown: &Shown, is_wide: bool) -> String {
    let mut text = String::new();
    for words in rates::LACKS {
        let is_it = |it: &&Sidecar| it.state.words() == words;
        let found: Vec<&Sidecar> = shown.sidecars.iter().filter(is_it).collect();
        if found.is_empty() {
            continue;
        }
        let sidecars = output::counted(found.len(), "sidecar");
        text += &format!("{} {sidecars} {words}\n", mark(false));
        let named = found
            .iter()
            .map(|it| format!("{}: {}{}", it.cluster, it.name, it.state.detail()));
        let all: Vec<String> = named.collect();
        text += &limbs(if is_wide {
            &all
        } else {
            all.get(..1).unwrap_or_default()
        });
    }
    for it in &shown.cut {
        let most = rates::MOST_SIDECARS;
        text += &format!(
            "{} has {} sidecars, of which {most} were asked\n",
            it.cluster, it.sidecars
        );
    }
    if !shown.silent.is_empty() {
        let clusters = output::counted(shown.asked, "cluster");
        text += &format!(
            "{} of {clusters} did not tell of their traffic\n",
            shown.silent.len()
        );
        let named = shown
            .silent
            .iter()
            .map(|it| format!("{}: {}", it.cluster, it.why));
        let named: Vec<String> = named
            .take(if is_wide { usize::MAX } else { SILENT })
            .collect();
        text += &limbs(&named);
    }
    text
}

fn lines(conditions: &[Said]) -> Vec<String> {
    let line = |it: &Said| {
        format!(
            "{} is {}, {}: {}",
            it.r#type, it.status, it.reason, it.message
        )
    };
    conditions.iter().map(line).collect()
}

fn limbs(branches: &[String]) -> String {
    let mut text = String::new();
    for (at, branch) in branches.iter().enumerate() {
        let limb = if at + 1 == branches.len() {
            "└─"
        } else {
            "├─"
        };
        text += &format!("{limb} {branch}\n");
    }
    text
}
