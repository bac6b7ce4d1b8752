//! The schemes beside each other, on one load.

use hdrhistogram::CreationError;

use super::Seeds;
use crate::Demand;
use crate::figures::Figure;
use crate::scenario::{Callers, Cluster, Limit, Scenario, Scheme};
use crate::table::Table;

/// From nothing to five times a limit of 1,000/s, at ten endpoints.
fn crowd(callers: usize) -> Scenario {
    let home = Cluster::new(10, Some(Limit::total(1_000)));
    let burst = Cluster::new(10, None);
    let demand = Demand::Steps(vec![(5.0, 5_000.0)]);
    Scenario {
        step: Some(5.0),
        length: 20.0,
        ..Scenario::new(
            vec![home, burst],
            vec![Callers::new(callers, demand, &[0, 1])],
        )
    }
}

pub(super) fn table(seeds: Seeds) -> Result<Table, CreationError> {
    let watcher = Scheme::Watcher {
        enter: 1_000.0,
        leave: 667.0,
    };
    let rows: [(&str, Scheme, f64, f64, &str); 7] = [
        (
            "equal static split",
            Scheme::Split,
            1.0,
            0.0,
            "never; 39; .77; .82; .90",
        ),
        (
            "split by a controller every 5 s",
            Scheme::Controller(5.0),
            1.0,
            0.0,
            "2.6; 86; .996; .97; 1.00",
        ),
        ("the watcher", watcher, 1.0, 0.0, ""),
        (
            "echo, no gate",
            Scheme::Spillway,
            0.0,
            0.0,
            "1.5; 1225; 1.00; 1.18; 5.0",
        ),
        (
            "echo, no gate, told nothing",
            Scheme::Spillway,
            0.0,
            1.0,
            "",
        ),
        (
            "gate only",
            Scheme::Spillway,
            1.0,
            1.0,
            ".04; 135; .99; 1.00; 1.00",
        ),
        (
            "**gate + echo**",
            Scheme::Spillway,
            1.0,
            0.0,
            ".04; 136; .998; 1.00; 1.00",
        ),
    ];
    let mut table = Table::new([
        "scheme",
        "settle, s",
        "above 1.02 C",
        "from 5 s after the step on: Jain",
        "load/C",
        "N = 1,000: load/C",
        "bounced",
        "studies: settle; above; Jain; N = 1,000; feedback lost",
    ]);
    for (name, scheme, bounceable, deaf, said) in rows {
        let mut few = crowd(100);
        let mut many = crowd(1_000);
        for scenario in [&mut few, &mut many] {
            scenario.scheme = scheme;
            scenario.network.deaf = deaf;
            for callers in &mut scenario.callers {
                callers.bounceable = bounceable;
            }
        }
        let figures = [Figure::Settle, Figure::Excess, Figure::Bounced];
        let [settle, excess, bounced] = seeds.run(&few, figures)?;
        few.from = 10.0;
        many.from = 10.0;
        let [load, jain] = seeds.run(&few, [Figure::Load, Figure::Jain])?;
        let [of_many] = seeds.run(&many, [Figure::Load])?;
        table.add([
            name.to_owned(),
            settle.text(2),
            excess.text(0),
            jain.text(3),
            load.text(2),
            of_many.text(2),
            bounced.text(2),
            said.to_owned(),
        ]);
    }
    Ok(table)
}
