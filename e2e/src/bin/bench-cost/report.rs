//! The rows of this benchmark.

use std::path::Path;

use anyhow::{Context, Result};
use spillway_e2e::bench::{Report, Row};

use crate::scene::Scene;
use crate::variant::FILTER;

/// What a cell was measured to cost, µs a request, by round.
pub(crate) struct Sample<'a> {
    pub(crate) scene: Scene,
    pub(crate) variant: &'a str,
    pub(crate) micros: &'a [f64],
}

/// What each variant costs in each scene, and the filter's cost as a ratio to each other's.
pub(crate) fn costs(report: &mut Report, samples: &[Sample<'_>]) {
    for scene in Scene::ALL {
        let name = scene.name();
        let of_scene = || samples.iter().filter(|sample| sample.scene == scene);
        for sample in of_scene() {
            let row = format!("{name}/cpu-of-{}", sample.variant);
            report.add(Row::median(&row, sample.micros, "µs"));
        }
        let Some(filter) = of_scene().find(|sample| sample.variant == FILTER) else {
            continue;
        };
        for other in of_scene().filter(|sample| sample.variant != FILTER) {
            let pairs = filter.micros.iter().zip(other.micros);
            let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
            let row = format!("{name}/cpu-vs-{}", other.variant);
            let row = Row::median(&row, &ratios, "ratio");
            let aimed = other.variant == "lua";
            report.add(if aimed { row.aim("<=1.0") } else { row });
        }
    }
}

pub(crate) fn filter_size(report: &mut Report, filter: &Path) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    let size = std::fs::metadata(filter)?.len() as f64 / 1024.0;
    report.add(Row::new("filter/size", size, "KiB").aim("<=200"));
    Ok(())
}

/// The host calls that the filter's tests have counted, where their table is there.
pub(crate) fn host_calls(report: &mut Report, table: &Path) -> Result<()> {
    let Ok(table) = std::fs::read_to_string(table) else {
        return Ok(());
    };
    // After comments and the line of titles: the path, then the number of calls.
    for line in table.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let mut words = line.split_whitespace();
        let (Some(path), Some(calls)) = (words.next(), words.next()) else {
            continue;
        };
        let calls: f64 = calls
            .parse()
            .with_context(|| format!("no number of calls: {line}"))?;
        report.add(Row::new(&format!("{path}/host-calls"), calls, "calls"));
    }
    Ok(())
}
