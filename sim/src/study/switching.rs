//! Switch mode: a caller that is alone, callers that share the limits, and what lies can do to them.

use hdrhistogram::CreationError;
use spillway_core::config::Mode;
use spillway_core::rate::{Rate, Unit};
use spillway_core::switch;

use super::{Row, Seeds, rows};
use crate::figures::Figure::{
    Changes, Failed, Kept, LastSwitched, MeanSwitched, SwitchSpread, Switched,
};
use crate::scenario::{Change, Claim, Cluster, Scenario};
use crate::suite::switching::{claims, shared, shared_step, with_liar};
use crate::table::Table;
use crate::{Callers, Demand};

/// A caller that is alone.
fn one_caller(demand: Demand) -> Scenario {
    let second = |rate| Rate::new(rate, Unit::Second);
    let limits = second(15).zip(second(10));
    let limits = limits.and_then(|(enter, leave)| switch::Limits::new(enter, leave));
    let mut callers = Callers::new(1, demand, &[0, 1]);
    callers.threads = 2;
    Scenario {
        mode: limits.map_or(Mode::Spill, Mode::Switch),
        ..Scenario::new(
            vec![Cluster::new(2, None), Cluster::new(2, None)],
            vec![callers],
        )
    }
}

/// One caller: steps of its rate, and hours between and outside the limits.
pub(super) fn alone(seeds: Seeds) -> Result<Vec<Row>, CreationError> {
    let mut all = Vec::new();
    for (from, to, said) in [(5.0, 20.0, "2.9"), (5.0, 75.0, ".26"), (20.0, 5.0, "2.9")] {
        let scenario = Scenario {
            step: Some(60.0),
            length: 120.0,
            from: 60.0,
            ..one_caller(Demand::Steps(vec![(0.0, from), (60.0, to)]))
        };
        let name = format!("one caller, from {from} to {to}/s");
        all.extend(rows(seeds, &name, &scenario, [(Switched, said)])?);
    }
    for rate in [8.0, 10.0, 12.5, 15.0, 17.0] {
        let scenario = Scenario {
            from: 60.0,
            length: 3_660.0,
            ..one_caller(Demand::Constant(rate))
        };
        let said = if (10.0..=15.0).contains(&rate) {
            "0–6"
        } else {
            ""
        };
        let name = format!("one caller at {rate}/s");
        all.extend(rows(seeds, &name, &scenario, [(Changes, said)])?);
    }
    Ok(all)
}

/// Callers and endpoints of a home; what the studies had of leaving, returning, and changes an hour.
const HOMES: [(u32, usize, usize, [&str; 3]); 13] = [
    (15, 1, 1, ["3.8", "5.5", "0–8"]),
    (15, 1, 10, ["", "", "0–8"]),
    (15, 5, 1, ["", "", "0–8"]),
    (15, 5, 4, ["5.7", "11.5", "0–8"]),
    (15, 12, 4, ["", "", "0–8"]),
    (15, 20, 4, ["", "", "0–8"]),
    (15, 50, 1, ["", "", "0–8"]),
    (15, 50, 10, ["16", "38", "0–8"]),
    (60, 12, 4, ["", "", "0–8"]),
    (1_500, 1, 1, ["4.1–4.3", "4.1–6.7", "0–8"]),
    (1_500, 5, 4, ["4.1–4.3", "4.1–6.7", "0–8"]),
    (1_500, 12, 4, ["4.1–4.3", "4.1–6.7", "0–8"]),
    (1_500, 50, 10, ["4.1–4.3", "4.1–6.7", "0–8"]),
];

