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

/// A counter.
pub(crate) struct Counter {
    name: String,
    id: Cell<Option<u32>>,
    pending: Cell<u64>,
}

impl Counter {
    pub(crate) const fn new(name: String) -> Self {
        Self {
            name,
            id: Cell::new(None),
            pending: Cell::new(0),
        }
    }

    pub(crate) fn add(&self, count: u64) {
        self.pending.set(self.pending.get().saturating_add(count));
    }

    /// Hands what was counted to the host. Where the host refuses, it is kept for the next time.
    pub(crate) fn flush(&self) {
        let pending = self.pending.get();
        if pending == 0 {
            return;
        }
        if let Some(id) = define(&self.id, Metric::Counter, &self.name)
            && host::increment_metric(id, pending).is_ok()
        {
            self.pending.set(0);
        }
    }
}

/// A gauge.
pub(crate) struct Gauge {
    name: String,
    id: Cell<Option<u32>>,
    told: Cell<Option<u64>>,
}

impl Gauge {
    pub(crate) const fn new(name: String) -> Self {
        Self {
            name,
            id: Cell::new(None),
            told: Cell::new(None),
        }
    }

    /// Tells the host the value, if it is another than before.
    pub(crate) fn set(&self, value: u64) {
        if self.told.get() == Some(value) {
            return;
        }
        if let Some(id) = define(&self.id, Metric::Gauge, &self.name)
            && host::record_metric(id, value).is_ok()
        {
            self.told.set(Some(value));
        }
    }
}

/// The counters of a policy that is no longer in force end with the last of its requests.
impl Drop for Counter {
    fn drop(&mut self) {
        self.flush();
    }
}

fn define(id: &Cell<Option<u32>>, kind: Metric, name: &str) -> Option<u32> {
    if id.get().is_none() {
        id.set(host::define_metric(kind, name).ok());
    }
    id.get()
}
