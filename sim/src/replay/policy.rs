//! A BurstPolicy as a scenario: read from its file with every error at once, as the planner reads
//! it.

use core::num::NonZeroU32;

use spillway_api::BurstPolicy;
use spillway_api::burst_policy::{Bounce, Scope};
use spillway_core::config::{Mode, wire};
use spillway_core::{switch, totals};
use spillway_plan::model::{Limit as Written, Terms};

use crate::Demand;
use crate::scenario::{Callers, Cluster, Limit, Scenario};

/// The version of the resource that is read.
const API_VERSION: &str = "spillway.dev/v1alpha1";

/// A policy that can be simulated.
#[derive(Clone, Debug)]
pub struct Policy {
    /// As `NAMESPACE/NAME`.
    pub name: String,
    /// Home, then the rungs, as the policy names them.
    pub clusters: Vec<String>,
    terms: Terms,
    max_rates: Vec<Option<spillway_core::rate::Rate>>,
}

/// What is wrong with a policy: everything, each with its path or line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct PolicyErrors(Vec<String>);

impl Policy {
    /// Reads a policy's YAML.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(yaml: &str) -> Result<Self, PolicyErrors> {
        let one = |error: String| PolicyErrors(vec![error]);
        let mut value: serde_json::Value =
            serde_saphyr::from_str(yaml).map_err(|error| one(error.to_string()))?;
        for (field, wanted) in [("apiVersion", API_VERSION), ("kind", "BurstPolicy")] {
            // The type of an object is no field of it.
            let found = value
                .as_object_mut()
                .and_then(|object| object.remove(field));
            if found.as_ref().and_then(|found| found.as_str()) != Some(wanted) {
                return Err(one(format!("{field}: write {wanted}")));
            }
        }
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        let policy: Result<BurstPolicy, _> =
            serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
        let mut errors: Vec<String> = unknown
            .iter()
            .map(|path| format!("{path}: is not a field of a BurstPolicy: leave it out, or look at how it is written"))
            .collect();
        let policy = match policy {
            Ok(policy) => policy,
            Err(error) => {
                errors.push(format!("{}: {error}", track.path()));
                return Err(PolicyErrors(errors));
            }
        };
        match spillway_plan::read(&policy) {
            Ok(terms) if errors.is_empty() => Ok(Self::new(&policy, terms)),
            Ok(_) => Err(PolicyErrors(errors)),
            Err(wrong) => {
                errors.extend(wrong);
                Err(PolicyErrors(errors))
            }
        }
    }

    fn new(policy: &BurstPolicy, terms: Terms) -> Self {
        let part = |text: &Option<String>, or: &str| text.clone().unwrap_or_else(|| or.to_owned());
        let meta = &policy.metadata;
        let rungs = policy.spec.overflow.iter();
        let names = rungs
            .clone()
            .map(|rung| match (&rung.cluster, &rung.fleet) {
                (Some(name), _) | (None, Some(name)) => name.clone(),
                (None, None) => String::new(),
            });
        let home = part(&policy.spec.home, "home");
        let max = |rate: &spillway_api::Rate| rate.parse().ok();
        Self {
            name: format!(
                "{}/{}",
                part(&meta.namespace, "default"),
                part(&meta.name, "")
            ),
            clusters: core::iter::once(home).chain(names).collect(),
            max_rates: rungs
                .map(|rung| rung.max_rate.as_ref().and_then(max))
                .collect(),
            terms,
        }
    }

    /// The limit of a cluster of the ladder, home being the first.
    fn limit(&self, at: usize) -> Option<Limit> {
        let named = self
            .clusters
            .get(at)
            .and_then(|name| self.terms.overrides.get(name));
        let home = self.terms.capacity.as_ref().filter(|_| at == 0);
        let (each, amount) = match named.or(home)? {
            Written::PerEndpoint(amount) => (true, amount),
            Written::Total(amount) => (false, amount),
        };
        Some(Limit {
            each,
            rate: amount.rate,
            concurrency: amount.concurrency,
            tolerance: None,
        })
    }

    /// The rates above which the workshop's watcher would send all away, and below which it would
    /// bring all back, requests a second: those of mode Switch, or home's limit and two thirds of
    /// it, as the workshop has 15 and 10.
    #[must_use]
    pub fn watched(&self, endpoints: usize) -> Option<(f64, f64)> {
        let per_second = |rate: spillway_core::rate::Rate| rate.per_second_milli() as f64 / 1e3;
        match &self.terms.switch {
            Some(limits) => Some((per_second(limits.enter), per_second(limits.leave))),
            None => {
                let limit = self.limit(0)?.per_second(endpoints)?;
                Some((limit, limit * 2.0 / 3.0))
            }
        }
    }

    /// What home serves, requests a second, where the policy says it as a rate.
    #[must_use]
    pub fn capacity(&self, endpoints: usize) -> Option<f64> {
        self.limit(0)?.per_second(endpoints)
    }

    /// The scenario of a demand under it, with so many callers and endpoints in each cluster.
    #[must_use]
    pub fn scenario(&self, demand: Demand, callers: usize, endpoints: usize) -> Scenario {
        let clusters = (0..self.clusters.len()).map(|at| Cluster::new(endpoints, self.limit(at)));
        let ladder: Vec<usize> = (0..self.clusters.len()).collect();
        let mut group = Callers::new(callers, demand, &ladder);
        group.max_rates.clone_from(&self.max_rates);
        if self.terms.bounce == Bounce::Off {
            group.bounceable = 0.0;
        }
        let limits = self.terms.switch.as_ref();
        let limits = limits.and_then(|limits| switch::Limits::new(limits.enter, limits.leave));
        Scenario {
            from: 0.0,
            mode: match (self.terms.mode, limits) {
                (wire::Mode::Switch, Some(service)) if self.shares() => {
                    Mode::SwitchService(totals::Limits {
                        service,
                        endpoints: count(endpoints),
                    })
                }
                (wire::Mode::Switch, Some(limits)) => Mode::Switch(limits),
                _ => Mode::Spill,
            },
            shed: self.terms.on_exhausted == wire::OnExhausted::Shed,
            ..Scenario::new(clusters.collect(), vec![group])
        }
    }

    /// All callers leave and return together.
    fn shares(&self) -> bool {
        let switch = self.terms.switch.as_ref();
        switch.is_some_and(|switch| switch.scope == Scope::Service)
    }

    /// In a few words.
    #[must_use]
    pub fn summary(&self, endpoints: usize) -> String {
        let (home, rungs) = match self.clusters.split_first() {
            Some((home, rungs)) => (home.as_str(), rungs.join(", ")),
            None => ("", String::new()),
        };
        let mode = match &self.terms.switch {
            Some(limits) => {
                let whose = if self.shares() {
                    "all callers"
                } else {
                    "a caller"
                };
                let (enter, leave) = (limits.enter, limits.leave);
                format!("Switch of {whose} above {enter}, back below {leave}")
            }
            None => "Spill".to_owned(),
        };
        let m = count(endpoints);
        let limit = match self.limit(0) {
            None => "no limit".to_owned(),
            Some(limit) => {
                let rate = limit.rate.map(|rate| rate.to_string());
                let at_once = limit.concurrency.map(|n| format!("{n} at once"));
                let amounts: Vec<_> = rate.into_iter().chain(at_once).collect();
                let of = if limit.each { "each of" } else { "in all by" };
                format!("{} {of} {m} endpoints", amounts.join(" and "))
            }
        };
        format!("{}: {mode}, {home} serves {limit}, then {rungs}", self.name)
    }
}

