//! The counters, gauges and histograms of a proxy, shared by name.

use std::collections::BTreeMap;

use wasmtime::{Result, bail};

use crate::status::Status;

/// What a metric counts, by the ABI's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    kind: MetricKind,
    pub(crate) value: u64,
}

/// All metrics of a proxy.
#[derive(Default)]
pub(crate) struct Metrics(pub(crate) BTreeMap<String, Metric>);

impl Metrics {
    pub(crate) fn define(&mut self, kind: MetricKind, name: &str) -> Result<()> {
        let metric = self
            .0
            .entry(name.to_owned())
            .or_insert(Metric { kind, value: 0 });
        if metric.kind != kind {
            bail!(
                "the metric {name} is a {:?}, and now a {kind:?}",
                metric.kind
            );
        }
        Ok(())
    }

    pub(crate) fn increment(&mut self, name: &str, offset: i64) -> Result<Status> {
        let Some(metric) = self.0.get_mut(name) else {
            return Ok(Status::NOT_FOUND);
        };
        match metric.kind {
            MetricKind::Counter if offset <= 0 => return Ok(Status::BAD_ARGUMENT),
            MetricKind::Histogram => return Ok(Status::BAD_ARGUMENT),
            MetricKind::Counter | MetricKind::Gauge => {}
        }
        match metric.value.checked_add_signed(offset) {
            Some(value) => metric.value = value,
            None => bail!(
                "the metric {name} stands at {} and cannot change by {offset}",
                metric.value
            ),
        }
        Ok(Status::OK)
    }

    pub(crate) fn record(&mut self, name: &str, value: u64) -> Status {
        let Some(metric) = self.0.get_mut(name) else {
            return Status::NOT_FOUND;
        };
        match metric.kind {
            MetricKind::Gauge => metric.value = value,
            MetricKind::Counter | MetricKind::Histogram => {
                metric.value = metric.value.saturating_add(value);
            }
        }
        Status::OK
    }
}
