//! Callers that leave and return together (`switch.scope: Service`), and what a lie can do to them.

use std::num::NonZeroU32;

use spillway_core::config::Mode;
use spillway_core::rate::{Rate, Unit};
use spillway_core::{switch, totals};

use super::Case;
use crate::figures::Figure::{
    Away, Changes, Failed, Kept, LastSwitched, MeanSwitched, SwitchSpread, Switched,
};
use crate::{Callers, Change, Claim, Cluster, Demand, Scenario};

/// Callers of one thread each, with equal demand. All leave above `enter` requests a second, and come
/// back below two thirds of it.
pub(crate) fn shared(enter: u32, callers: usize, endpoints: usize, demand: Demand) -> Scenario {
    let second = |rate| Rate::new(rate, Unit::Second);
    let limits = second(enter).zip(second(enter / 3 * 2));
    let limits = limits.and_then(|(enter, leave)| switch::Limits::new(enter, leave));
    let mode = limits.map_or(Mode::Spill, |service| {
        // The run counts the endpoints itself.
        let endpoints = NonZeroU32::MIN;
        Mode::SwitchService(totals::Limits { service, endpoints })
    });
    let mut group = Callers::new(callers, demand, &[0, 1]);
    group.threads = 1;
    group.skew = 0.0;
    let clusters = vec![Cluster::new(endpoints, None), Cluster::new(10, None)];
    Scenario {
        mode,
        from: 60.0,
        ..Scenario::new(clusters, vec![group])
    }
}

/// The same with a step of the demand, of which the callers have so many seconds to hear.
pub(crate) fn shared_step(scenario: Scenario, from: f64, to: f64, hear: f64) -> Scenario {
    let demand = Demand::Steps(vec![(0.0, from), (STEP, to)]);
    let mut scenario = Scenario {
        step: Some(STEP),
        from: STEP,
        length: STEP + hear,
        ..scenario
    };
    for callers in scenario.callers.iter_mut().take(1) {
        callers.demand = demand.clone();
    }
    scenario
}

/// By then all callers have heard of what was before.
const STEP: f64 = 120.0;

/// A caller more, which sends its requests home whatever happens, and lies.
pub(crate) fn with_liar(mut scenario: Scenario, rate: f64, lie: impl Fn(&mut Callers)) -> Scenario {
    let mut liar = Callers::new(1, Demand::Constant(rate), &[0, 1]);
    liar.never = 1.0;
    lie(&mut liar);
    scenario.callers.push(liar);
    scenario
}

/// It claims this epoch.
pub(crate) fn claims(claim: Claim) -> impl Fn(&mut Callers) {
    move |liar| liar.forged_epoch = Some(claim)
}

