//! One Envoy process: what its worker threads share.
//!
//! Clones of a [`Proxy`] are the same process. Several VMs of one proxy stand for its worker threads: they
//! have their own memory and share the clock, the node, the shared data and the metrics, as in Envoy. The
//! caller's sidecar and the server's sidecar are two proxies.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::faults::Faults;
use crate::headers::encode_pairs;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::time::Clock;

/// A line of the proxy's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub level: u32,
    /// What the filter wrote.
    pub text: String,
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
    metrics: RefCell<Metrics>,
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
        self.0.metrics.borrow().0.get(name).map_or(0, |m| m.value)
    }

    /// All metrics and their values.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.0
            .metrics
            .borrow()
            .0
            .iter()
            .map(|(name, m)| (name.clone(), m.value))
            .collect()
    }

    /// The sum over all metrics whose names contain every one of these texts.
    #[must_use]
    pub fn metric_sum(&self, parts: &[&str]) -> u64 {
        let metrics = self.0.metrics.borrow();
        let named = metrics
            .0
            .iter()
            .filter(|(name, _)| parts.iter().all(|part| name.contains(part)));
        named.map(|(_, m)| m.value).sum()
    }

    pub(crate) fn metrics_mut(&self) -> RefMut<'_, Metrics> {
        self.0.metrics.borrow_mut()
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
