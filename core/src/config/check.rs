//! From the wire form to the parsed form, with every error on the way.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::errors::Errors;
use super::parsed::{Config, Mode, Override, Policy, Rung, Workload};
use super::{ConfigErrors, read, wire};
use crate::caller::Force;
use crate::header::Hop;
use crate::index::Index;
use crate::rate::{Capacity, RateLimit, SECOND};
use crate::switch;
use crate::table::Table;
use crate::totals;

const MAX_CLUSTERS: usize = 4_096;
const MAX_POLICIES: usize = 1_024;
const MAX_RUNGS: usize = 8;

pub(super) fn parse(document: &[u8], own: &str) -> Result<Config, ConfigErrors> {
    let mut errors = Errors::default();
    let wire = read::document(document, &mut errors);
    document_rules(&wire, &mut errors);
    if !errors.gaps {
        for (i, policy) in wire.policies.iter().enumerate() {
            policy_rules(policy, &format!("policies[{i}]"), &wire, &mut errors);
        }
        meetings(&wire.policies, &mut errors);
    }
    errors.none()?;
    Ok(build(wire, own))
}

#[inline(never)]
fn document_rules(wire: &wire::Document, errors: &mut Errors) {
    errors.require(
        (1..=2).contains(&wire.tokens.len()),
        &["tokens"],
        "write one token, or two while they are rotated",
    );
    for (i, token) in wire.tokens.iter().enumerate() {
        let good = (8..=64).contains(&token.len())
            && token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        errors.require(
            good,
            &[&format!("tokens[{i}]")],
            "write 8 to 64 of A-Z a-z 0-9 _ -",
        );
    }
    let name = &wire.prefix_header;
    let good = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    errors.require(
        good,
        &["prefixHeader"],
        "write a header name of a-z 0-9 -, at most 64 long",
    );
    let taken = [
        crate::header::HOP,
        crate::header::LOAD,
        crate::header::BOUNCE,
        crate::header::SHED,
    ];
    let taken = taken.contains(&name.as_str())
        || name.starts_with("x-envoy")
        || RESERVED.contains(&name.as_str());
    errors.require(
        !taken,
        &["prefixHeader"],
        "write a name that HTTP, Envoy and Spillway do not use themselves",
    );
    errors.require(
        (1..=MAX_CLUSTERS).contains(&wire.clusters.len()),
        &["clusters"],
        "write 1 to 4096 clusters",
    );
    for (cluster, row) in wire.clusters.iter() {
        let path = format!("clusters.{cluster}");
        errors.require(is_cluster_name(cluster), &[&path], CLUSTER_NAME);
        let good = row.prefix.len() <= 64
            && row
                .prefix
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        errors.require(
            good,
            &[&path, ".prefix"],
            "write at most 64 of A-Z a-z 0-9 . _ -",
        );
    }
    errors.require(
        wire.policies.len() <= MAX_POLICIES,
        &["policies"],
        "write at most 1024 policies",
    );
}

/// Names that would change what a message means.
const RESERVED: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "cookie",
    "set-cookie",
    "authorization",
];

const CLUSTER_NAME: &str =
    "write a cluster's name: 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit";

fn is_cluster_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