/// Of each home: a step from a third of `enter` to four thirds, the step back, and the rates between
/// the limits and above them.
pub(super) fn table(seeds: Seeds) -> Result<Table, CreationError> {
    let mut table = Table::new([
        "enter; callers, endpoints",
        "leave, s: first; mean; last",
        "spread",
        "studies",
        "return, s: first; mean; last",
        "spread",
        "studies",
        "at home while switched",
        "changes/h between the limits",
        "studies",
        "changes/h at 4/3 of enter",
    ]);
    for (enter, callers, endpoints, said) in HOMES {
        let high = f64::from(enter) * 4.0 / 3.0;
        let low = f64::from(enter) / 3.0;
        let of = |demand| shared(enter, callers, endpoints, Demand::Constant(demand));
        let times = |from, to| {
            let scenario = shared_step(of(from), from, to, 240.0);
            let figures = [Switched, MeanSwitched, LastSwitched, SwitchSpread];
            seeds
                .run(&scenario, figures)
                .map(|[first, mean, last, spread]| {
                    let times = [first, mean, last].map(|spread| format!("{:.1}", spread.mean));
                    (times.join("; "), spread.text(1))
                })
        };
        // An hour, or as many requests.
        let length = if enter > 100 { 300.0 } else { 3_660.0 };
        let long = |demand| Scenario {
            length,
            ..of(demand)
        };
        let (leave, leave_spread) = times(low, high)?;
        let (back, back_spread) = times(high, low)?;
        let [between] = seeds.run(&long(f64::from(enter) * 5.0 / 6.0), [Changes])?;
        let [kept, above] = seeds.run(&long(high), [Kept, Changes])?;
        let [said_leave, said_back, said_changes] = said.map(str::to_owned);
        table.add([
            format!("{enter}/s; {callers}, {endpoints}"),
            leave,
            leave_spread,
            said_leave,
            back,
            back_spread,
            said_back,
            kept.text(2),
            between.text(1),
            said_changes,
            above.text(1),
        ]);
    }
    Ok(table)
}

/// The usual callers and endpoints at such a limit, for ten minutes, or three at a high rate.
fn honest(enter: u32, demand: f64) -> Scenario {
    let (callers, endpoints) = match enter {
        ..60 => (5, 4),
        60..100 => (12, 4),
        _ => (50, 10),
    };
    Scenario {
        length: if enter > 100 { 180.0 } else { 660.0 },
        ..shared(enter, callers, endpoints, Demand::Constant(demand))
    }
}

pub(super) fn lies(seeds: Seeds) -> Result<Vec<Row>, CreationError> {
    let next = || claims(Claim::Next);
    let mut all = Vec::new();
    for (enter, demand, said) in [
        (15, 2.0, "0"),
        (15, 5.0, "0"),
        (15, 8.0, "0"),
        (15, 12.5, "66–96"),
        (15, 20.0, ""),
        (15, 30.0, "0"),
        (60, 20.0, ""),
        (60, 50.0, ""),
        (60, 80.0, ""),
        (1_500, 800.0, "0"),
        (1_500, 1_250.0, "at most 10 · (4 + a minute)"),
        (1_500, 2_000.0, "0"),
    ] {
        let scenario = with_liar(honest(enter, demand), 1.0, next());
        let name = format!("enter {enter}/s, demand {demand}/s: the next epoch, each second");
        all.extend(rows(
            seeds,
            &name,
            &scenario,
            [(Changes, said), (Kept, "")],
        )?);
    }
    for (enter, low, high) in [(15, 5.0, 20.0), (1_500, 500.0, 2_000.0)] {
        let step = shared_step(honest(enter, low), low, high, 60.0);
        let liar = |claim| with_liar(step.clone(), 1.0, claims(claim));
        for (what, scenario) in [
            ("nobody lies", step.clone()),
            ("the next epoch, each second", liar(Claim::Next)),
            (
                "an epoch 400 million ahead, each second",
                liar(Claim::Number(400_000_000)),
            ),
        ] {
            let name = format!("enter {enter}/s, the minute from {low} to {high}/s on: {what}");
            all.extend(rows(seeds, &name, &scenario, [(Kept, "")])?);
        }
    }
    let forged = |liar: &mut Callers| liar.forged_echo = Some(1_000_000);
    for rate in [0.05, 0.2, 0.75] {
        let scenario = with_liar(honest(15, 5.0), rate, forged);
        let name = format!("enter 15/s, demand 5/s: N = 1,000,000, {rate}/s");
        let said = if rate < 0.7 { "stays" } else { "leaves" };
        all.extend(rows(
            seeds,
            &name,
            &scenario,
            [(Kept, said), (Changes, "")],
        )?);
    }
    for (demand, said) in [(5.0, "what it likes"), (30.0, "what it likes")] {
        let mut scenario = honest(15, demand);
        scenario.changes = vec![(30.0, Change::Lie(0, 0, Claim::Next))];
        let name = format!("enter 15/s, demand {demand}/s: one endpoint of four, the next epoch");
        let figures = [(Changes, said), (Kept, ""), (Failed, "0")];
        all.extend(rows(seeds, &name, &scenario, figures)?);
    }
    Ok(all)
}
