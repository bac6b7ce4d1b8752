//! Demand in all its shapes, and callers of all kinds.

use super::{C, Case, step, usual};
use crate::figures::Figure::{
    Bounced, Bounces, Excess, Failed, Forced, Jain, Kept, Load, Settle, Utilisation,
};
use crate::{Balancing, Bursts, Callers, Cluster, Demand, Limit, Scenario};

/// A limit of 15/s at three endpoints, and ten callers.
fn small(demand: Demand) -> Scenario {
    let home = Cluster::new(3, Some(Limit::total(15)));
    let burst = Cluster::new(3, None);
    Scenario {
        length: 120.0,
        from: 20.0,
        ..Scenario::new(vec![home, burst], vec![Callers::new(10, demand, &[0, 1])])
    }
}

fn with(mut scenario: Scenario, change: impl Fn(&mut Callers)) -> Scenario {
    scenario.callers.iter_mut().for_each(change);
    scenario
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = steps();
    cases.extend(shapes());
    cases.extend(callers());
    cases
}

fn steps() -> Vec<Case> {
    vec![
        Case::new(
            "from-nothing-to-5C",
            "a flash crowd",
            step(0.0, 5.0 * C),
            &[
                (Settle, 0.0, 0.1),
                (Excess, 0.0, 125.0),
                (Jain, 0.98, 1.0),
                (Bounced, 0.0, 0.1),
                (Load, 0.99, 1.03),
            ],
        ),
        Case::new(
            "from-half-to-2C",
            "the excess of a busy evening",
            step(0.5 * C, 2.0 * C),
            &[
                (Settle, 0.0, 0.2),
                (Excess, 0.0, 125.0),
                (Bounced, 0.0, 0.18),
                (Load, 0.99, 1.03),
            ],
        ),
        Case::new(
            "from-5C-to-half",
            "the crowd leaves: all comes home",
            step(5.0 * C, 0.5 * C),
            &[
                (Settle, 0.0, 2.8),
                (Utilisation, 0.88, 1.02),
                (Bounced, 0.0, 0.01),
            ],
        ),
        Case::new(
            "flash",
            "ten times the limit for two seconds",
            Scenario {
                step: Some(5.0),
                ..usual(Demand::Steps(vec![
                    (0.0, 0.5 * C),
                    (5.0, 10.0 * C),
                    (7.0, 0.5 * C),
                ]))
            },
            &[(Excess, 0.0, 125.0), (Settle, 0.0, 5.0), (Failed, 0.0, 0.0)],
        ),
    ]
}

fn shapes() -> Vec<Case> {
    let ramp = Demand::Ramp {
        from: 0.0,
        to: 3.0 * C,
        start: 0.0,
        end: 20.0,
    };
    let sine = Demand::Sine {
        mean: 1.2 * C,
        swing: C,
        period: 5.0,
    };
    vec![
        Case::new(
            "at-the-limit",
            "demand is what home can serve",
            usual(Demand::Constant(C)),
            &[
                (Utilisation, 0.95, 1.0),
                (Bounced, 0.0, 0.07),
                (Jain, 0.995, 1.0),
            ],
        ),
        Case::new(
            "a-fifth-above",
            "demand is 1.2 C",
            usual(Demand::Constant(1.2 * C)),
            &[
                (Utilisation, 0.98, 1.01),
                (Bounced, 0.0, 0.16),
                (Jain, 0.995, 1.0),
            ],
        ),
        Case::new(
            "half",
            "there is room: nothing leaves",
            usual(Demand::Constant(0.5 * C)),
            &[(Kept, 1.0, 1.0), (Bounced, 0.0, 0.0)],
        ),
        Case::new(
            "ramp",
            "from nothing to 3 C in 20 s",
            Scenario {
                from: 0.0,
                ..usual(ramp)
            },
            &[(Utilisation, 0.97, 1.02), (Bounced, 0.0, 0.17)],
        ),
        Case::new(
            "sine",
            "between .2 C and 2.2 C every 5 s",
            usual(sine),
            &[(Utilisation, 0.8, 1.02), (Bounced, 0.0, 0.22)],
        ),
        Case::new(
            "bursts-together",
            "all callers burst to 3 C for half a second, with .75 C in the mean",
            Scenario {
                length: 60.0,
                ..with(usual(Demand::Constant(0.75 * C)), |c| {
                    c.bursts = Some(Bursts {
                        peak: 4.0,
                        on: 0.5,
                        off: 2.0,
                        together: true,
                    })
                })
            },
            &[(Kept, 0.4, 0.75), (Failed, 0.0, 0.0), (Bounced, 0.0, 0.42)],
        ),
        Case::new(
            "on-off-each",
            "each caller is silent four fifths of the time",
            Scenario {
                length: 60.0,
                ..with(usual(Demand::Constant(1.2 * C)), |c| {
                    c.bursts = Some(Bursts::on_off(0.5, 2.0, false));
                    c.skew = 0.0;
                })
            },
            &[(Utilisation, 0.94, 1.02), (Bounced, 0.0, 0.17)],
        ),
        Case::new(
            "small-limit",
            "15/s at three endpoints, demand 1.2 C",
            small(Demand::Constant(18.0)),
            &[(Utilisation, 0.94, 1.02), (Bounced, 0.0, 0.25)],
        ),
        Case::new(
            "small-step",
            "15/s, from 5/s to 75/s",
            Scenario {
                step: Some(20.0),
                ..small(Demand::Steps(vec![(0.0, 5.0), (20.0, 75.0)]))
            },
            &[
                (Excess, 0.0, 22.0),
                (Utilisation, 0.97, 1.03),
                (Bounced, 0.0, 0.14),
            ],
        ),
    ]
}

