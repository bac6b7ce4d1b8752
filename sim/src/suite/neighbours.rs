//! Clusters that overflow into each other.

use super::{C, Case};
use crate::figures::Figure::{
    Attempts, Failed, Forced, Kept, KeptBySecond, Load, Rho, Second, Third,
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

pub(super) fn all() -> Vec<Case> {
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
                (Load, 0.97, 1.1),
                (Second, 850.0, 1_020.0),
                (Third, 850.0, 1_200.0),
                (Failed, 0.0, 0.0),
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