fn count(endpoints: usize) -> NonZeroU32 {
    let m = u32::try_from(endpoints).ok().and_then(NonZeroU32::new);
    m.unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> String {
        format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: BurstPolicy\nmetadata: {{name: worker, namespace: shop}}\nspec:\n  targetRefs: [{{name: worker}}]\n{spec}"
        )
    }

    #[test]
    fn a_policy_becomes_a_scenario() {
        let text = policy(
            "  home: primary\n  overflow: [{cluster: burst, maxRate: 5/s}, {fleet: cloud}]\n  capacity:\n    perEndpoint: {rate: 50/s}\n    overrides: [{fleet: cloud, total: {rate: 30/s, concurrency: 4}}]\n  onExhausted: Shed\n  bounce: \"Off\"\n",
        );
        let policy = Policy::parse(&text).unwrap();
        assert_eq!(policy.clusters, ["primary", "burst", "cloud"]);
        assert_eq!(policy.capacity(3), Some(150.0));
        assert_eq!(policy.watched(3), Some((150.0, 100.0)));
        let scenario = policy.scenario(Demand::Constant(1.0), 7, 3);
        let limits: Vec<_> = scenario
            .clusters
            .iter()
            .map(|c| c.limit.is_some())
            .collect();
        assert_eq!(limits, [true, false, true]);
        assert!(scenario.shed && scenario.callers[0].bounceable == 0.0);
        assert_eq!(
            scenario.callers[0]
                .max_rates
                .iter()
                .filter(|rate| rate.is_some())
                .count(),
            1
        );
        assert_eq!(
            policy.summary(3),
            "shop/worker: Spill, primary serves 50/s each of 3 endpoints, then burst, cloud"
        );
    }

    #[test]
    fn a_switch_is_of_each_caller_or_of_all() {
        for (scope, whose) in [("", "a caller"), (", scope: Service", "all callers")] {
            let text = policy(&format!(
                "  home: primary\n  overflow: [{{cluster: burst}}]\n  mode: Switch\n  switch: {{enter: 15/s, leave: 10/s{scope}}}\n"
            ));
            let policy = Policy::parse(&text).unwrap();
            assert_eq!(policy.watched(4), Some((15.0, 10.0)));
            let summary = format!(
                "shop/worker: Switch of {whose} above 15/s, back below 10/s, primary serves no limit, then burst"
            );
            assert_eq!(policy.summary(4), summary);
            match policy.scenario(Demand::Constant(1.0), 7, 4).mode {
                Mode::SwitchService(limits) => {
                    assert_eq!((whose, limits.endpoints.get()), ("all callers", 4));
                }
                mode => assert!(whose == "a caller" && matches!(mode, Mode::Switch(_))),
            }
        }
    }

    #[test]
    fn every_error_is_told_with_its_path() {
        let text = policy(
            "  overflow: [{cluster: burst, maxRate: 0/s}]\n  capacity: {total: {rate: 15 per second}}\n  overfow: []\n",
        );
        let errors = Policy::parse(&text).unwrap_err().0;
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors[0].starts_with("spec.overfow: is not a field"),
            "{errors:?}"
        );
        assert!(
            errors[1].starts_with("spec.overflow[0].maxRate: "),
            "{errors:?}"
        );
        assert!(
            errors[2].starts_with("spec.capacity.total.rate: write a rate"),
            "{errors:?}"
        );
        let typed = Policy::parse(&policy(
            "  overflow: [{cluster: burst}]\n  capacity: {total: {rate: [1]}}\n",
        ));
        assert!(typed.unwrap_err().0[0].starts_with("spec.capacity.total.rate: invalid type"));
        let syntax = Policy::parse(&policy("  overflow: [")).unwrap_err().0;
        assert!(syntax[0].contains("line"), "{syntax:?}");
        let other = Policy::parse("apiVersion: spillway.dev/v1alpha1\nkind: Fleet");
        assert_eq!(other.unwrap_err().0, ["kind: write BurstPolicy"]);
    }
}
