//! Time: the clocks stand still until a test lets it go by, and then the VMs tick when they are due.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::Result;

use crate::vm::{PluginId, Vm};

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

/// The clock goes forward from tick to tick, and all VMs tick when they are due.
///
/// # Errors
/// When a filter traps.
pub fn pass_time(clock: &Clock, vms: &mut [&mut Vm], time: Duration) -> Result<()> {
    let end = clock
        .monotonic()
        .saturating_add(u64::try_from(time.as_nanos())?);
    loop {
        let now = clock.monotonic();
        let due = vms
            .iter()
            .flat_map(|vm| vm.due())
            .filter(|due| *due <= end)
            .min();
        clock.advance(Duration::from_nanos(due.unwrap_or(end).saturating_sub(now)));
        if due.is_none() {
            return Ok(());
        }
        for vm in vms.iter_mut() {
            vm.tick_what_is_due()?;
        }
    }
}

impl Vm {
    fn due(&self) -> Vec<u64> {
        let plugins = self.state().plugins.values();
        plugins
            .filter(|p| p.tick_period_ms > 0)
            .map(|p| p.next_tick_ns)
            .collect()
    }

    fn tick_what_is_due(&mut self) -> Result<()> {
        let state = self.state_mut();
        let now = state.proxy.clock().monotonic();
        let mut due = Vec::new();
        for (id, plugin) in &mut state.plugins {
            if plugin.tick_period_ms > 0 && plugin.next_tick_ns <= now {
                plugin.next_tick_ns = now.saturating_add(plugin.period_ns());
                due.push(PluginId(*id));
            }
        }
        due.into_iter().try_for_each(|plugin| self.tick(plugin))
    }
}
