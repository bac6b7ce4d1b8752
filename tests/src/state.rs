//! What the host functions of one VM see: its contexts, its metric ids, and on whose behalf the filter runs.

use std::collections::{BTreeMap, HashMap};

use wasmtime::{StoreLimits, StoreLimitsBuilder};

use crate::callbacks::Exports;
use crate::cost::Cost;
use crate::metrics::MetricKind;
use crate::proxy::Proxy;
use crate::status::Status;
use crate::stream::Stream;

/// More memory than any filter of ours may have.
const MEMORY_LIMIT: usize = 256 << 20;

/// A root context.
#[derive(Default)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) tick_period_ms: u32,
    pub(crate) next_tick_ns: u64,
}

impl Plugin {
    pub(crate) fn period_ns(&self) -> u64 {
        u64::from(self.tick_period_ms) * 1_000_000
    }
}

/// What the host functions see.
pub(crate) struct State {
    pub(crate) proxy: Proxy,
    pub(crate) exports: Option<Exports>,
    pub(crate) cost: Cost,
    /// The context on whose behalf the filter runs.
    pub(crate) effective: u32,
    pub(crate) plugins: BTreeMap<u32, Plugin>,
    /// The configuration, while `proxy_on_configure` runs.
    pub(crate) configuring: Option<Vec<u8>>,
    pub(crate) streams: HashMap<u32, Stream>,
    metrics: HashMap<u32, String>,
    pub(crate) limits: StoreLimits,
}

impl State {
    pub(crate) fn new(proxy: &Proxy) -> State {
        State {
            proxy: proxy.clone(),
            exports: None,
            cost: Cost::default(),
            effective: 0,
            plugins: BTreeMap::new(),
            configuring: None,
            streams: HashMap::new(),
            metrics: HashMap::new(),
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build(),
        }
    }

    pub(crate) fn effective_stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.effective)
    }

    /// The name of the plugin on whose behalf the filter runs.
    pub(crate) fn plugin_name(&self) -> Option<&str> {
        let root = match self.streams.get(&self.effective) {
            Some(stream) => stream.plugin,
            None => self.effective,
        };
        self.plugins.get(&root).map(|p| p.name.as_str())
    }

    pub(crate) fn set_effective(&mut self, context: u32) -> Status {
        if !self.plugins.contains_key(&context) && !self.streams.contains_key(&context) {
            return Status::BAD_ARGUMENT;
        }
        self.effective = context;
        Status::OK
    }

    /// A fresh id, whose last two bits are the kind, as Envoy makes them: the first counter's id is 0.
    pub(crate) fn metric_id(&mut self, kind: MetricKind, name: String) -> u32 {
        let kind = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 2,
        };
        let id = u32::try_from(self.metrics.len()).unwrap_or(u32::MAX) << 2 | kind;
        self.metrics.insert(id, name);
        id
    }

    pub(crate) fn metric_name(&self, id: u32) -> Option<String> {
        self.metrics.get(&id).cloned()
    }
}
