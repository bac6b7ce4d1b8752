//! The rules, one by one.

use hdrhistogram::CreationError;

use super::{Row, Seeds, Spread, rows};
use crate::Demand;
use crate::figures::Figure;
use crate::run::run;
use crate::scenario::{
    Balancing, Callers, Change, Cluster, Gateway, Limit, Scenario, Service, Takes,
};

type Rows = Result<Vec<Row>, CreationError>;

/// Callers of a home with a limit beside a cluster with room.
fn home(limit: u32, endpoints: usize, demand: Demand) -> Scenario {
    let callers = if limit < 100 { 10 } else { 100 };
    let clusters = vec![
        Cluster::new(endpoints, Some(Limit::total(limit))),
        Cluster::new(10, None),
    ];
    let callers = vec![Callers::new(callers, demand, &[0, 1])];
    let length = if limit < 100 { 220.0 } else { 25.0 };
    Scenario {
        length,
        from: length / 11.0,
        ..Scenario::new(clusters, callers)
    }
}

fn stepped(limit: u32, endpoints: usize, from: f64, to: f64) -> Scenario {
    Scenario {
        step: Some(20.0),
        length: 40.0,
        from: 20.0,
        ..home(
            limit,
            endpoints,
            Demand::Steps(vec![(0.0, from), (20.0, to)]),
        )
    }
}

pub(super) fn tolerance(seeds: Seeds) -> Rows {
    let c = f64::from;
    let mut all = Vec::new();
    for (limit, endpoints, at_limit, above) in [
        (15, 1, ".95", ".996"),
        (15, 3, "", ""),
        (15, 10, ".92", ".95"),
        (1_000, 10, "≥ .95", ""),
        (1_000, 30, "≥ .95", ""),
    ] {
        let name = |demand: &str| format!("C = {limit}/s, M = {endpoints}, demand {demand}");
        let scenario = home(limit, endpoints, Demand::Constant(c(limit)));
        all.extend(rows(
            seeds,
            &name("C"),
            &scenario,
            [(Figure::Utilisation, at_limit)],
        )?);
        let scenario = home(limit, endpoints, Demand::Constant(1.2 * c(limit)));
        let figures = [(Figure::Utilisation, above), (Figure::Bounces, ".06–.29")];
        all.extend(rows(seeds, &name("1.2 C"), &scenario, figures)?);
        let scenario = stepped(limit, endpoints, 0.3 * c(limit), 5.0 * c(limit));
        let said = if limit == 15 {
            "at most M·(B−1), 14–35"
        } else {
            ""
        };
        all.extend(rows(
            seeds,
            &name(".3 → 5 C"),
            &scenario,
            [(Figure::Excess, said)],
        )?);
    }
    for (to, said) in [(20.0, "2.4–3.0"), (75.0, ".25–.4")] {
        for endpoints in [1, 3, 10] {
            let scenario = stepped(15, endpoints, 5.0, to);
            let name = format!("C = 15/s, M = {endpoints}, from 5 to {to}/s");
            all.extend(rows(seeds, &name, &scenario, [(Figure::FirstSpill, said)])?);
        }
    }
    for limit in [15, 100, 1_000] {
        for (balancing, name) in [
            (Balancing::LeastRequest, "least request"),
            (Balancing::RoundRobin, "round robin"),
        ] {
            let mut scenario = home(limit, 10, Demand::Constant(c(limit)));
            for callers in &mut scenario.callers {
                callers.balancing = balancing;
            }
            let name = format!("C = {limit}/s, M = 10, demand C, {name}");
            let said = if limit == 15 {
                "round robin is better"
            } else {
                ""
            };
            all.extend(rows(
                seeds,
                &name,
                &scenario,
                [(Figure::Utilisation, said)],
            )?);
        }
    }
    Ok(all)
}

