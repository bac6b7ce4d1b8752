//! What a policy means to a simulation: its scenario, its limits, and itself in a few words.

use core::num::NonZeroU32;

use spillway_api::burst_policy::{Bounce, Scope};
use spillway_core::config::{Mode, wire};
use spillway_core::{switch, totals};
use spillway_plan::model::Limit as Written;

use super::Policy;
use crate::Demand;
use crate::scenario::{Callers, Cluster, Limit, Scenario};

impl Policy {
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
    use crate::replay::policy::tests::policy;

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
}