#[inline(never)]
fn policy_rules(policy: &wire::Policy, path: &str, wire: &wire::Document, errors: &mut Errors) {
    let good = (1..=32).contains(&policy.id.len())
        && policy
            .id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    errors.require(good, &[path, ".id"], "write 1 to 32 of a-z 0-9 -");
    let good = (1..=128).contains(&policy.name.len())
        && policy
            .name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
    errors.require(
        good,
        &[path, ".name"],
        "write 1 to 128 of A-Z a-z 0-9 . _ / -",
    );
    for (i, destination) in policy.destinations.iter().enumerate() {
        let path = format!("{path}.destinations[{i}]");
        let good = (1..=253).contains(&destination.host.len())
            && destination
                .host
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        errors.require(
            good,
            &[&path, ".host"],
            "write a service's full name in lower case",
        );
    }
    if let Some(workload) = &policy.workload {
        errors.require(
            !workload.labels.is_empty(),
            &[path, ".workload.labels"],
            "write at least one label",
        );
    }
    let known = |name: &str| wire.clusters.get(name).is_some();
    if let Some(home) = &policy.home {
        errors.require(
            known(home),
            &[path, ".home"],
            "write a cluster of the table `clusters`",
        );
    }
    errors.require(
        policy.overflow.len() <= MAX_RUNGS,
        &[path, ".overflow"],
        "write at most 8 rungs",
    );
    let mut rungs = Table::default();
    for (i, rung) in policy.overflow.iter().enumerate() {
        let path = format!("{path}.overflow[{i}].cluster");
        errors.require(
            known(&rung.cluster),
            &[&path],
            "write a cluster of the table `clusters`",
        );
        errors.require(
            rungs.insert(rung.cluster.clone(), ()).is_none(),
            &[&path],
            "is a rung already: leave it out",
        );
        errors.require(
            policy.home.as_ref() != Some(&rung.cluster),
            &[&path],
            "is the home: leave it out",
        );
    }
    match (policy.mode, &policy.switch) {
        (wire::Mode::Switch, None) => errors.add(
            format!("{path}.switch"),
            "write the limits: {\"enter\": \"15/s\", \"leave\": \"10/s\"}",
        ),
        (wire::Mode::Spill, Some(_)) => errors.add(
            format!("{path}.switch"),
            "belongs to mode Switch: leave it out",
        ),
        (_, Some(limits)) => {
            errors.require(
                switch::Limits::new(limits.enter, limits.leave).is_some(),
                &[path, ".switch.leave"],
                "write a rate below `enter`",
            );
            for (cluster, _) in limits.endpoints.iter() {
                errors.require(
                    known(cluster),
                    &[path, ".switch.endpoints.", cluster],
                    "write a cluster of the table `clusters`",
                );
            }
        }
        (wire::Mode::Spill, None) => {}
    }
    for (cluster, row) in policy.capacity.iter() {
        let path = format!("{path}.capacity.{cluster}");
        errors.require(
            known(cluster),
            &[&path],
            "write a cluster of the table `clusters`",
        );
        match row.per_endpoint.xor(row.total) {
            Some(amount) => errors.require(
                amount.rate.is_some() || amount.concurrency.is_some(),
                &[&path],
                "write a rate, a concurrency, or both",
            ),
            None => errors.add(path, "write one of `perEndpoint` and `total`"),
        }
    }
    for (i, route) in policy.routes.iter().enumerate() {
        let good = route.path_prefix.starts_with('/') && route.path_prefix.len() <= 1_024;
        errors.require(
            good,
            &[&format!("{path}.routes[{i}].pathPrefix")],
            "write a path that begins with /",
        );
    }
}

/// Ids are unique, and no two policies claim one destination.
#[inline(never)]
fn meetings(policies: &[wire::Policy], errors: &mut Errors) {
    let ids = policies.iter().enumerate();
    let ids = Index::new(ids.map(|(i, policy)| (policy.id.as_str(), i)).collect());
    let claims = || {
        policies.iter().enumerate().flat_map(|(i, policy)| {
            let of_policy = policy.destinations.iter().enumerate();
            of_policy.map(move |(d, destination)| (destination, (i, d)))
        })
    };
    let hosts = claims().map(|(to, place)| (to.host.as_str(), (place, &to.ports)));
    let hosts = Index::new(hosts.collect());
    for (i, policy) in policies.iter().enumerate() {
        if ids.get(&policy.id).any(|other| *other < i) {
            errors.add(
                format!("policies[{i}].id"),
                "is another policy's id already",
            );
        }
    }
    for (destination, place) in claims() {
        let mut earlier = hosts
            .get(&destination.host)
            .take_while(|(other, _)| *other < place);
        if earlier.any(|(_, ports)| meet(ports, &destination.ports)) || twice(&destination.ports) {
            let (i, d) = place;
            errors.add(
                format!("policies[{i}].destinations[{d}]"),
                "host and port have a policy already: one policy a destination",
            );
        }
    }
}

/// No port stands for all.
fn meet(one: &[u16], other: &[u16]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|port| other.contains(port))
}

fn twice(ports: &[u16]) -> bool {
    let mut rest = ports.iter();
    core::iter::from_fn(|| rest.next().map(|port| (port, rest.as_slice())))
        .any(|(port, rest)| rest.contains(port))
}