/// Clusters with a limit each, whose callers want so many times as much.
fn ring(limit: u32, demands: &[f64]) -> Scenario {
    let n = demands.len();
    let clusters = vec![Cluster::new(4, Some(Limit::total(limit))); n];
    let count = if limit < 100 { 4 } else { 20 };
    let callers = demands.iter().enumerate().map(|(home, demand)| {
        let ladder: Vec<usize> = (0..n).map(|step| (home + step) % n).collect();
        Callers::new(count, Demand::Constant(demand * f64::from(limit)), &ladder)
    });
    let length = if limit < 100 { 120.0 } else { 25.0 };
    Scenario {
        length,
        from: length / 5.0,
        ..Scenario::new(clusters, callers.collect())
    }
}

/// The second of three clusters becomes free while the third has taken what the first could not.
fn becomes_free(limit: u32) -> Scenario {
    let mut scenario = ring(limit, &[2.0, 1.0, 0.0]);
    let step = scenario.from;
    let own = f64::from(limit);
    for second in scenario.callers.iter_mut().skip(1).take(1) {
        second.demand = Demand::Steps(vec![(0.0, own), (step, 0.2 * own)]);
    }
    scenario.step = Some(step);
    scenario
}

pub(super) fn classes(seeds: Seeds) -> Rows {
    use Figure::{
        Attempts, Failed, ForcedAway, Kept, KeptBySecond, Load, Rho, RoomUsed, Second, Taken,
    };
    let mut all = Vec::new();
    let mut add = |name: &str, scenario: &Scenario, figures: &[(Figure, &str)]| {
        for figure in figures {
            all.extend(rows(seeds, name, scenario, [*figure])?);
        }
        Ok::<_, CreationError>(())
    };
    for c in [1_000, 15] {
        let name = |text: &str| format!("C = {c}/s: {text}");
        let figures = [(Rho, "1.19–1.20"), (Attempts, "1.03"), (Failed, "0")];
        add(&name("two at 1.2 C"), &ring(c, &[1.2, 1.2]), &figures)?;
        let figures = [(KeptBySecond, "1.00"), (RoomUsed, ".81–1.10")];
        add(
            &name("A at 5 C, B at .5 C"),
            &ring(c, &[5.0, 0.5]),
            &figures,
        )?;
        let figures = [(Kept, "1.00"), (KeptBySecond, "1.00")];
        add(&name("two at 1.3 C"), &ring(c, &[1.3, 1.3]), &figures)?;
        let figures = [(KeptBySecond, "1.00"), (RoomUsed, ".81–1.10")];
        add(
            &name("five, one at 3 C, four at .8 C"),
            &ring(c, &[3.0, 0.8, 0.8, 0.8, 0.8]),
            &figures,
        )?;
        let said = if c == 15 { ".07" } else { ".02–.03" };
        for demand in [0.8, 1.2, 2.0, 5.0] {
            let said = if demand > 1.5 { said } else { "" };
            let name = name(&format!("five at {demand} C"));
            let figures = [(Load, ""), (ForcedAway, said)];
            add(&name, &ring(c, &[demand; 5]), &figures)?;
        }
        let name = name("A at 2 C, B goes from 1 to .2 C, a third cluster has room");
        add(&name, &becomes_free(c), &[(Taken, "2–4")])?;
    }
    for (a, b) in [(0.8, 0.8), (1.2, 0.5), (2.0, 0.8), (5.0, 0.8)] {
        let name = format!("C = 1000/s: A at {a} C, B at {b} C");
        add(
            &name,
            &ring(1_000, &[a, b]),
            &[(KeptBySecond, "1.00"), (Second, "")],
        )?;
    }
    Ok(all)
}

