//! Clusters that overflow into each other.

use super::{C, Case};
use crate::figures::Figure::{
    Attempts, Bounced, Failed, Forced, Kept, KeptBySecond, Load, Rho, Second, Third,
};
use crate::{Callers, Cluster, Demand, Gateway, Limit, Scenario};

/// Clusters with a limit of 1,000/s each, whose callers want so many times as much and overflow
/// into the others in turn.
fn ring(demands: &[f64]) -> Scenario {
    let n = demands.len();
    let clusters = vec![Cluster::new(10, Some(Limit::total(1_000))); n];
    let callers = demands.iter().enumerate().map(|(home, demand)| {
        let ladder: Vec<usize> = (0..n).map(|step| (home + step) % n).collect();
        Callers::new(40, Demand::Constant(demand * C), &ladder)
    });
    Scenario::new(clusters, callers.collect())
}

/// Four endpoints with a limit together, a first rung that serves half as much again, and a second
/// without a limit; twenty-four callers at so many times the limit, of which two send a quarter of
/// the demand each and six next to nothing. The test of many real sidecars is set up like this.
fn crowd(limit: u32, demand: f64) -> Scenario {
    const CALLERS: [(usize, f64); 4] = [(2, 150.0), (6, 36.0), (10, 8.3), (6, 0.1)];
    let all: f64 = CALLERS.iter().map(|(n, share)| *n as f64 * share).sum();
    let clusters = vec![
        Cluster::new(4, Some(Limit::total(limit))),
        Cluster::new(2, Some(Limit::total(limit * 3 / 2))),
        Cluster::new(2, None),
    ];
    let callers = CALLERS.map(|(n, share)| {
        let part = n as f64 * share / all * demand * f64::from(limit);
        Callers {
            threads: 1,
            skew: 0.0,
            ..Callers::new(n, Demand::Constant(part), &[0, 1, 2])
        }
    });
    Scenario::new(clusters, callers.into())
}

/// The same with so many requests a second as all that its rungs serve together.
fn crowd_with(limit: u32, demand: f64, rungs: u32) -> Scenario {
    let mut scenario = crowd(limit, demand);
    for rung in scenario.clusters.iter_mut().skip(1) {
        rung.limit = Some(Limit::total(rungs / 2));
    }
    scenario
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = pairs();
    cases.extend(ladders());
    cases
}

fn pairs() -> Vec<Case> {
    let mut behind = ring(&[2.0, 0.2]);
    if let Some(second) = behind.clusters.get_mut(1) {
        second.gateway = Some(Gateway {
            connections: 1,
            reconnects: false,
        });
    }
    let mut reconnecting = behind.clone();
    if let Some(second) = reconnecting.clusters.get_mut(1) {
        second.gateway = Some(Gateway {
            connections: 1,
            reconnects: true,
        });
    }
    let shed = Scenario {
        shed: true,
        ..ring(&[2.0, 2.0])
    };
    vec![
        Case::new(
            "overflow-yields",
            "A at 5 C, B at half of its own limit",
            ring(&[5.0, 0.5]),
            &[(KeptBySecond, 0.99, 1.0), (Second, 850.0, 1_030.0)],
        ),
        Case::new(
            "both-full",
            "two clusters at 1.3 C do not swap their traffic",
            ring(&[1.3, 1.3]),
            &[
                (Kept, 0.98, 1.0),
                (KeptBySecond, 0.98, 1.0),
                (Attempts, 1.0, 1.15),
            ],
        ),
        Case::new(
            "both-a-fifth-above",
            "two clusters at 1.2 C: the load that is told is the true one",
            ring(&[1.2, 1.2]),
            &[(Rho, 1.17, 1.23), (Attempts, 1.0, 1.15)],
        ),
        Case::new(
            "five-clusters",
            "one of five at 3 C, the others at .8 C",
            ring(&[3.0, 0.8, 0.8, 0.8, 0.8]),
            &[
                (KeptBySecond, 0.99, 1.0),
                (Load, 2.1, 2.3),
                (Forced, 0.0, 0.04),
            ],
        ),
        Case::new(
            "all-shed",
            "two clusters at 2 C that shed: both serve their limit and no more",
            shed,
            &[
                (Load, 0.97, 1.02),
                (Second, 970.0, 1_020.0),
                (Failed, 0.4, 0.55),
            ],
        ),
        Case::new(
            "gateway",
            "the other cluster is behind a gateway, with pinned connections",
            behind,
            &[(Second, 700.0, 1_000.0), (Failed, 0.0, 0.0)],
        ),
        Case::new(
            "gateway-reconnecting",
            "the same, with a new connection after each bounce",
            reconnecting,
            &[(Second, 930.0, 1_000.0), (Failed, 0.0, 0.0)],
        ),
    ]
}

fn ladders() -> Vec<Case> {
    vec![
        Case::new(
            "ladder",
            "the first rung has a limit: the second takes what it does not",
            {
                let mut scenario = ring(&[3.0, 0.0, 0.0]);
                scenario.clusters.truncate(2);
                scenario.clusters.push(Cluster::new(10, None));
                scenario.callers.truncate(1);
                scenario
            },
            &[
                (Load, 0.97, 1.01),
                (Second, 850.0, 1_020.0),
                (Third, 850.0, 1_200.0),
                (Failed, 0.0, 0.0),
            ],
        ),
        Case::new(
            "ladder-of-a-small-limit",
            "uneven callers at 5 times 120/s: what the first rung turns away takes room at home",
            crowd(120, 5.0),
            &[
                (Load, 0.97, 1.01),
                (Second, 165.0, 184.0),
                (Bounced, 0.0, 0.13),
                (Forced, 0.0, 0.01),
                (Failed, 0.0, 0.0),
            ],
        ),
        Case::new(
            "ladder-of-a-larger-limit",
            "the same at 400/s: with a larger tolerance fewer are bounced",
            crowd(400, 5.0),
            &[
                (Load, 0.98, 1.01),
                (Second, 570.0, 606.0),
                (Bounced, 0.0, 0.09),
                (Forced, 0.0, 0.005),
                (Failed, 0.0, 0.0),
            ],
        ),
        Case::new(
            "ladder-that-sheds",
            "the same at 120/s with a policy that sheds: few are shed beside a rung with room",
            Scenario {
                shed: true,
                ..crowd(120, 5.0)
            },
            &[(Load, 0.97, 1.01), (Forced, 0.0, 0.0), (Failed, 0.0, 0.01)],
        ),
        Case::new(
            "full-ladder",
            "twice 120/s, of which the rungs serve a fifth: few wander in vain",
            crowd_with(120, 2.0, 48),
            &[(Load, 1.5, 1.7), (Attempts, 1.0, 1.15), (Failed, 0.0, 0.0)],
        ),
    ]
}
