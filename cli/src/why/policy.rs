//! A policy at a rate: what the caller's side asks, in its order, in steady state.

use std::path::Path;

use jiff::Timestamp;
use spillway_api::BurstPolicy;
use spillway_api::burst_policy::{Bounce, Rung};
use spillway_core::EPS_MILLI;
use spillway_core::caller::Reason;
use spillway_core::config::wire::{Enforcement, Force, Mode, OnExhausted};
use spillway_core::rate::Rate;
use spillway_plan::model::{Limit, Terms};

use super::Explained;
use crate::exit::Failure;
use crate::validate;

/// Where requests go, requests a second.
struct Flow {
    to: String,
    rate: f64,
    reason: Reason,
}

struct Explainer<'a> {
    policy: &'a BurstPolicy,
    terms: &'a Terms,
    wanted: f64,
    endpoints: u32,
    steps: Vec<String>,
    flows: Vec<Flow>,
}

pub(super) fn explain(
    path: &Path,
    text: &str,
    rate: Rate,
    endpoints: u32,
) -> Result<Explained, Failure> {
    let policy = validate::policy(path, text)?;
    let terms = spillway_plan::read(&policy)
        .map_err(|errors| Failure::bad_input(errors.join("\n"), "Mend them."))?;
    let mut explainer = Explainer {
        policy: &policy,
        terms: &terms,
        wanted: per_second(rate),
        endpoints,
        steps: Vec::new(),
        flows: Vec::new(),
    };
    explainer.all();
    let flows = explainer.flows.iter().filter(|flow| flow.rate > 0.0);
    let flows = flows.map(|flow| {
        format!(
            "{} to {} ({})",
            shown(flow.rate),
            flow.to,
            flow.reason.as_str()
        )
    });
    let shadow = if terms.enforcement == Enforcement::Shadow {
        "in Shadow all stays as it is; if it were Active, "
    } else {
        ""
    };
    let meta = &policy.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    Ok(Explained {
        about: format!(
            "{namespace}/{} at {rate}, with {endpoints} ready endpoints at home",
            meta.name.as_deref().unwrap_or_default()
        ),
        outcome: format!("{shadow}{}", flows.collect::<Vec<_>>().join(", ")),
        steps: explainer.steps,
    })
}

