//! Arrivals that cluster, and what they ask of the burst tolerance B.

use hdrhistogram::CreationError;

use super::Seeds;
use crate::figures::Figure;
use crate::scenario::{Callers, Cluster, Limit, Scenario};
use crate::table::Table;
use crate::{Bursts, Demand};

/// Ten callers alike, or a hundred, at nine tenths of a limit.
fn scenario(limit: u32, endpoints: usize, bursts: Option<Bursts>, factor: f64) -> Scenario {
    let mut home = Cluster::new(endpoints, Some(Limit::total(limit)));
    if let Some(limit) = &mut home.limit {
        let shipped =
            3.0 + (limit.per_second(endpoints).unwrap_or(0.0) / 10.0).max(12.0) / endpoints as f64;
        limit.tolerance = Some(shipped * factor);
    }
    let count = if limit < 100 { 10 } else { 100 };
    let mut callers = Callers::new(count, Demand::Constant(0.9 * f64::from(limit)), &[0, 1]);
    callers.skew = 0.0;
    callers.bursts = bursts;
    let length = if limit < 100 { 660.0 } else { 66.0 };
    Scenario {
        length,
        from: length / 11.0,
        ..Scenario::new(vec![home, Cluster::new(10, None)], vec![callers])
    }
}

pub(super) fn table(seeds: Seeds) -> Result<Table, CreationError> {
    let mild = |together| Bursts {
        peak: 2.0,
        on: 0.5,
        off: 1.5,
        together,
    };
    let arrivals = [
        ("Poisson", None),
        (
            "twice the mean for .5 s, all callers together",
            Some(mild(true)),
        ),
        ("twice the mean for .5 s, each by itself", Some(mild(false))),
        (
            "on/off .5/2 s, all together",
            Some(Bursts::on_off(0.5, 2.0, true)),
        ),
        (
            "on/off .5/2 s, each by itself",
            Some(Bursts::on_off(0.5, 2.0, false)),
        ),
        (
            "on/off .05/.2 s, all together",
            Some(Bursts::on_off(0.05, 0.2, true)),
        ),
        (
            "on/off 10/40 s, each by itself",
            Some(Bursts::on_off(10.0, 40.0, false)),
        ),
    ];
    let factors = [1.0, 2.0, 4.0, 8.0];
    let mut header = vec!["arrivals, demand .9 C".to_owned(), "C, M".to_owned()];
    header.extend(factors.map(|factor| format!("{factor} B")));
    header.push("bounced, 1 B".to_owned());
    let mut table = Table::new(header);
    for (name, bursts) in arrivals {
        for (limit, endpoints) in [(1_000, 10), (15, 3)] {
            let mut row = vec![name.to_owned(), format!("{limit}/s, {endpoints}")];
            let mut bounces = String::new();
            for factor in factors {
                let scenario = scenario(limit, endpoints, bursts, factor);
                let [kept, bounced] = seeds.run(&scenario, [Figure::Kept, Figure::Bounced])?;
                row.push(format!("{:.3}", kept.mean));
                if bounces.is_empty() {
                    bounces = format!("{:.3}", bounced.mean);
                }
            }
            row.push(bounces);
            table.add(row);
        }
    }
    Ok(table)
}
