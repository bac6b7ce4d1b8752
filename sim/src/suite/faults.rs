//! What breaks, comes and goes.

use super::{C, Case, step, usual};
use crate::figures::Figure::{Bounced, Excess, Failed, HomeP99, Kept, Load, Settle};
use crate::{
    Autoscaler, Callers, Change, Cluster, Demand, Limit, Network, Patience, Scenario, Service,
    Takes,
};

fn changed(scenario: Scenario, changes: &[(f64, Change)]) -> Scenario {
    Scenario {
        step: changes.first().map(|(time, _)| *time),
        changes: changes.to_vec(),
        ..scenario
    }
}

fn network(scenario: Scenario, network: Network) -> Scenario {
    Scenario {
        network,
        ..scenario
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = losses();
    cases.extend(endpoints());
    cases.extend(capacity());
    cases
}

fn losses() -> Vec<Case> {
    let usual_network = Network::default;
    vec![
        Case::new(
            "all-feedback-lost",
            "no answer tells a load: the gate alone holds the limit",
            network(
                step(0.0, 5.0 * C),
                Network {
                    deaf: 1.0,
                    ..usual_network()
                },
            ),
            &[(Load, 0.99, 1.03), (Excess, 0.0, 130.0), (Failed, 0.0, 0.0)],
        ),
        Case::new(
            "half-of-the-feedback-lost",
            "every other answer loses its load",
            network(
                step(0.0, 5.0 * C),
                Network {
                    deaf: 0.5,
                    ..usual_network()
                },
            ),
            &[(Load, 0.99, 1.03), (Settle, 0.0, 0.2), (Bounced, 0.0, 0.15)],
        ),
        Case::new(
            "connections-fail",
            "one attempt in a hundred finds no connection",
            network(
                usual(Demand::Constant(2.0 * C)),
                Network {
                    lost: 0.01,
                    ..usual_network()
                },
            ),
            &[(Load, 0.97, 1.03), (Failed, 0.0, 0.000_1)],
        ),
        Case::new(
            "far-away",
            "the other cluster is 80 ms away",
            network(
                step(0.0, 5.0 * C),
                Network {
                    far: (0.035, 0.045),
                    ..usual_network()
                },
            ),
            &[(Load, 0.99, 1.03), (Settle, 0.0, 0.2), (Bounced, 0.0, 0.1)],
        ),
        Case::new(
            "callers-restart",
            "all callers forget what they know, at 5 C",
            changed(
                usual(Demand::Constant(5.0 * C)),
                &[(8.0, Change::Restart(0))],
            ),
            &[(Load, 0.99, 1.03), (Settle, 0.0, 0.2), (Bounced, 0.0, 0.1)],
        ),
        Case::new(
            "callers-join",
            "a hundred callers more double the demand",
            {
                let mut scenario = usual(Demand::Constant(1.5 * C));
                let joining = Demand::Steps(vec![(8.0, 1.5 * C)]);
                scenario.callers.push(Callers::new(100, joining, &[0, 1]));
                Scenario {
                    step: Some(8.0),
                    ..scenario
                }
            },
            &[
                (Load, 0.99, 1.03),
                (Settle, 0.0, 0.2),
                (Excess, 0.0, 130.0),
                (Bounced, 0.0, 0.15),
            ],
        ),
    ]
}

fn endpoints() -> Vec<Case> {
    let each = |demand: f64| {
        let mut scenario = usual(Demand::Constant(demand));
        if let Some(home) = scenario.clusters.first_mut() {
            home.limit = home.limit.map(|limit| Limit {
                each: true,
                rate: spillway_core::rate::Rate::new(100, spillway_core::rate::Unit::Second),
                ..limit
            });
        }
        scenario
    };
    vec![
        Case::new(
            "endpoint-dies",
            "one of ten is killed, the limit is that of all together",
            changed(
                usual(Demand::Constant(2.0 * C)),
                &[(8.0, Change::Kill(0, 0))],
            ),
            &[(Load, 0.97, 1.03), (Failed, 0.0, 0.002)],
        ),
        Case::new(
            "endpoints-double",
            "ten endpoints more at 100/s each",
            Scenario {
                from: 12.0,
                ..changed(each(3.0 * C), &[(6.0, Change::Endpoints(0, 20))])
            },
            &[(Load, 1.97, 2.03), (Bounced, 0.0, 0.2)],
        ),
        Case::new(
            "endpoints-halve",
            "five of ten endpoints leave, 100/s each",
            Scenario {
                from: 12.0,
                ..changed(each(3.0 * C), &[(6.0, Change::Endpoints(0, 5))])
            },
            &[(Load, 0.49, 0.52), (Failed, 0.0, 0.0)],
        ),
        Case::new(
            "limit-halves",
            "the policy's capacity is halved at 5 s",
            Scenario {
                from: 10.0,
                ..changed(
                    usual(Demand::Constant(2.0 * C)),
                    &[(5.0, Change::Limit(0, Some(Limit::total(500))))],
                )
            },
            &[(Load, 0.49, 0.52), (Failed, 0.0, 0.0)],
        ),
        Case::new(
            "rung-fails",
            "the first rung answers 503: the next takes over",
            {
                let mut scenario = changed(
                    usual(Demand::Constant(2.0 * C)),
                    &[(6.0, Change::Failing(1, true))],
                );
                scenario.clusters.push(Cluster::new(10, None));
                for callers in &mut scenario.callers {
                    callers.ladder = vec![0, 1, 2];
                }
                scenario
            },
            &[(Load, 0.97, 1.05), (Failed, 0.0, 0.06)],
        ),
    ]
}

/// Applications with a real capacity: what exceeds it waits.
fn queued(cluster: &mut Cluster, takes: f64, places: usize) {
    cluster.service = Service {
        takes: Takes::Exponential(takes),
        places: Some(places),
    };
}

fn capacity() -> Vec<Case> {
    let mut storm = step(0.8 * C, 3.0 * C);
    let mut bare = step(0.8 * C, 3.0 * C);
    for scenario in [&mut storm, &mut bare] {
        for cluster in &mut scenario.clusters {
            queued(cluster, 0.02, 5); // 250/s each
        }
        for callers in &mut scenario.callers {
            callers.patience = Some(Patience {
                seconds: 1.0,
                repeats: 3,
            });
        }
    }
    let mut scaled = Scenario {
        length: 180.0,
        from: 120.0,
        ..usual(Demand::Constant(3.0 * C))
    };
    for cluster in &mut scaled.clusters {
        cluster.endpoints = 4;
        cluster.limit = Some(Limit {
            each: true,
            ..Limit::total(200)
        });
        queued(cluster, 0.02, 5);
        cluster.autoscaler = Some(Autoscaler {
            target: 0.6,
            least: 2,
            most: 40,
            start: 10.0,
        });
    }
    vec![
        Case::new(
            "storm",
            "applications repeat what takes a second, at 3 C: home's queue stays short",
            storm,
            &[
                (Load, 0.97, 1.03),
                (Failed, 0.0, 0.0),
                (HomeP99, 0.0, 150.0),
            ],
        ),
        Case::new(
            "home-slows",
            "a limit of five at once each, and home takes five times as long",
            {
                let mut scenario = usual(Demand::Constant(0.8 * C));
                if let Some(home) = scenario.clusters.first_mut() {
                    home.limit = Some(Limit::at_once(5));
                    home.service = Service {
                        takes: Takes::Exponential(0.02),
                        places: None,
                    };
                }
                Scenario {
                    from: 10.0,
                    ..changed(scenario, &[(8.0, Change::SlowAll(0, 5.0))])
                }
            },
            &[(Kept, 0.45, 0.63), (Failed, 0.0, 0.0), (Bounced, 0.0, 0.36)],
        ),
        Case::new(
            "autoscaled",
            "both clusters grow by their autoscalers, 200/s each endpoint",
            scaled,
            &[(Kept, 0.99, 1.0), (Failed, 0.0, 0.0), (Bounced, 0.0, 0.02)],
        ),
    ]
}
