//! The rate at which a proxy is busy all the time, and what a request costs it then.

use std::time::{Duration, Instant};

use anyhow::Result;
use spillway_e2e::address::Block;
use spillway_e2e::artefacts;
use spillway_e2e::bench::{Report, Row, median};
use spillway_e2e::random::Random;

use super::POLICIES;
use crate::noop;
use crate::proxy::Proxy;
use crate::scene::Scene;
use crate::traffic::{Connections, Upstream};
use crate::variant::Variant;

const SCENES: [Scene; 2] = [Scene::CallerHome, Scene::ServerBelow];
/// Enough that each worker has several, and always one to serve.
const CONNECTIONS: usize = 32;
/// Requests of a slice, of which a round has [`SLICES`] for each cell.
const SLICE: usize = 1_600;
const SLICES: usize = 3;

/// A proxy in one scene.
struct Cell {
    name: String,
    workers: usize,
    proxy: Proxy,
    scene: Scene,
    connections: Connections,
    rounds: Vec<Round>,
}

/// What a round of a cell took.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    requests: usize,
    wall: Duration,
    /// Of all threads.
    cpu: Duration,
    /// Of the worker threads.
    workers: Duration,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn rate(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }
}

pub(crate) async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = Upstream::start().await?;
    let mut block = Block::take()?;
    let code = artefacts::filter()?;
    let empty = folder.path().join("noop.wasm");
    std::fs::write(&empty, noop::module()?)?;
    let mut cells = Vec::new();
    for workers in [1, 2] {
        let mut variants = vec![Variant::none(), Variant::empty(&empty)];
        for policies in POLICIES {
            if workers == 1 || policies == 1 {
                let name = format!("policies-{policies}");
                variants.push(Variant::with_policies(&name, &code, policies));
            }
        }
        for variant in variants {
            for scene in SCENES {
                let (address, variant) = (block.next_address()?, variant.clone());
                let upstream = upstream.address();
                let proxy =
                    Proxy::start(variant, address, upstream, folder.path(), workers).await?;
                let mut connections =
                    Connections::open(proxy.listener(scene), scene, CONNECTIONS).await?;
                scene.check(proxy.variant(), &mut connections).await?;
                cells.push(Cell {
                    name: proxy.variant().name().to_owned(),
                    workers,
                    proxy,
                    scene,
                    connections,
                    rounds: Vec::new(),
                });
            }
        }
    }
    // The first round fills caches and lets V8 optimise; it does not count.
    let mut random = Random::new(1);
    for round in 0..=rounds {
        take_turns(&mut cells, &mut random, round > 0).await?;
    }
    tell(report, &cells);
    Ok(())
}

/// One round: every cell in slices by turns, in an order that is drawn each time.
async fn take_turns(cells: &mut [Cell], random: &mut Random, counts: bool) -> Result<()> {
    let mut sums = vec![Round::default(); cells.len()];
    for _ in 0..SLICES {
        let mut order: Vec<usize> = (0..cells.len()).collect();
        while !order.is_empty() {
            let number = order.swap_remove(random.weighted(order.iter().map(|_| 1.0)));
            let (Some(cell), Some(sum)) = (cells.get_mut(number), sums.get_mut(number)) else {
                continue;
            };
            let (cpu, workers) = spent(&cell.proxy)?;
            let begin = Instant::now();
            cell.connections.run(SLICE).await?;
            sum.wall += begin.elapsed();
            let (cpu_after, workers_after) = spent(&cell.proxy)?;
            sum.cpu += cpu_after.saturating_sub(cpu);
            sum.workers += workers_after.saturating_sub(workers);
            sum.requests += SLICE;
        }
    }
    if counts {
        for (cell, sum) in cells.iter_mut().zip(sums) {
            cell.rounds.push(sum);
        }
    }
    Ok(())
}

/// The processor time of all threads, and of the workers alone.
fn spent(proxy: &Proxy) -> Result<(Duration, Duration)> {
    let threads = proxy.threads()?;
    let workers = threads.iter().filter(|(name, _)| name.starts_with("wrk"));
    let workers: Duration = workers.map(|(_, time)| *time).sum();
    Ok((threads.iter().map(|(_, time)| *time).sum(), workers))
}

fn tell(report: &mut Report, cells: &[Cell]) {
    for cell in cells {
        let of = |value: fn(&Round) -> f64| -> Vec<f64> { cell.rounds.iter().map(value).collect() };
        let name = format!(
            "{}/workers-{}/{}",
            cell.scene.name(),
            cell.workers,
            cell.name
        );
        report.add(Row::median(
            &format!("{name}/cpu"),
            &of(Round::micros),
            "µs",
        ));
        report.add(Row::median(
            &format!("{name}/rate"),
            &of(Round::rate),
            "requests/s",
        ));
        // The load is one thread too, and does not always keep a worker busy.
        let full: Vec<f64> = cell
            .rounds
            .iter()
            .map(|round| 1e6 / round.micros())
            .collect();
        report.add(Row::median(
            &format!("{name}/rate-of-a-busy-worker"),
            &full,
            "requests/s",
        ));
        let busy: Vec<f64> = cell.rounds.iter().map(|round| busy(round, cell)).collect();
        report.add(Row::median(&format!("{name}/busy"), &busy, "of a worker"));
    }
    for cell in cells
        .iter()
        .filter(|cell| cell.name.starts_with("policies"))
    {
        let beside = |name: &str, workers: usize| {
            let same = |other: &&Cell| other.scene == cell.scene && other.workers == workers;
            cells.iter().filter(same).find(|other| other.name == name)
        };
        let name = format!(
            "{}/workers-{}/{}",
            cell.scene.name(),
            cell.workers,
            cell.name
        );
        let mut ratio = |to: &str, other: Option<&Cell>, aim: Option<&'static str>| {
            let Some(other) = other else {
                return;
            };
            let pairs = cell.rounds.iter().zip(&other.rounds);
            let ratios: Vec<f64> = pairs.map(|(a, b)| a.micros() / b.micros()).collect();
            let row = Row::median(&format!("{name}/cpu-vs-{to}"), &ratios, "ratio");
            report.add(match aim {
                Some(aim) => row.aim(aim),
                None => row,
            });
        };
        if cell.name == "policies-1" {
            ratio("none", beside("none", cell.workers), None);
            ratio("no-op", beside("no-op", cell.workers), None);
            if cell.workers > 1 {
                ratio("one-worker", beside("policies-1", 1), None);
            }
        } else {
            ratio("policies-1", beside("policies-1", 1), Some("<=1.1"));
        }
        if let (Some(none), "policies-1") = (beside("none", cell.workers), cell.name.as_str()) {
            let pairs = cell.rounds.iter().zip(&none.rounds);
            let own: Vec<f64> = pairs.map(|(a, b)| a.micros() - b.micros()).collect();
            // What a worker could serve if it had nothing to do but the filter's work.
            let rate = 1e6 / median(&own);
            report.add(Row::median(&format!("{name}/filter-alone"), &own, "µs"));
            report.add(Row::new(
                &format!("{name}/filter-alone-rate"),
                rate,
                "requests/s",
            ));
        }
    }
}

/// How much of the time a worker was on a core, on average.
fn busy(round: &Round, cell: &Cell) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "two")]
    let workers = cell.workers as f64;
    round.workers.as_secs_f64() / round.wall.as_secs_f64() / workers
}
