//! Time: the clocks stand still until a test lets it go by, and then the VMs tick when they are due.

use std::time::Duration;

use wasmtime::Result;

use crate::proxy::Clock;
use crate::vm::{PluginId, Vm};

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
