//! What outlives a request: configurations and the state of their policies.
//!
//! A change of the configuration gives a new root context in the same VM, and some Envoys make one
//! for each listener's direction. So state belongs to the plugin's *slot*, found by the plugin's
//! name, and every root context of that plugin works on the same slot: rates and switches go on,
//! and a configuration that cannot be read leaves the last good one in force.

use core::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use spillway_core::config::{Config, Side};
use spillway_core::record::{Reader, Record, Writer};
use spillway_core::table::Table;

use crate::caller::{CallerPolicy, CallerStream};
use crate::host::{self, path};
use crate::metrics::{Counter, Gauge, name};
use crate::server::{self, ServerPolicy, ServerStream};
use crate::shared::Key;

/// Period of the ticks, ms: sums, metrics and the clock of the caller's side.
const TICK: u32 = 100;

thread_local! {
    static SLOTS: RefCell<Table<Rc<Slot>>> = RefCell::default();
}

/// A configuration in force, with the state of its policies.
pub(crate) struct Active {
    /// Its policies have been moved to one of the two lists that follow.
    pub(crate) config: Config,
    pub(crate) callers: Vec<Rc<CallerPolicy>>,
    /// Those that this sidecar's workload serves, with their places in the configuration: few,
    /// where a namespace has many.
    pub(crate) servers: Vec<(usize, Rc<ServerPolicy>)>,
    /// The destination of the last request, and its policy: most callers have few.
    pub(crate) last: RefCell<(Box<[u8]>, Option<usize>)>,
    generation: Gauge,
}

/// A plugin's state in this VM.
#[derive(Default)]
pub(crate) struct Slot {
    active: RefCell<Option<Rc<Active>>>,
    /// The monotonic clock at the last tick, ns.
    pub(crate) now: Cell<u64>,
    /// For header values: grown once.
    pub(crate) buffer: RefCell<Vec<u8>>,
    /// The plugin's name, once it is configured.
    plugin: OnceCell<String>,
    errors: Counter,
}

impl Slot {
    /// The clock, read anew; where the host refuses, as it was.
    pub(crate) fn read_clock(&self) -> u64 {
        if let Ok(now) = host::monotonic_now() {
            self.now.set(now.max(self.now.get()));
        }
        self.now.get()
    }

    #[inline(never)]
    fn configure(&self, document: &[u8], plugin: &str) {
        self.plugin.get_or_init(|| plugin.to_owned());
        let own = host::property(path::OWN_CLUSTER)
            .ok()
            .flatten()
            .unwrap_or_default();
        let own = String::from_utf8_lossy(&own).into_owned();
        let now = self.read_clock();
        match Config::parse(document, &own) {
            Ok(config) => {
                if config.passed_over.is_empty() {
                    log_again(plugin);
                } else {
                    let ids = config.passed_over.join(", ");
                    log_once(
                        plugin,
                        document,
                        &format!(
                            "spillway: cluster \"{own}\" is not in the configuration's table, so policies without a home are passed over: {ids}"
                        ),
                    );
                }
                let old = self.active.take();
                self.active
                    .replace(Some(Rc::new(Active::new(config, old.as_deref(), now))));
            }
            Err(errors) => {
                self.errors.add(1);
                // Not every VM that says it knows which: Envoy tries each configuration in one that
                // never had another.
                log_once(
                    plugin,
                    document,
                    &format!(
                        "spillway: configuration refused; the last good one stays in force, without one traffic passes untouched: {errors}"
                    ),
                );
            }
        }
    }

    fn tick(&self) {
        let now = self.read_clock();
        let plugin = self.plugin.get().map_or("", String::as_str);
        self.errors
            .flush(|| name("spillway_config_errors", &[("plugin", plugin)]));
        let Some(active) = self.active.borrow().clone() else {
            return;
        };
        let side = match active.config.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        active.generation.set(active.config.generation, || {
            name("spillway_config_generation", &[("side", side)])
        });
        let wall = if active.callers.iter().any(|c| c.policy.force.is_some()) {
            host::wall_now().ok()
        } else {
            None
        };
        for caller in &active.callers {
            caller.tick(now, wall);
        }
        for (_, server) in &active.servers {
            server.tick(now);
        }
    }
}

