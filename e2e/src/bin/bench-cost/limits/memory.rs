//! The resident memory of a proxy with both sides' plugins, by policies and by workers.
//!
//! Each worker has a VM, the main thread has one for each plugin, and a module's memory never
//! shrinks: what the taking in of a configuration needs at most stays.

use std::path::Path;

use anyhow::Result;
use spillway_e2e::address::Block;
use spillway_e2e::artefacts;
use spillway_e2e::bench::{Report, Row, median};

use super::POLICIES;
use crate::noop;
use crate::proxy::Proxy;
use crate::scene::Scene;
use crate::traffic::{CONNECTIONS, Connections, Upstream};
use crate::variant::Variant;

const WORKERS: [usize; 3] = [1, 2, 4];
/// V8 compiles while it runs, so that one start takes a MiB more than another.
const STARTS: usize = 3;
/// Some traffic, so that what it needs is there.
const REQUESTS: usize = 800;

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = Upstream::start().await?;
    let mut block = Block::take()?;
    let code = artefacts::filter()?;
    let empty = folder.path().join("noop.wasm");
    std::fs::write(&empty, noop::module()?)?;
    let mut variants = vec![Variant::none(), Variant::empty(&empty)];
    for policies in POLICIES {
        let name = format!("policies-{policies}");
        variants.push(Variant::with_policies(&name, &code, policies));
    }
    let mut table = Vec::new();
    for workers in WORKERS {
        for variant in &variants {
            let mut starts = Vec::new();
            for _ in 0..STARTS {
                starts.push(one(variant, workers, &mut block, &upstream, folder.path()).await?);
            }
            let name = format!("memory/workers-{workers}/{}", variant.name());
            table.push((workers, variant.name(), median(&starts)));
            report.add(Row::median(&name, &starts, "MiB"));
        }
    }
    let of = |workers: usize, name: &str| {
        let found = table.iter().find(|(w, n, _)| *w == workers && *n == name);
        found.map_or(f64::NAN, |(.., memory)| *memory)
    };
    for workers in WORKERS {
        let policy = (of(workers, "policies-1000") - of(workers, "policies-1")) * 1024.0 / 999.0;
        let row = format!("memory/workers-{workers}/a-policy");
        report.add(Row::new(&row, policy, "KiB"));
    }
    let [least, _, most] = WORKERS;
    for variant in &variants {
        let name = variant.name();
        let more = (of(most, name) - of(least, name)) / 3.0;
        report.add(Row::new(&format!("memory/a-worker/{name}"), more, "MiB"));
    }
    let row = |name: &str| (of(most, name) - of(least, name)) / 3.0;
    let policy = (row("policies-1000") - row("policies-1")) * 1024.0 / 999.0;
    report.add(Row::new("memory/a-worker/a-policy", policy, "KiB").aim("<=6"));
    Ok(())
}

/// MiB after some traffic.
async fn one(
    variant: &Variant,
    workers: usize,
    block: &mut Block,
    upstream: &Upstream,
    folder: &Path,
) -> Result<f64> {
    let address = block.next_address()?;
    let upstream = upstream.address();
    let proxy = Proxy::start(variant.clone(), address, upstream, folder, workers).await?;
    for scene in [Scene::CallerHome, Scene::ServerBelow] {
        let to = proxy.listener(scene);
        let mut connections = Connections::open(to, scene, CONNECTIONS).await?;
        connections.run(REQUESTS).await?;
    }
    proxy.memory()
}
