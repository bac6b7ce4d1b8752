//! What a change of the configuration costs a proxy, and how long it holds traffic up.
//!
//! Envoy hands a change to the main thread's VM first, and then each worker takes it in between
//! two events: what is under way on that worker waits meanwhile. One connection sends request
//! after request; the longest that one took is how long traffic was held up, and is set beside
//! the same of a window without a change.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use spillway_e2e::address::Block;
use spillway_e2e::artefacts;
use spillway_e2e::bench::{Report, Row};
use spillway_e2e::sidecar::DEADLINE;

use super::POLICIES;
use crate::proxy::Proxy;
use crate::scene::Scene;
use crate::traffic::{Connections, Upstream};
use crate::variant::{Variant, write_plugin};

/// Requests of a window, which is longer than a change takes: always as many, so that they cost
/// the worker the same in both windows.
const REQUESTS: usize = 400;
/// Between two requests, so that the load is not what the proxy is busy with.
const PAUSE: Duration = Duration::from_millis(2);
const GENERATION: &str = "spillway_config_generation";

/// A proxy with so many policies.
struct Changing {
    policies: usize,
    generation: u64,
    file: PathBuf,
    proxy: Proxy,
    connections: Connections,
    rounds: Vec<[Window; 2]>,
}

/// What happened in a window.
#[derive(Clone, Copy, Debug)]
struct Window {
    longest: Duration,
    /// Processor time of the main thread.
    main: Duration,
}

pub(crate) async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = Upstream::start().await?;
    let mut block = Block::take()?;
    let code = artefacts::filter()?;
    let mut proxies = Vec::new();
    for policies in POLICIES {
        let file = folder.path().join(format!("plugin-{policies}.json"));
        write_plugin(&file, &code, 1, policies)?;
        let variant = Variant::discovered(&format!("policies-{policies}"), &file);
        let (address, upstream) = (block.next_address()?, upstream.address());
        let proxy = Proxy::start(variant, address, upstream, folder.path(), 1).await?;
        let scene = Scene::CallerHome;
        let mut connections = Connections::open(proxy.listener(scene), scene, 1).await?;
        scene.check(proxy.variant(), &mut connections).await?;
        proxies.push(Changing {
            policies,
            generation: 1,
            file,
            proxy,
            connections,
            rounds: Vec::new(),
        });
    }
    // The first round lets V8 optimise; it does not count.
    for round in 0..=rounds {
        for changing in &mut proxies {
            let still = changing.window().await?;
            changing.generation += 1;
            write_plugin(
                &changing.file,
                &code,
                changing.generation,
                changing.policies,
            )?;
            let changed = changing.window().await?;
            changing.wait_generation().await?;
            if round > 0 {
                changing.rounds.push([still, changed]);
            }
        }
    }
    for changing in &proxies {
        changing.tell(report)?;
    }
    Ok(())
}

impl Changing {
    async fn window(&mut self) -> Result<Window> {
        let main = self.main_thread()?;
        let mut longest = Duration::ZERO;
        for _ in 0..REQUESTS {
            let sent = Instant::now();
            self.connections.run(1).await?;
            longest = longest.max(sent.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        let main = self.main_thread()?.saturating_sub(main);
        Ok(Window { longest, main })
    }

    fn main_thread(&self) -> Result<Duration> {
        let threads = self.proxy.threads()?;
        let found = threads.iter().find(|(name, _)| name == "envoy");
        let (_, time) = found.with_context(|| format!("no main thread: {threads:?}"))?;
        Ok(*time)
    }

    /// The change that was measured is in force.
    async fn wait_generation(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let shown = self.proxy.gauges(GENERATION).await?;
            if shown == [self.generation] {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < DEADLINE,
                "{} is not in force: {shown:?}",
                self.generation
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn tell(&self, report: &mut Report) -> Result<()> {
        let name = format!("change/policies-{}", self.policies);
        let main = self
            .rounds
            .iter()
            .map(|[still, changed]| (changed.main.as_secs_f64() - still.main.as_secs_f64()) * 1e3);
        let main: Vec<f64> = main.collect();
        let longest = |[still, changed]: &[Window; 2]| {
            [still, changed].map(|window| window.longest.as_secs_f64() * 1e3)
        };
        let (still, changed): (Vec<f64>, Vec<f64>) = self
            .rounds
            .iter()
            .map(|windows| longest(windows).into())
            .unzip();
        report.add(Row::median(&format!("{name}/main-thread-cpu"), &main, "ms"));
        let row = Row::median(&format!("{name}/longest-request"), &changed, "ms");
        report.add(row.aim("<=50"));
        let row = Row::median(&format!("{name}/longest-request-without"), &still, "ms");
        report.add(row);
        report.add(Row::new(
            &format!("{name}/memory-after"),
            self.proxy.memory()?,
            "MiB",
        ));
        Ok(())
    }
}
