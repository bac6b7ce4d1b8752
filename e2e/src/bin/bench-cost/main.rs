//! What the filter costs a sidecar: processor time per request, against no filter, an empty one,
//! Envoy's own rate limit, and a Lua script that does the same job.
//!
//! ```text
//! bench-cost [--rounds N] [--slice REQUESTS] [--scene NAME]... [--also NAME=FILE]...
//! bench-cost limits [--rounds N] [--part rate|memory|change]...
//! ```
//!
//! `limits` measures what one sidecar bears instead: see [`limits`]. `--scene` measures these scenes only; `--also` measures more builds of the filter in the same
//! rounds. What is compared takes turns in
//! slices of a fraction of a second, and each ratio is taken within a round, so that a slow minute
//! of the machine is everybody's; the result is the median of the rounds. It is processor time
//! and not duration that is compared, since the proxies share the machine with their load.

mod limits;
mod noop;
mod proxy;
mod report;
mod scene;
mod traffic;
mod variant;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use spillway_e2e::address::Block;
use spillway_e2e::bench::{Report, Row};
use spillway_e2e::random::Random;
use tokio::runtime::Builder;

use self::proxy::Proxy;
use self::report::Sample;
use self::scene::Scene;
use self::traffic::{CONNECTIONS, Connections, Upstream};
use self::variant::Variant;

/// Slices of each measurement in a round.
const SLICES: usize = 4;
/// How long the proxies are watched doing nothing.
const IDLE: Duration = Duration::from_secs(3);

/// What the command line says.
struct Options {
    rounds: usize,
    slice: usize,
    scenes: Vec<Scene>,
    also: Vec<(String, PathBuf)>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            rounds: 9,
            slice: 1_600,
            scenes: Vec::new(),
            also: Vec::new(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--slice" => options.slice = value.parse()?,
                "--scene" => options.scenes.push(Scene::named(&value)?),
                "--also" => {
                    let (name, path) = value.split_once('=').context("--also NAME=FILE")?;
                    options.also.push((name.to_owned(), path.into()));
                }
                _ => bail!("unknown option {name}; there are --rounds, --slice, --scene, --also"),
            }
        }
        if options.scenes.is_empty() {
            options.scenes.extend(Scene::ALL);
        }
        Ok(options)
    }
}

/// One variant in one scene, with its connections.
struct Cell {
    proxy: usize,
    scene: Scene,
    connections: Connections,
    rounds: Vec<f64>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("limits").is_some() {
        let options = limits::Options::parse(arguments)?;
        // One thread makes the load and answers it, so that it leaves a core to a proxy.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(limits::run(&options));
    }
    let options = Options::parse(arguments)?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = Upstream::start().await?;
    let mut variants = Variant::all(folder.path())?;
    for (name, path) in &options.also {
        variants.push(Variant::filter(name, path));
    }

    let mut block = Block::take()?;
    let mut proxies = Vec::new();
    for variant in variants {
        let address = block.next_address()?;
        proxies.push(Proxy::start(variant, address, upstream.address(), folder.path(), 1).await?);
    }
    let mut cells = Vec::new();
    for (number, proxy) in proxies.iter().enumerate() {
        for scene in options.scenes.iter().copied() {
            if proxy.variant().serves(scene) {
                let mut connections =
                    Connections::open(proxy.listener(scene), scene, CONNECTIONS).await?;
                scene.check(proxy.variant(), &mut connections).await?;
                cells.push(Cell {
                    proxy: number,
                    scene,
                    connections,
                    rounds: Vec::new(),
                });
            }
        }
    }

    // The first round fills caches and lets V8 optimise; it does not count.
    let mut random = Random::new(1);
    for round in 0..=options.rounds {
        measure(&proxies, &mut cells, options.slice, &mut random, round > 0).await?;
    }
    let idle = watch_idle(&proxies).await?;

    let mut report = Report::new("cost")?;
    let samples = cells.iter().map(|cell| Sample {
        scene: cell.scene,
        variant: proxies
            .get(cell.proxy)
            .map(|proxy| proxy.variant().name())
            .unwrap_or_default(),
        micros: &cell.rounds,
    });
    report::costs(&mut report, &samples.collect::<Vec<_>>());
    for (proxy, idle) in proxies.iter().zip(&idle) {
        let name = proxy.variant().name();
        let memory = proxy.memory()?;
        report.add(Row::new(&format!("memory/{name}"), memory, "MiB"));
        report.add(Row::new(&format!("idle/{name}"), *idle, "ms CPU per s"));
    }
    report::filter_size(&mut report, &spillway_e2e::artefacts::filter()?)?;
    report::host_calls(&mut report, &workspace().join("tests/cost.txt"))?;
    report.print();
    report.write(&target_folder().join("bench"))
}

/// One round: every cell in slices by turns.
async fn measure(
    proxies: &[Proxy],
    cells: &mut [Cell],
    slice: usize,
    random: &mut Random,
    counts: bool,
) -> Result<()> {
    let mut spent: BTreeMap<usize, Duration> = BTreeMap::new();
    for _ in 0..SLICES {
        // Shuffled, so that nobody always follows the same neighbour's work.
        let mut order: Vec<usize> = (0..cells.len()).collect();
        while !order.is_empty() {
            let pick = random.weighted(order.iter().map(|_| 1.0));
            let number = order.swap_remove(pick);
            let Some(cell) = cells.get_mut(number) else {
                continue;
            };
            let proxy = proxies.get(cell.proxy).context("a cell without a proxy")?;
            let before = proxy.cpu_time()?;
            cell.connections.run(slice).await?;
            *spent.entry(number).or_default() += proxy.cpu_time()?.saturating_sub(before);
        }
    }
    if counts {
        for (number, cell) in cells.iter_mut().enumerate() {
            let spent = spent.get(&number).copied().unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
            let requests = (SLICES * slice) as f64;
            cell.rounds.push(spent.as_secs_f64() * 1e6 / requests);
        }
    }
    Ok(())
}

/// Processor time of each proxy without any request, in ms per second.
async fn watch_idle(proxies: &[Proxy]) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let before: Vec<Duration> = proxies.iter().map(Proxy::cpu_time).collect::<Result<_>>()?;
    tokio::time::sleep(IDLE).await;
    let seconds = begin.elapsed().as_secs_f64();
    proxies
        .iter()
        .zip(before)
        .map(|(proxy, before)| {
            let spent = proxy.cpu_time()?.saturating_sub(before);
            Ok(spent.as_secs_f64() * 1e3 / seconds)
        })
        .collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
