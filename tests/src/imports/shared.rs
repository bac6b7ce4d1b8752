//! What all VMs of a process share: data with compare-and-swap, and metrics.

use wasmtime::{Linker, Result, bail};

use super::{Call, wrap};
use crate::guest::serve;
use crate::metrics::MetricKind;
use crate::state::State;
use crate::status::{HostFunction as F, Status};

pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
    wrap(
        linker,
        F::GetSharedData,
        |c: Call<'_>, key: u32, key_size: u32, pointer_to: u32, size_to: u32, cas_to: u32| {
            serve(c, F::GetSharedData, |g| {
                let key = g.bytes(key, key_size)?;
                g.give(pointer_to, size_to, |g| {
                    match g.state().proxy.read_shared(&key) {
                        Ok((value, cas)) => {
                            g.write(cas_to, &cas.to_le_bytes())?;
                            Ok(Ok(value))
                        }
                        Err(status) => Ok(Err(status)),
                    }
                })
            })
        },
    )?;
    wrap(
        linker,
        F::SetSharedData,
        |c: Call<'_>, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| {
            serve(c, F::SetSharedData, |g| {
                let (key, value) = (g.bytes(key, key_size)?, g.bytes(value, value_size)?);
                if g.is_skipped() {
                    return Ok(Status::OK);
                }
                Ok(g.state().proxy.write_shared(&key, &value, cas))
            })
        },
    )?;
    wrap(
        linker,
        F::DefineMetric,
        |c: Call<'_>, kind: u32, name: u32, name_size: u32, id_to: u32| {
            serve(c, F::DefineMetric, |g| {
                let name = g.text(name, name_size)?;
                let kind = match kind {
                    0 => MetricKind::Counter,
                    1 => MetricKind::Gauge,
                    2 => MetricKind::Histogram,
                    other => bail!("there is no metric type {other}"),
                };
                if g.is_skipped() {
                    return Ok(Status::OK);
                }
                g.state().proxy.metrics_mut().define(kind, &name)?;
                let id = g.state().metric_id(kind, name);
                g.write(id_to, &id.to_le_bytes())?;
                Ok(Status::OK)
            })
        },
    )?;
    wrap(
        linker,
        F::IncrementMetric,
        |c: Call<'_>, id: u32, offset: i64| {
            serve(c, F::IncrementMetric, |g| match g.state().metric_name(id) {
                Some(_) if g.is_skipped() => Ok(Status::OK),
                Some(name) => g.state().proxy.metrics_mut().increment(&name, offset),
                None => Ok(Status::NOT_FOUND),
            })
        },
    )?;
    wrap(
        linker,
        F::RecordMetric,
        |c: Call<'_>, id: u32, value: u64| {
            serve(c, F::RecordMetric, |g| match g.state().metric_name(id) {
                Some(_) if g.is_skipped() => Ok(Status::OK),
                Some(name) => Ok(g.state().proxy.metrics_mut().record(&name, value)),
                None => Ok(Status::NOT_FOUND),
            })
        },
    )?;
    Ok(())
}
