//! When callers switched (mode Switch). Callers that lie, or have no filter, are left out.

use crate::measure::Measured;
use crate::scenario::Scenario;

fn judged(scenario: &Scenario, m: &Measured, caller: usize) -> bool {
    let group = m.callers.get(caller).map(|caller| caller.group);
    group
        .and_then(|group| scenario.callers.get(group))
        .is_some_and(|callers| callers.filter && callers.forged_epoch.is_none())
}

/// Seconds from the step until the first, the mean and the last caller changes for the first time;
/// no numbers where one of them does not.
pub(super) fn times(scenario: &Scenario, m: &Measured) -> [f64; 3] {
    let step = scenario.step.unwrap_or(f64::NAN);
    let change = |caller: usize| {
        let mut after = m.switches.iter().filter(|(time, ..)| *time >= step);
        after.find(|(_, at, _)| *at == caller)
    };
    let judged = (0..m.callers.len()).filter(|caller| judged(scenario, m, *caller));
    let times: Option<Vec<f64>> = judged
        .map(|caller| change(caller).map(|(time, ..)| time - step))
        .collect();
    let times = times.filter(|times| !times.is_empty());
    times.map_or([f64::NAN; 3], |times| {
        [
            times.iter().copied().fold(f64::INFINITY, f64::min),
            times.iter().sum::<f64>() / times.len() as f64,
            times.iter().copied().fold(0.0, f64::max),
        ]
    })
}

/// The share of the callers that have left at the end.
pub(super) fn away(scenario: &Scenario, m: &Measured) -> f64 {
    let judged = (0..m.callers.len()).filter(|caller| judged(scenario, m, *caller));
    let last = |caller| m.switches.iter().rfind(|(_, at, _)| *at == caller);
    let away: Vec<bool> = judged
        .map(|caller| last(caller).is_some_and(|(_, _, switched)| *switched))
        .collect();
    away.iter().filter(|away| **away).count() as f64 / away.len() as f64
}

/// Changes per caller and hour.
pub(super) fn changes(scenario: &Scenario, m: &Measured, seconds: f64) -> f64 {
    let callers = (0..m.callers.len()).filter(|caller| judged(scenario, m, *caller));
    let changes = m
        .switches
        .iter()
        .filter(|(time, caller, _)| *time >= scenario.from && judged(scenario, m, *caller));
    changes.count() as f64 / callers.count() as f64 * 3_600.0 / seconds
}