/// Port 0 stands for all.
fn ports_or_all(ports: &[u16]) -> &[u16] {
    if ports.is_empty() { &[0] } else { ports }
}

#[inline(never)]
fn build(wire: wire::Document, own: &str) -> Config {
    let own_row = wire.clusters.get(own);
    let mut config = Config {
        generation: wire.generation,
        side: wire.side,
        prefix: own_row.map(|r| r.prefix.clone()).unwrap_or_default(),
        prefix_header: wire.prefix_header,
        // A name that is not in the table was not checked, and goes into headers.
        own: own_row.map(|_| own.into()).unwrap_or_default(),
        policies: Vec::new(),
        passed_over: Vec::new(),
        tokens: wire.tokens,
        by_host: Index::default(),
        by_id: Index::default(),
    };
    let token = config.tokens.first().cloned().unwrap_or_default();
    let (mut hosts, mut ids) = (Vec::new(), Vec::new());
    for policy in wire.policies {
        let at = config.policies.len();
        let home = match (&policy.home, own_row) {
            (Some(home), _) => home.clone(),
            (None, Some(_)) => own.into(),
            (None, None) => {
                config.passed_over.push(policy.id);
                continue;
            }
        };
        for destination in &policy.destinations {
            let ports = ports_or_all(&destination.ports).iter();
            hosts.extend(ports.map(|port| (destination.host.clone(), (*port, at))));
        }
        ids.push((policy.id.clone(), at));
        config
            .policies
            .push(build_policy(policy, home, &token, own));
    }
    config.by_host = Index::new(hosts);
    config.by_id = Index::new(ids);
    config
}

fn switch_mode(limits: &wire::SwitchLimits, home: &str) -> Mode {
    let endpoints = limits.endpoints.get(home).copied();
    match (switch::Limits::new(limits.enter, limits.leave), endpoints) {
        (Some(service), Some(endpoints)) => {
            Mode::SwitchService(totals::Limits { service, endpoints })
        }
        (Some(alone), None) => Mode::Switch(alone),
        (None, _) => Mode::Spill,
    }
}

#[inline(never)]
fn build_policy(policy: wire::Policy, home: String, token: &str, own: &str) -> Policy {
    let rung = |rung: wire::Overflow| Rung {
        subset: format!("spillway-{}", rung.cluster),
        hop: Hop::start(&rung.cluster, token, &home, &policy.id),
        // A second's worth at once, as people read a rate.
        max_rate: rung.max_rate.map(|rate| {
            let interval = rate.interval(NonZeroU32::MIN);
            RateLimit {
                interval,
                limit: SECOND.saturating_sub(interval),
            }
        }),
        cluster: rung.cluster,
    };
    let rungs = policy
        .overflow
        .into_iter()
        .filter(|r| r.cluster != home)
        .map(rung)
        .collect();
    let mode = match (policy.mode, policy.switch) {
        (wire::Mode::Switch, Some(limits)) => switch_mode(&limits, &home),
        _ => Mode::Spill,
    };
    let capacity = policy.capacity.get(own).and_then(|row| {
        let (amount, parts) = match (row.per_endpoint, row.total) {
            (Some(each), _) => (each, None),
            (None, total) => (total?, Some(row.endpoints)),
        };
        Some(match parts {
            Some(parts) => Capacity::of_total(amount.rate, amount.concurrency, parts),
            None => Capacity::of_each(amount.rate, amount.concurrency, row.endpoints),
        })
    });
    Policy {
        home_hop: Hop::start(&home, token, &home, &policy.id),
        rungs,
        mode,
        capacity,
        bounce: policy.bounce == wire::Bounce::On,
        bodies: policy.bodies,
        never: policy.routes.into_iter().map(|r| r.path_prefix).collect(),
        shadow: policy.enforcement == wire::Enforcement::Shadow,
        force: policy.override_.map(|o| Override {
            force: match o.force {
                wire::Force::Home => Force::Home,
                wire::Force::Overflow => Force::Overflow,
            },
            until: o.until_unix_seconds.saturating_mul(SECOND),
        }),
        shed: policy.on_exhausted == wire::OnExhausted::Shed,
        workload: policy.workload.map(|w| Workload {
            labels: w.labels,
            ports: w.ports,
        }),
        id: policy.id,
        name: policy.name,
        home,
    }
}