impl Active {
    #[inline(never)]
    fn new(mut config: Config, old: Option<&Self>, now: u64) -> Self {
        let (mut callers, mut servers) = (Vec::new(), Vec::new());
        for (at, policy) in core::mem::take(&mut config.policies)
            .into_iter()
            .enumerate()
        {
            let old = old.and_then(|old| Some((old, old.config.policy_for_id(&policy.id)?)));
            match config.side {
                Side::Client => {
                    let old = old.and_then(|(old, at)| old.callers.get(at));
                    let old = old.map(|old| &**old);
                    callers.push(Rc::new(CallerPolicy::new(policy, old, now)));
                }
                Side::Server if server::is_served_here(&policy) => {
                    let old = old.and_then(|(old, at)| old.server(at));
                    let old = old.map(|old| &**old);
                    servers.push((at, Rc::new(ServerPolicy::new(policy, &config.own, old))));
                }
                Side::Server => {}
            }
        }
        Self {
            config,
            callers,
            servers,
            last: RefCell::default(),
            generation: Gauge::default(),
        }
    }

    /// The policy at this place of the configuration, if this sidecar's workload serves it.
    pub(crate) fn server(&self, at: usize) -> Option<&Rc<ServerPolicy>> {
        let found = self.servers.binary_search_by_key(&at, |(place, _)| *place);
        self.servers.get(found.ok()?).map(|(_, server)| server)
    }
}

/// A root context: Envoy's handle on the plugin.
#[derive(Default)]
pub(crate) struct Root {
    slot: Rc<Slot>,
}

impl Context for Root {}

impl RootContext for Root {
    /// Never answers false: Envoy would keep a plugin that failed, and its cached base VM with it.
    fn on_configure(&mut self, size: usize) -> bool {
        let plugin = [path::PLUGIN_ROOT_ID, path::PLUGIN_NAME].map(|part| {
            let text = host::property(part).ok().flatten().unwrap_or_default();
            let mut text = String::from_utf8_lossy(&text).into_owned();
            text.retain(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            text.truncate(64);
            text
        });
        let plugin = plugin.join(" ");
        let slot = SLOTS.with_borrow_mut(|slots| slots.entry(&plugin).cloned());
        self.slot = slot.unwrap_or_default();
        let document = host::plugin_configuration(size)
            .ok()
            .flatten()
            .unwrap_or_default();
        self.slot.configure(&document, &plugin);
        if host::set_tick_period(TICK).is_err() {
            host::warn("spillway: the host gives no ticks, so loads and metrics stand still");
        }
        true
    }

    fn on_tick(&mut self) {
        self.slot.tick();
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(&self.slot)))
    }
}

/// A request and its answer.
///
/// One type for both sides: each type behind the crate's traits keeps some sixty default methods in
/// the module.
enum Stream {
    /// Before there is a configuration.
    Untouched,
    Caller(CallerStream),
    Server(ServerStream),
}

impl Stream {
    fn new(slot: &Rc<Slot>) -> Self {
        let Some(active) = slot.active.borrow().clone() else {
            return Self::Untouched;
        };
        match active.config.side {
            Side::Client => Self::Caller(CallerStream::new(Rc::clone(slot), active)),
            Side::Server => Self::Server(ServerStream::new(Rc::clone(slot), active)),
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match self {
            Self::Untouched => Action::Continue,
            Self::Caller(stream) => {
                stream.on_request_headers(end_of_stream);
                Action::Continue
            }
            Self::Server(stream) => stream.on_request_headers(),
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        match self {
            Self::Untouched => {}
            Self::Caller(stream) => stream.on_response_headers(),
            Self::Server(stream) => stream.on_response_headers(),
        }
        Action::Continue
    }
}

/// The document that was last complained about, so that the VMs of an Envoy say it once.
#[derive(Default)]
struct Complaint(u64);

impl Record for Complaint {
    const KIND: u8 = b'e';
    const SIZE: usize = 2 + 8;

    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u64().map(Self)
    }
}

fn complaint(plugin: &str, hash: u64) -> bool {
    let key = Key::new::<Complaint>(&[plugin]);
    let _ = key.create::<Complaint>(); // Without it every VM says it, which is no harm.
    key.update(|last: Complaint| ((last.0 != hash).then_some(Complaint(hash)), last.0 != hash))
        .0
}

/// FNV-1a: tells documents and proxies apart, no more.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[inline(never)]
fn log_once(plugin: &str, document: &[u8], line: &str) {
    if complaint(plugin, hash(document)) {
        host::warn(line);
    }
}

/// All is well: the next complaint is news, whatever it is.
fn log_again(plugin: &str) {
    complaint(plugin, 0);
}
