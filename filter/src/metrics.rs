//! Metrics: counted in the thread, handed to the host at ticks, so that a request pays for none.
//!
//! Labels stand in the name in the form that Istio's `extraStatTags` extracts
//! (`service=.=default/worker;.;`); without the extraction they stay readable inside the name. All
//! label values are closed sets: names of policies and clusters of the configuration, reasons and
//! verdicts.

use core::cell::Cell;

use crate::host::{self, Metric};

/// Builds a metric's name.
pub(crate) fn name(metric: &str, labels: &[(&str, &str)]) -> String {
    let mut name = String::from(metric);
    for (i, (label, value)) in labels.iter().enumerate() {
        if i == 0 {
            name.push('.');
        }
        name.push_str(label);
        name.push_str("=.=");
        name.push_str(value);
        name.push_str(";.;");
    }
    name
}

/// A counter. Most are never counted, so a name is made only for what is.
#[derive(Default)]
pub(crate) struct Counter {
    id: Cell<Option<u32>>,
    pending: Cell<u64>,
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.pending.set(self.pending.get().saturating_add(count));
    }

    /// Hands what was counted to the host. Where the host refuses, it is kept for the next time:
    /// false.
    pub(crate) fn flush(&self, name: impl FnOnce() -> String) -> bool {
        let pending = self.pending.get();
        if pending == 0 {
            return true;
        }
        let counted = define(&self.id, Metric::Counter, name)
            .is_some_and(|id| host::increment_metric(id, pending).is_ok());
        if counted {
            self.pending.set(0);
        }
        counted
    }
}

/// A gauge.
#[derive(Default)]
pub(crate) struct Gauge {
    id: Cell<Option<u32>>,
    told: Cell<Option<u64>>,
}

impl Gauge {
    /// Tells the host the value, if it is another than before.
    pub(crate) fn set(&self, value: u64, name: impl FnOnce() -> String) {
        if self.told.get() == Some(value) {
            return;
        }
        if let Some(id) = define(&self.id, Metric::Gauge, name)
            && host::record_metric(id, value).is_ok()
        {
            self.told.set(Some(value));
        }
    }
}

fn define(id: &Cell<Option<u32>>, kind: Metric, name: impl FnOnce() -> String) -> Option<u32> {
    if id.get().is_none() {
        id.set(host::define_metric(kind, &name()).ok());
    }
    id.get()
}