fn callers() -> Vec<Case> {
    vec![
        Case::new(
            "thousand-callers",
            "a thousand sidecars at 5 C",
            with(step(0.0, 5.0 * C), |c| c.count = 1_000),
            &[
                (Load, 0.99, 1.03),
                (Jain, 0.98, 1.0),
                (Settle, 0.0, 0.2),
                (Bounced, 0.0, 0.25),
            ],
        ),
        Case::new(
            "one-caller",
            "one sidecar at 5 C",
            with(step(0.0, 5.0 * C), |c| c.count = 1),
            &[(Load, 0.99, 1.03), (Settle, 0.0, 0.1), (Bounced, 0.0, 0.1)],
        ),
        Case::new(
            "uneven",
            "Zipf's exponent is 1.5: one caller makes two fifths of the demand",
            with(usual(Demand::Constant(5.0 * C)), |c| c.skew = 1.5),
            &[(Jain, 0.98, 1.0), (Load, 0.99, 1.03), (Bounced, 0.0, 0.1)],
        ),
        Case::new(
            "round-robin",
            "callers take the endpoints in turn",
            with(usual(Demand::Constant(1.2 * C)), |c| {
                c.balancing = Balancing::RoundRobin
            }),
            &[(Utilisation, 0.98, 1.01), (Bounced, 0.0, 0.13)],
        ),
        Case::new(
            "partial-view",
            "each caller sees three of ten endpoints",
            with(usual(Demand::Constant(2.0 * C)), |c| c.sees = Some(3)),
            &[(Load, 0.93, 1.02), (Bounced, 0.0, 0.3)],
        ),
        Case::new(
            "nothing-repeatable",
            "large bodies: the echo alone holds the limit",
            with(step(0.5 * C, 2.0 * C), |c| c.bounceable = 0.0),
            &[(Load, 0.95, 1.13), (Bounces, 0.0, 0.0)],
        ),
        Case::new(
            "third-never",
            "a third of the requests must stay home",
            with(usual(Demand::Constant(2.0 * C)), |c| c.never = 1.0 / 3.0),
            &[(Load, 0.97, 1.02), (Bounced, 0.0, 0.11)],
        ),
        Case::new(
            "third-without-filter",
            "callers without the filter make a third of the demand",
            {
                let mut scenario = usual(Demand::Constant(1.4 * C));
                let mut others = Callers::new(20, Demand::Constant(0.6 * C), &[0]);
                others.filter = false;
                scenario.callers.push(others);
                scenario
            },
            &[(Load, 0.97, 1.02), (Forced, 0.0, 0.25), (Failed, 0.0, 0.0)],
        ),
        Case::new(
            "forger",
            "one of eleven callers claims all the demand there is",
            {
                let mut scenario = usual(Demand::Constant(1.5 * C));
                let mut forger = Callers::new(1, Demand::Constant(0.2 * C), &[0, 1]);
                forger.forged_echo = Some(999_999_999);
                scenario.callers.push(forger);
                scenario
            },
            &[(Load, 0.96, 1.03), (Kept, 0.5, 0.67)],
        ),
    ]
}
