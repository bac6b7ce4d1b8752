//! Log, configuration, ticks and clocks.

use wasmtime::{Linker, Result, bail, ensure};

use super::{Call, wrap};
use crate::guest::serve;
use crate::state::{Plugin, State};
use crate::status::{HostFunction as F, Status};

const BUFFER_VM_CONFIGURATION: u32 = 6;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;
const WASI_NOT_SUPPORTED: Status = Status(58);

pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
    wrap(
        linker,
        F::Log,
        |c: Call<'_>, level: u32, text: u32, size: u32| {
            serve(c, F::Log, |g| {
                ensure!(level <= 5, "there is no log level {level}");
                let text = g.text(text, size)?;
                g.state().proxy.log(level, text);
                Ok(Status::OK)
            })
        },
    )?;
    wrap(
        linker,
        F::GetBufferBytes,
        |c: Call<'_>, buffer: u32, start: u32, length: u32, pointer_to: u32, size_to: u32| {
            serve(c, F::GetBufferBytes, |g| {
                let configuration = match buffer {
                    BUFFER_VM_CONFIGURATION => Some(Vec::new()),
                    BUFFER_PLUGIN_CONFIGURATION => g.state().configuring.clone(),
                    _ => None,
                };
                g.give(pointer_to, size_to, |_| {
                    let Some(configuration) = configuration else {
                        return Ok(Err(Status::NOT_FOUND));
                    };
                    let wanted = configuration
                        .iter()
                        .skip(start as usize)
                        .take(length as usize);
                    Ok(Ok(wanted.copied().collect()))
                })
            })
        },
    )?;
    wrap(
        linker,
        F::SetTickPeriod,
        |c: Call<'_>, milliseconds: u32| {
            serve(c, F::SetTickPeriod, |g| {
                if g.is_skipped() {
                    return Ok(Status::OK);
                }
                let state = g.state();
                let context = state.effective;
                match state.plugins.get_mut(&context) {
                    Some(Plugin { tick_period_ms, .. }) => *tick_period_ms = milliseconds,
                    None => bail!("only a root context has ticks"),
                }
                Ok(Status::OK)
            })
        },
    )?;
    wrap(linker, F::GetCurrentTime, |c: Call<'_>, time_to: u32| {
        serve(c, F::GetCurrentTime, |g| {
            let now = g.state().proxy.clock().wall();
            g.write(time_to, &now.to_le_bytes())?;
            Ok(Status::OK)
        })
    })?;
    wrap(
        linker,
        F::ClockTimeGet,
        |c: Call<'_>, clock: u32, _precision: u64, time_to: u32| {
            serve(c, F::ClockTimeGet, |g| {
                let clocks = g.state().proxy.clock().clone();
                let now = match clock {
                    0 => clocks.wall(),
                    1 => clocks.monotonic(),
                    _ => return Ok(WASI_NOT_SUPPORTED),
                };
                g.write(time_to, &now.to_le_bytes())?;
                Ok(Status::OK)
            })
        },
    )?;
    Ok(())
}
