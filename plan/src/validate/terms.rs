//! A policy as it is written: every error at once, each with its path.
//!
//! The API server refuses most of this already; a folder of files does not, and neither does a
//! definition that is older than the controller.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use spillway_api::burst_policy::{
    self as api, Amount, BurstPolicySpec, Capacity, CapacityOverride,
};
use spillway_api::{BurstPolicy, Rate};
use spillway_core::config::wire;

use crate::model::{Limit, Switch, Terms};
use crate::world::World;

/// Errors, each with its path.
#[derive(Default)]
struct Errors(Vec<String>);

impl Errors {
    fn add(&mut self, path: &str, message: &str) {
        self.0.push(format!("{path}: {message}"));
    }

    fn require(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.add(path, message);
        }
    }

    fn rate(&mut self, rate: &Rate, path: &str) -> Option<spillway_core::rate::Rate> {
        rate.parse().map_err(|message| self.add(path, message)).ok()
    }
}

/// Without a world, capacities go by the names that are written.
pub(super) fn read(world: Option<&World<'_>>, policy: &BurstPolicy) -> Result<Terms, Vec<String>> {
    let spec = &policy.spec;
    let mut errors = Errors::default();
    lists(spec, &mut errors);
    let switch = switch(spec, &mut errors);
    let capacity = spec.capacity.as_ref();
    let base = capacity.and_then(|capacity| base(capacity, &mut errors));
    let overrides = capacity
        .map(|capacity| overrides(world, capacity, &mut errors))
        .unwrap_or_default();
    let needs = spec.mode == api::Mode::Spill || spec.on_exhausted == api::OnExhausted::Shed;
    errors.require(
        capacity.is_some() || !needs,
        "spec.capacity",
        "write what home serves, as perEndpoint: {rate: \"50/s\"} or total: {rate: \"50/s\"}",
    );
    let override_ = spec
        .override_
        .as_ref()
        .map(|chosen| override_(chosen, &mut errors));
    if !errors.0.is_empty() {
        return Err(errors.0);
    }
    Ok(Terms {
        mode: match spec.mode {
            api::Mode::Spill => wire::Mode::Spill,
            api::Mode::Switch => wire::Mode::Switch,
        },
        switch,
        capacity: base,
        overrides,
        bounce: spec.bounce,
        bodies: match spec.bodies {
            api::Bodies::Never => wire::Bodies::Never,
            api::Bodies::Small => wire::Bodies::Small,
            api::Bodies::Buffered => wire::Bodies::Buffered,
        },
        user_retries: spec.user_retries,
        routes: spec
            .routes
            .iter()
            .map(|route| wire::Route {
                path_prefix: route.r#match.path_prefix.clone(),
                class: match route.class {
                    api::Class::Never => wire::Class::Never,
                },
            })
            .collect(),
        enforcement: match spec.enforcement {
            api::Enforcement::Active => wire::Enforcement::Active,
            api::Enforcement::Shadow => wire::Enforcement::Shadow,
        },
        override_,
        on_exhausted: match spec.on_exhausted {
            api::OnExhausted::Home => wire::OnExhausted::Home,
            api::OnExhausted::Shed => wire::OnExhausted::Shed,
        },
        routing: spec.routing,
    })
}

fn lists(spec: &BurstPolicySpec, errors: &mut Errors) {
    errors.require(
        !spec.target_refs.is_empty(),
        "spec.targetRefs",
        "write at least one Service",
    );
    errors.require(
        !spec.overflow.is_empty(),
        "spec.overflow",
        "write at least one cluster or fleet",
    );
    for (i, rung) in spec.overflow.iter().enumerate() {
        let path = format!("spec.overflow[{i}]");
        errors.require(
            rung.cluster.is_some() != rung.fleet.is_some(),
            &path,
            "write one of cluster and fleet",
        );
        let is_home = rung.cluster.is_some() && rung.cluster == spec.home;
        errors.require(!is_home, &path, "is the home: leave it out");
        if let Some(rate) = &rung.max_rate {
            errors.rate(rate, &format!("{path}.maxRate"));
        }
    }
    for (i, route) in spec.routes.iter().enumerate() {
        let prefix = &route.r#match.path_prefix;
        errors.require(
            prefix.starts_with('/') && prefix.len() <= 1_024,
            &format!("spec.routes[{i}].match.pathPrefix"),
            "write a path that begins with /, at most 1024 long",
        );
    }
}

