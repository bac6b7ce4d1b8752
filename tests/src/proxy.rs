//! One Envoy process: what its worker threads share.
//!
//! Clones of a [`Proxy`] are the same process. Several VMs of one proxy stand for its worker threads: they
//! have their own memory and share the clock, the node, the shared data and the metrics, as in Envoy. The
//! caller's sidecar and the server's sidecar are two proxies.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use wasmtime::{Result, bail};

use crate::faults::Faults;
use crate::headers::encode_pairs;
use crate::status::Status;

/// The clocks of a proxy, which stand still until a test moves them. Clones are the same clock, so that
/// several proxies can live in one time.
#[derive(Clone)]
pub struct Clock {
    monotonic_ns: Rc<Cell<u64>>,
    wall_ns: Rc<Cell<u64>>,
}

impl Default for Clock {
    /// A day after the machine's start, in November 2026.
    fn default() -> Clock {
        Clock {
            monotonic_ns: Rc::new(Cell::new(86_400_000_000_000)),
            wall_ns: Rc::new(Cell::new(1_795_000_000_000_000_000)),
        }
    }
}

impl Clock {
    /// Both clocks go forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_ns
            .set(self.monotonic_ns.get().saturating_add(by));
        self.wall_ns.set(self.wall_ns.get().saturating_add(by));
    }

    /// Sets the monotonic clock, also backwards, which no real one does.
    pub fn set_monotonic(&self, ns: u64) {
        self.monotonic_ns.set(ns);
    }

    /// Sets the wall clock, as an administrator or a time service may.
    pub fn set_wall(&self, ns: u64) {
        self.wall_ns.set(ns);
    }

    /// Nanoseconds since some start.
    #[must_use]
    pub fn monotonic(&self) -> u64 {
        self.monotonic_ns.get()
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn wall(&self) -> u64 {
        self.wall_ns.get()
    }
}

/// A line of the proxy's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub level: u32,
    /// What the filter wrote.
    pub text: String,
}

/// What a metric counts, by the ABI's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Copy, Debug)]
struct Metric {
    kind: MetricKind,
    value: u64,
    records: u64,
}

#[derive(Default)]
struct SharedData {
    entries: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
}

struct Process {
    clock: Clock,
    faults: Faults,
    node: RefCell<Value>,
    shared: RefCell<SharedData>,
    metrics: RefCell<BTreeMap<String, Metric>>,
    logs: RefCell<Vec<LogLine>>,
}

/// One Envoy process.
#[derive(Clone)]
pub struct Proxy(Rc<Process>);