impl Explainer<'_> {
    fn all(&mut self) {
        let paths = self
            .terms
            .routes
            .iter()
            .map(|route| route.path_prefix.as_str());
        let paths: Vec<&str> = paths.collect();
        if !paths.is_empty() {
            self.step(format!(
                "routes: {} stay home ({}); the rest is asked on",
                paths.join(", "),
                Reason::Never.as_str()
            ));
        }
        match (self.forced(), self.terms.mode) {
            (Some(Force::Home), _) => self.flow(self.home(), self.wanted, Reason::Override),
            (Some(Force::Overflow), _) => self.ladder(self.wanted, Reason::Override),
            (None, Mode::Switch) => self.switch(),
            (None, Mode::Spill) => self.spill(),
        }
    }

    /// The override that is in force.
    fn forced(&mut self) -> Option<Force> {
        let chosen = self.terms.override_?;
        let until = i64::try_from(chosen.until_unix_seconds).unwrap_or(i64::MAX);
        let until = Timestamp::from_second(until).unwrap_or(Timestamp::MAX);
        let is_over = until <= Timestamp::now();
        let where_to = match chosen.force {
            Force::Home => "all home",
            Force::Overflow => "all to the rungs",
        };
        self.step(if is_over {
            format!("override: {where_to}, over since {until}")
        } else {
            format!("override: {where_to} until {until}")
        });
        (!is_over).then_some(chosen.force)
    }

    fn switch(&mut self) {
        let Some(limits) = &self.terms.switch else {
            return;
        };
        let (enter, leave) = (per_second(limits.enter), per_second(limits.leave));
        let (above, below) = (limits.enter, limits.leave);
        if self.wanted > enter {
            self.step(format!(
                "mode Switch: above enter, {above}: all leave home within some seconds"
            ));
            self.ladder(self.wanted, Reason::Switched);
        } else if self.wanted < leave {
            self.step(format!("mode Switch: below leave, {below}: all stay home"));
            self.flow(self.home(), self.wanted, Reason::Below);
        } else {
            self.step(format!("mode Switch: between leave, {below}, and enter, {above}: all goes on as it was, from the start on at home"));
            self.flow(self.home(), self.wanted, Reason::Below);
        }
    }

    fn spill(&mut self) {
        let name = self.policy.spec.home.as_deref();
        let limit = name
            .and_then(|name| self.terms.overrides.get(name))
            .copied()
            .or(self.terms.capacity);
        let Some(capacity) = limit.and_then(|limit| serves(limit, self.endpoints)) else {
            self.step("capacity: home has no limit of its rate, and how many requests are in flight cannot be told from a rate: `spillway simulate` says more".to_owned());
            self.flow(self.home(), self.wanted, Reason::Below);
            return;
        };
        let how = match limit {
            Some(Limit::PerEndpoint(_)) => format!(" ({} endpoints together)", self.endpoints),
            _ => String::new(),
        };
        let load = self.wanted / capacity;
        let most = 1.0 + f64::from(EPS_MILLI) / 1_000.0;
        let told = format!(
            "capacity: home serves {}{how}, so its load ρ is {load:.2}",
            shown(capacity)
        );
        if load <= most {
            self.step(format!("{told}: not above {most:.2}, all stays home"));
            self.flow(self.home(), self.wanted, Reason::Below);
            return;
        }
        let share = most / load;
        self.step(format!(
            "{told}: callers send home {most:.2}/ρ = {:.1} % of what is wanted, and the rest away",
            share * 100.0
        ));
        self.step(match self.terms.bounce {
            Bounce::Off => format!(
                "bounce is Off: nothing is turned away at home, so it serves up to {}",
                shown(capacity * most)
            ),
            Bounce::On | Bounce::AnyCluster => format!(
                "home's gate holds {} exactly: what comes above it is repeated in another cluster",
                shown(capacity)
            ),
        });
        let stays = match self.terms.bounce {
            Bounce::Off => capacity * most,
            Bounce::On | Bounce::AnyCluster => capacity,
        };
        self.flow(self.home(), stays, Reason::Below);
        self.ladder(self.wanted - stays, Reason::Over);
    }

    /// What leaves home goes to the first rung that has room for it.
    fn ladder(&mut self, leaving: f64, reason: Reason) {
        let mut left = leaving;
        for rung in &self.policy.spec.overflow {
            let name = named(rung).to_owned();
            let limit = self.terms.overrides.get(&name).copied();
            let serves = limit.and_then(|limit| serves(limit, self.endpoints));
            let takes = serves.map_or(left, |serves| serves.min(left));
            let most = match serves {
                Some(serves) => format!("serves {}", shown(serves)),
                None => "has no limit".to_owned(),
            };
            let each = match &rung.max_rate {
                Some(rate) => format!("; each calling proxy sends at most {} there", rate.0),
                None => String::new(),
            };
            self.step(format!(
                "rung {name}: {most}, takes {} of {}{each}",
                shown(takes),
                shown(left)
            ));
            self.flow(name, takes, reason);
            left -= takes;
            if left <= 0.0 {
                return;
            }
        }
        let to = match self.terms.on_exhausted {
            OnExhausted::Home => {
                self.step("onExhausted is Home: home serves the rest all the same".to_owned());
                self.home()
            }
            OnExhausted::Shed => {
                self.step("onExhausted is Shed: the rest gets 503".to_owned());
                "nobody".to_owned()
            }
        };
        self.flow(to, left, Reason::Exhausted);
    }

    fn step(&mut self, step: String) {
        self.steps.push(step);
    }

    fn flow(&mut self, to: String, rate: f64, reason: Reason) {
        self.flows.push(Flow { to, rate, reason });
    }

    fn home(&self) -> String {
        self.policy
            .spec
            .home
            .clone()
            .unwrap_or_else(|| "home".to_owned())
    }
}

/// A cluster, or a fleet, whose clusters are tried in the order of their names.
fn named(rung: &Rung) -> &str {
    rung.cluster
        .as_deref()
        .or(rung.fleet.as_deref())
        .unwrap_or_default()
}

/// What a cluster serves, requests a second; nothing where no rate says it.
fn serves(limit: Limit, endpoints: u32) -> Option<f64> {
    match limit {
        Limit::Total(amount) => amount.rate.map(per_second),
        Limit::PerEndpoint(amount) => amount
            .rate
            .map(|rate| per_second(rate) * f64::from(endpoints)),
    }
}

fn per_second(rate: Rate) -> f64 {
    rate.per_second_milli() as f64 / 1e3
}

fn shown(rate: f64) -> String {
    format!("{}/s", (rate * 100.0).round() / 100.0)
}