fn override_(chosen: &api::Override, errors: &mut Errors) -> wire::Override {
    let until = u64::try_from(chosen.until.0.as_second()).unwrap_or_default();
    errors.require(
        until > 0,
        "spec.override.until",
        "write the time at which the override ends, such as \"2026-12-01T08:00:00Z\"",
    );
    wire::Override {
        force: match chosen.force {
            api::Force::Home => wire::Force::Home,
            api::Force::Overflow => wire::Force::Overflow,
        },
        until_unix_seconds: until,
    }
}

fn switch(spec: &BurstPolicySpec, errors: &mut Errors) -> Option<Switch> {
    match (spec.mode, &spec.switch) {
        (api::Mode::Switch, None) => {
            errors.add(
                "spec.switch",
                "write the limits of mode Switch: {enter: \"15/s\", leave: \"10/s\"}",
            );
            None
        }
        (api::Mode::Spill, Some(_)) => {
            errors.add("spec.switch", "belongs to mode Switch: leave it out");
            None
        }
        (api::Mode::Spill, None) => None,
        (api::Mode::Switch, Some(limits)) => {
            let enter = errors.rate(&limits.enter, "spec.switch.enter");
            let leave = errors.rate(&limits.leave, "spec.switch.leave");
            let limits = Switch {
                enter: enter?,
                leave: leave?,
                scope: limits.scope,
            };
            let below = spillway_core::switch::Limits::new(limits.enter, limits.leave).is_some();
            errors.require(below, "spec.switch.leave", "write a rate below enter");
            Some(limits)
        }
    }
}

fn base(capacity: &Capacity, errors: &mut Errors) -> Option<Limit> {
    match (&capacity.per_endpoint, &capacity.total) {
        (None, None) => {
            errors.require(
                !capacity.overrides.is_empty(),
                "spec.capacity",
                "write perEndpoint: {rate: \"50/s\"}, or total",
            );
            None
        }
        (each, total) => limit(each.as_ref(), total.as_ref(), "spec.capacity", errors),
    }
}

fn limit(
    each: Option<&Amount>,
    total: Option<&Amount>,
    path: &str,
    errors: &mut Errors,
) -> Option<Limit> {
    match (each, total) {
        (Some(each), None) => {
            amount(each, &format!("{path}.perEndpoint"), errors).map(Limit::PerEndpoint)
        }
        (None, Some(total)) => amount(total, &format!("{path}.total"), errors).map(Limit::Total),
        _ => {
            errors.add(path, "write one of perEndpoint and total");
            None
        }
    }
}

fn amount(amount: &Amount, path: &str, errors: &mut Errors) -> Option<wire::Amount> {
    let rate = match &amount.rate {
        Some(rate) => Some(errors.rate(rate, &format!("{path}.rate"))?),
        None => None,
    };
    let concurrency = match amount.concurrency.map(NonZeroU32::new) {
        Some(None) => {
            errors.add(
                &format!("{path}.concurrency"),
                "zero is refused: leave the field out, or write at least 1",
            );
            return None;
        }
        Some(some) => some,
        None => None,
    };
    errors.require(
        rate.is_some() || concurrency.is_some(),
        path,
        "write a rate, a concurrency, or both",
    );
    Some(wire::Amount { rate, concurrency })
}

/// By cluster: one that is named goes before its fleet, and the first fleet before the others.
fn overrides(
    world: Option<&World<'_>>,
    capacity: &Capacity,
    errors: &mut Errors,
) -> BTreeMap<String, Limit> {
    let mut by_cluster = BTreeMap::new();
    let mut by_fleet = BTreeMap::new();
    for (i, entry) in capacity.overrides.iter().enumerate() {
        let path = format!("spec.capacity.overrides[{i}]");
        let CapacityOverride {
            cluster,
            fleet,
            per_endpoint,
            total,
        } = entry;
        let limit = limit(per_endpoint.as_ref(), total.as_ref(), &path, errors);
        let (names, to) = match (cluster, fleet) {
            (Some(cluster), None) => (vec![cluster.as_str()], &mut by_cluster),
            (None, Some(fleet)) => {
                let members = match world {
                    Some(world) => world.fleets.get(fleet.as_str()).cloned(),
                    None => Some(vec![fleet.as_str()]),
                };
                (members.unwrap_or_default(), &mut by_fleet)
            }
            _ => {
                errors.add(&path, "write one of cluster and fleet");
                continue;
            }
        };
        for name in names {
            let known = match world {
                Some(world) => world.sites.get(name).map(|site| site.istio),
                None => Some(name),
            };
            if let (Some(known), Some(limit)) = (known, limit) {
                to.entry(known.to_owned()).or_insert(limit);
            }
        }
    }
    by_fleet.extend(by_cluster);
    by_fleet
}
