//! How fast and how cheaply one changed threshold comes to every cluster of a fleet.
//!
//! ```text
//! bench-fleet [--clusters N] [--rounds N] [--rest SECONDS]
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use spillway_fleet::{Fleet, measure};

struct Options {
    clusters: usize,
    rounds: usize,
    rest: Duration,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            clusters: 100,
            rounds: 7,
            rest: Duration::from_secs(60),
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--clusters" => options.clusters = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--rest" => options.rest = Duration::from_secs(value.parse()?),
                _ => bail!("unknown option {name}; there are --clusters, --rounds, --rest"),
            }
        }
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut fleet = Fleet::start(options.clusters).await?;
    let changes = measure::changes(&mut fleet, options.rounds).await?;
    let rest = measure::rest(&mut fleet, options.rest).await?;
    let report = measure::report(&fleet, &changes, &rest, options.rest)?;
    report.print();
    report.write(&target_folder().join("bench"))
}

fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