impl Proxy {
    /// A sidecar in this cluster, whose workload has these labels.
    #[must_use]
    pub fn new(clock: &Clock, cluster: &str, labels: &[(&str, &str)]) -> Proxy {
        let labels: serde_json::Map<String, Value> = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), json!(v)))
            .collect();
        let app = labels
            .get("app")
            .and_then(Value::as_str)
            .unwrap_or("none")
            .to_owned();
        Proxy(Rc::new(Process {
            clock: clock.clone(),
            faults: Faults::default(),
            node: RefCell::new(json!({
                "id": format!("sidecar~10.0.0.7~{app}-7d4b9c.default~default.svc.cluster.local"),
                "cluster": format!("{app}.default"),
                "locality": {"region": "region-1", "zone": "zone-a"},
                "metadata": {
                    "CLUSTER_ID": cluster,
                    "MESH_ID": "cluster.local",
                    "NAMESPACE": "default",
                    "WORKLOAD_NAME": app,
                    "LABELS": labels,
                },
            })),
            shared: RefCell::default(),
            metrics: RefCell::default(),
            logs: RefCell::default(),
        }))
    }

    /// The clock that this proxy lives by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What goes wrong in this proxy.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Replaces `xds.node`: for proxies that Istio did not set up.
    pub fn set_node(&self, node: Value) {
        *self.0.node.borrow_mut() = node;
    }

    /// What was logged since the last time that this was asked.
    pub fn take_logs(&self) -> Vec<LogLine> {
        std::mem::take(&mut self.0.logs.borrow_mut())
    }

    pub(crate) fn log(&self, level: u32, text: String) {
        self.0.logs.borrow_mut().push(LogLine { level, text });
    }

    pub(crate) fn last_logs(&self, count: usize) -> Vec<LogLine> {
        let logs = self.0.logs.borrow();
        logs.iter()
            .skip(logs.len().saturating_sub(count))
            .cloned()
            .collect()
    }

    // Node properties

    pub(crate) fn node_property(&self, path: &[&str]) -> Result<Vec<u8>, Status> {
        let node = self.0.node.borrow();
        let mut at = &*node;
        for part in path {
            at = at.get(part).ok_or(Status::NOT_FOUND)?;
        }
        property_bytes(at)
    }

    // Shared data

    /// The bytes of an entry.
    #[must_use]
    pub fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.0
            .shared
            .borrow()
            .entries
            .get(key.as_bytes())
            .map(|(value, _)| value.clone())
    }

    /// Overwrites an entry: what another plugin, or an older version of this one, has left there.
    pub fn set_shared(&self, key: &str, value: &[u8]) {
        let _ = self.write_shared(key.as_bytes(), value, 0);
    }

    /// The keys of all entries.
    #[must_use]
    pub fn shared_keys(&self) -> Vec<String> {
        let shared = self.0.shared.borrow();
        shared
            .entries
            .keys()
            .map(|k| String::from_utf8_lossy(k).into_owned())
            .collect()
    }

    pub(crate) fn read_shared(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.0
            .shared
            .borrow()
            .entries
            .get(key)
            .cloned()
            .ok_or(Status::NOT_FOUND)
    }

    /// As in Envoy: 0 overwrites, another number must be the entry's, a new entry is created whatever it is.
    pub(crate) fn write_shared(&self, key: &[u8], value: &[u8], cas: u32) -> Status {
        let mut shared = self.0.shared.borrow_mut();
        let next = shared.last_cas.wrapping_add(1).max(1);
        let lost = cas != 0 && self.0.faults.cas_is_lost();
        if let Some((_, current)) = shared.entries.get_mut(key) {
            if lost {
                *current = next;
                shared.last_cas = next;
                return Status::CAS_MISMATCH;
            }
            if cas != 0 && cas != *current {
                return Status::CAS_MISMATCH;
            }
        }
        shared.entries.insert(key.to_vec(), (value.to_vec(), next));
        shared.last_cas = next;
        Status::OK
    }

    // Metrics

    /// The value of a counter or gauge, or the sum of a histogram; 0 when there is none of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        self.0.metrics.borrow().get(name).map_or(0, |m| m.value)
    }

    /// How often a histogram was fed.
    #[must_use]
    pub fn metric_records(&self, name: &str) -> u64 {
        self.0.metrics.borrow().get(name).map_or(0, |m| m.records)
    }

    /// All metrics and their values.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.0
            .metrics
            .borrow()
            .iter()
            .map(|(name, m)| (name.clone(), m.value))
            .collect()
    }

    /// The sum over all metrics whose names contain every one of these texts.
    #[must_use]
    pub fn metric_sum(&self, parts: &[&str]) -> u64 {
        let metrics = self.0.metrics.borrow();
        let named = metrics
            .iter()
            .filter(|(name, _)| parts.iter().all(|part| name.contains(part)));
        named.map(|(_, m)| m.value).sum()
    }

    pub(crate) fn define_metric(&self, kind: MetricKind, name: &str) -> Result<()> {
        let mut metrics = self.0.metrics.borrow_mut();
        let metric = metrics.entry(name.to_owned()).or_insert(Metric {
            kind,
            value: 0,
            records: 0,
        });
        if metric.kind != kind {
            bail!(
                "the metric {name} is a {:?}, and now a {kind:?}",
                metric.kind
            );
        }
        Ok(())
    }

    pub(crate) fn increment_metric(&self, name: &str, offset: i64) -> Result<Status> {
        let mut metrics = self.0.metrics.borrow_mut();
        let Some(metric) = metrics.get_mut(name) else {
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

    pub(crate) fn record_metric(&self, name: &str, value: u64) -> Status {
        let mut metrics = self.0.metrics.borrow_mut();
        let Some(metric) = metrics.get_mut(name) else {
            return Status::NOT_FOUND;
        };
        match metric.kind {
            MetricKind::Gauge => metric.value = value,
            MetricKind::Counter | MetricKind::Histogram => {
                metric.value = metric.value.saturating_add(value);
            }
        }
        metric.records += 1;
        Status::OK
    }
}

/// A value of the node's metadata as Envoy hands it out: text as it is, numbers as 8 bytes of a double, maps
/// and lists as header pairs are written, and nothing at all for null.
fn property_bytes(value: &Value) -> Result<Vec<u8>, Status> {
    match value {
        Value::Null => Err(Status::SERIALIZATION_FAILURE),
        Value::Bool(b) => Ok(vec![u8::from(*b)]),
        Value::Number(n) => Ok(n.as_f64().unwrap_or(0.0).to_le_bytes().to_vec()),
        Value::String(s) => Ok(s.clone().into_bytes()),
        Value::Array(items) => {
            let pairs: Result<Vec<_>, Status> = items
                .iter()
                .map(|item| Ok((property_bytes(item)?, Vec::new())))
                .collect();
            Ok(encode_pairs(&pairs?))
        }
        Value::Object(fields) => {
            let pairs: Result<Vec<_>, Status> = fields
                .iter()
                .map(|(n, f)| Ok((n.clone().into_bytes(), property_bytes(f)?)))
                .collect();
            Ok(encode_pairs(&pairs?))
        }
    }
}