/// What a forged echo costs the honest ones: of home's throughput.
pub(super) fn credit(seeds: Seeds) -> Rows {
    let mut all = Vec::new();
    for (honest, said) in [(0.8, "≤ .09"), (1.5, "≤ .09"), (5.0, "≤ .09")] {
        for rate in [1.0, 20.0, 200.0] {
            let mesh = |forged_echo, seed| {
                let mut scenario = home(1_000, 10, Demand::Constant(honest * 1_000.0));
                let mut forger = Callers::new(1, Demand::Constant(rate), &[0, 1]);
                forger.forged_echo = forged_echo;
                scenario.callers.push(forger);
                Scenario { seed, ..scenario }
            };
            let mut costs = Vec::new();
            for seed in 1..=seeds.0 {
                let kept = |forged| -> Result<f64, CreationError> {
                    let scenario = mesh(forged, seed);
                    Ok(Figure::Kept.of(&scenario, &run(&scenario)?))
                };
                costs.push((kept(None)? - kept(Some(999_999_999))?) * honest);
            }
            all.push([
                format!("honest demand {honest} C, the forger makes {rate}/s"),
                "cost, of C".to_owned(),
                said.to_owned(),
                Spread::of(costs).text(3),
            ]);
        }
    }
    Ok(all)
}

/// Home takes five times as long from 10 s to 20 s, at .8 of the demand that it could serve.
pub(super) fn concurrency(seeds: Seeds) -> Rows {
    let mut scenario = home(1_000, 10, Demand::Constant(800.0));
    for cluster in scenario.clusters.iter_mut().take(1) {
        // 10 endpoints, 20 at once, .2 s: 1,000/s.
        cluster.limit = Some(Limit::at_once(20));
        cluster.service = Service {
            takes: Takes::Fixed(0.2),
            places: None,
        };
    }
    scenario.changes = vec![
        (10.0, Change::SlowAll(0, 5.0)),
        (20.0, Change::SlowAll(0, 1.0)),
    ];
    scenario.step = Some(10.0);
    let slow = Scenario {
        from: 12.0,
        length: 20.0,
        ..scenario.clone()
    };
    let soon = Scenario {
        from: 10.5,
        length: 11.5,
        ..scenario.clone()
    };
    let back = Scenario {
        from: 21.0,
        length: 26.0,
        ..scenario.clone()
    };
    let before = Scenario {
        from: 5.0,
        length: 10.0,
        step: None,
        ..scenario.clone()
    };
    let mut all = rows(
        seeds,
        "before: 800/s of 1,000/s",
        &before,
        [(Figure::Kept, ""), (Figure::Bounces, "")],
    )?;
    all.extend(rows(
        seeds,
        "home slows five times: ideal 200/s",
        &slow,
        [
            (Figure::FirstSpill, ".1"),
            (Figure::First, "180–190"),
            (Figure::Bounces, ".3"),
            (Figure::Failed, ""),
        ],
    )?);
    all.extend(rows(
        seeds,
        "the second that begins .5 s after it slowed: ideal 200/s",
        &soon,
        [(Figure::First, "≤ 200")],
    )?);
    all.extend(rows(
        seeds,
        "from 1 s after it is as before",
        &back,
        [(Figure::Kept, "1")],
    )?);
    Ok(all)
}

pub(super) fn gateway(seeds: Seeds) -> Rows {
    let mut all = Vec::new();
    for (connections, reconnects, said) in [
        (1, false, ".33–.94"),
        (4, false, ".33–.94"),
        (1, true, ".96–.98"),
        (4, true, ".96–.98"),
    ] {
        for callers in [5, 20, 100] {
            let mut scenario = ring(1_000, &[3.0, 0.2]);
            for group in scenario.callers.iter_mut().take(1) {
                group.count = callers;
            }
            for cluster in scenario.clusters.iter_mut().skip(1) {
                cluster.endpoints = 10;
                cluster.gateway = Some(Gateway {
                    connections,
                    reconnects,
                });
            }
            let how = if reconnects {
                ", a new one after a bounce"
            } else {
                ""
            };
            let name = format!("{callers} callers, {connections} connections a thread{how}");
            all.extend(rows(seeds, &name, &scenario, [(Figure::RoomUsed, said)])?);
        }
    }
    Ok(all)
}