/// Five callers and four endpoints.
fn usual(demand: f64) -> Scenario {
    Scenario {
        length: 660.0,
        ..shared(15, 5, 4, Demand::Constant(demand))
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = honest();
    all.extend(lies());
    all
}

fn honest() -> Vec<Case> {
    let changed = |mut scenario: Scenario, changes: &[(f64, Change)]| {
        scenario.changes = changes.to_vec();
        scenario
    };
    let fast = || shared(1_500, 50, 10, Demand::Constant(0.0));
    vec![
        Case::new(
            "all-leave",
            "five callers that share a switch at 15/s, from 5 to 20/s",
            shared_step(usual(0.0), 5.0, 20.0, 60.0),
            &[
                (Switched, 1.0, 8.0),
                (MeanSwitched, 1.0, 9.0),
                (SwitchSpread, 0.0, 4.0),
                (Away, 1.0, 1.0),
                (Failed, 0.0, 0.0),
            ],
        ),
        Case::new(
            "all-return",
            "the same, from 20 to 5/s",
            shared_step(usual(0.0), 20.0, 5.0, 120.0),
            &[
                (Switched, 5.0, 18.0),
                (LastSwitched, 5.0, 30.0),
                (SwitchSpread, 0.0, 12.0),
                (Away, 0.0, 0.0),
            ],
        ),
        Case::new(
            "many-leave",
            "fifty callers and ten endpoints at 1,500/s, from 500 to 2,000/s",
            shared_step(fast(), 500.0, 2_000.0, 20.0),
            &[
                (Switched, 3.5, 5.0),
                (SwitchSpread, 0.0, 1.2),
                (Away, 1.0, 1.0),
            ],
        ),
        Case::new(
            "many-return",
            "the same, from 2,000 to 500/s",
            shared_step(fast(), 2_000.0, 500.0, 40.0),
            &[
                (LastSwitched, 3.0, 18.0),
                (SwitchSpread, 0.0, 4.0),
                (Away, 0.0, 0.0),
            ],
        ),
        Case::new(
            "switched-and-restarted",
            "20/s: callers restart, endpoints come and die; all stay away",
            changed(
                usual(20.0),
                &[
                    (200.0, Change::Restart(0)),
                    (300.0, Change::Endpoints(0, 8)),
                    (400.0, Change::Kill(0, 0)),
                    (500.0, Change::Endpoints(0, 3)),
                ],
            ),
            &[(Away, 1.0, 1.0), (Changes, 0.0, 24.0), (Kept, 0.0, 0.5)],
        ),
        Case::new(
            "switched-and-deaf",
            "from 5 to 20/s while half of the answers lose their news",
            {
                let mut scenario = shared_step(usual(0.0), 5.0, 20.0, 60.0);
                scenario.network.deaf = 0.5;
                scenario
            },
            &[(LastSwitched, 1.0, 15.0), (Away, 1.0, 1.0)],
        ),
    ]
}

fn lies() -> Vec<Case> {
    let next = || claims(Claim::Next);
    vec![
        Case::new(
            "liar-below",
            "2/s, and a caller that claims the next epoch each second",
            with_liar(usual(2.0), 1.0, next()),
            &[(Changes, 0.0, 0.0), (Away, 0.0, 0.0), (Kept, 1.0, 1.0)],
        ),
        Case::new(
            "liar-near",
            "the same at 5/s, where chance brings an endpoint's demand near the limits",
            with_liar(usual(5.0), 1.0, next()),
            &[(Changes, 0.0, 336.0), (Kept, 0.85, 1.0)],
        ),
        Case::new(
            "liar-above",
            "the same at 45/s",
            with_liar(usual(45.0), 1.0, next()),
            &[(Changes, 0.0, 0.0), (Away, 1.0, 1.0), (Kept, 0.0, 0.2)],
        ),
        Case::new(
            "liar-above-many",
            "the same with fifty callers and ten endpoints that share 1,500/s, at 2,000/s",
            with_liar(
                Scenario {
                    length: 120.0,
                    ..shared(1_500, 50, 10, Demand::Constant(2_000.0))
                },
                1.0,
                next(),
            ),
            &[(Changes, 0.0, 120.0), (Away, 1.0, 1.0), (Kept, 0.0, 0.1)],
        ),
        Case::new(
            "liar-between",
            "the same at 12.5/s, where both states are right: four endpoints follow at most 4 · (4 + 10) epochs in ten minutes",
            with_liar(usual(12.5), 1.0, next()),
            &[(Changes, 6.0, 336.0), (Failed, 0.0, 0.0)],
        ),
        Case::new(
            "liar-far-ahead",
            "from 5 to 20/s, and a caller that claims an epoch 400 million ahead each second",
            with_liar(
                shared_step(usual(0.0), 5.0, 20.0, 60.0),
                1.0,
                claims(Claim::Number(400_000_000)),
            ),
            &[
                (LastSwitched, 1.0, 15.0),
                (Away, 1.0, 1.0),
                (Failed, 0.0, 0.0),
            ],
        ),
        Case::new(
            "liar-stands-for-all",
            "5/s, and a caller of .05/s whose requests claim to stand for a million each",
            with_liar(usual(5.0), 0.05, |liar| liar.forged_echo = Some(1_000_000)),
            &[(Kept, 0.9, 1.0)],
        ),
    ]
}
