//! The functions of the ABI, as Envoy serves them.

use wasmtime::{Caller, IntoFunc, Linker, Result, bail, ensure};

use crate::guest::{Guest, serve};
use crate::headers::{self, Headers};
use crate::proxy::MetricKind;
use crate::status::{HostFunction as F, Status};
use crate::stream::Answer;
use crate::vm::{Plugin, State};

type Call<'a> = Caller<'a, State>;

const BUFFER_VM_CONFIGURATION: u32 = 6;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;
const WASI_NOT_SUPPORTED: Status = Status(58);

/// Makes all functions known to the linker.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    link_headers(linker)?;
    link_stream(linker)?;
    link_shared(linker)?;
    link_plugin(linker)
}

/// `func_wrap` under the function's import name.
fn wrap<P, R>(
    linker: &mut Linker<State>,
    function: F,
    work: impl IntoFunc<State, P, R>,
) -> Result<()> {
    linker.func_wrap(function.module(), function.name(), work)?;
    Ok(())
}

fn link_headers(linker: &mut Linker<State>) -> Result<()> {
    wrap(
        linker,
        F::GetHeaderMapPairs,
        |c: Call<'_>, map: u32, pointer_to: u32, size_to: u32| {
            serve(c, F::GetHeaderMapPairs, |g| {
                g.give(pointer_to, size_to, |g| {
                    let headers = g.stream().and_then(|s| s.map(map)).map(Headers::encode);
                    Ok(Ok(headers.unwrap_or_default()))
                })
            })
        },
    )?;
    wrap(
        linker,
        F::GetHeaderMapValue,
        |c: Call<'_>, map: u32, key: u32, key_size: u32, pointer_to: u32, size_to: u32| {
            serve(c, F::GetHeaderMapValue, |g| {
                let key = g.bytes(key, key_size)?;
                g.give(pointer_to, size_to, |g| {
                    let Some(headers) = g.stream().and_then(|s| s.map(map)) else {
                        return Ok(Err(Status::BAD_ARGUMENT));
                    };
                    Ok(headers
                        .first(&key)
                        .map(<[u8]>::to_vec)
                        .ok_or(Status::NOT_FOUND))
                })
            })
        },
    )?;
    wrap(
        linker,
        F::ReplaceHeaderMapValue,
        |c: Call<'_>, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| {
            serve(c, F::ReplaceHeaderMapValue, |g| {
                let (key, value) = header(g, key, key_size, value, value_size)?;
                change(g, map, |headers| headers.replace(&key, &value))
            })
        },
    )?;
    wrap(
        linker,
        F::AddHeaderMapValue,
        |c: Call<'_>, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| {
            serve(c, F::AddHeaderMapValue, |g| {
                let (key, value) = header(g, key, key_size, value, value_size)?;
                change(g, map, |headers| headers.add(&key, &value))
            })
        },
    )?;
    wrap(
        linker,
        F::RemoveHeaderMapValue,
        |c: Call<'_>, map: u32, key: u32, key_size: u32| {
            serve(c, F::RemoveHeaderMapValue, |g| {
                let key = g.bytes(key, key_size)?;
                headers::check(&key, b"")?;
                change(g, map, |headers| headers.remove(&key))
            })
        },
    )?;
    Ok(())
}

fn header(
    g: &mut Guest<'_>,
    key: u32,
    key_size: u32,
    value: u32,
    value_size: u32,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let (key, value) = (g.bytes(key, key_size)?, g.bytes(value, value_size)?);
    headers::check(&key, &value)?;
    Ok((key, value))
}

fn change(g: &mut Guest<'_>, map: u32, work: impl FnOnce(&mut Headers)) -> Result<Status> {
    if g.is_skipped() {
        return Ok(Status::OK);
    }
    match g.stream().and_then(|s| s.map_mut(map)) {
        Some(headers) => {
            work(headers);
            Ok(Status::OK)
        }
        None => Ok(Status::BAD_ARGUMENT),
    }
}

fn link_stream(linker: &mut Linker<State>) -> Result<()> {
    wrap(
        linker,
        F::GetProperty,
        |c: Call<'_>, path: u32, path_size: u32, pointer_to: u32, size_to: u32| {
            serve(c, F::GetProperty, |g| {
                let path = g.bytes(path, path_size)?;
                let fault = g.state().proxy.faults().of_property(&path);
                g.set_fault(fault);
                g.give(pointer_to, size_to, |g| Ok(property(g, &path)))
            })
        },
    )?;
    wrap(
        linker,
        F::SetProperty,
        |c: Call<'_>, path: u32, path_size: u32, value: u32, value_size: u32| {
            serve(c, F::SetProperty, |g| {
                let (path, value) = (g.text(path, path_size)?, g.bytes(value, value_size)?);
                let skipped = g.is_skipped();
                match g.stream() {
                    Some(_) if skipped => Ok(Status::OK),
                    Some(stream) => {
                        stream.filter_state.insert(path, value);
                        Ok(Status::OK)
                    }
                    None => Ok(Status::NOT_FOUND),
                }
            })
        },
    )?;
    wrap(
        linker,
        F::SendLocalResponse,
        |c: Call<'_>,
         status: u32,
         details: u32,
         details_size: u32,
         body: u32,
         body_size: u32,
         pairs: u32,
         pairs_size: u32,
         grpc_status: i32| {
            serve(c, F::SendLocalResponse, |g| {
                let details = g.text(details, details_size)?;
                let body = g.bytes(body, body_size)?;
                let headers = Headers::decode(&g.bytes(pairs, pairs_size)?)?;
                if g.is_skipped() {
                    return Ok(Status::OK);
                }
                let Some(stream) = g.stream() else {
                    return Ok(Status::OK);
                };
                ensure!(
                    stream.local_reply.is_none(),
                    "the stream has been answered already"
                );
                stream.local_reply = Some(Answer {
                    status,
                    grpc_status,
                    details,
                    headers,
                    body,
                });
                Ok(Status::OK)
            })
        },
    )?;
    wrap(
        linker,
        F::CallForeignFunction,
        |c: Call<'_>,
         function: u32,
         function_size: u32,
         args: u32,
         args_size: u32,
         result_to: u32,
         result_size_to: u32| {
            serve(c, F::CallForeignFunction, |g| {
                let function = g.text(function, function_size)?;
                g.bytes(args, args_size)?;
                if function != "clear_route_cache" {
                    return Ok(Status::NOT_FOUND);
                }
                for pointer in [result_to, result_size_to] {
                    if pointer != 0 {
                        g.write(pointer, &[0; 4])?;
                    }
                }
                match g.stream() {
                    Some(stream) => {
                        stream.routes_chosen_anew += 1;
                        Ok(Status::OK)
                    }
                    None => Ok(Status::BAD_ARGUMENT),
                }
            })
        },
    )?;
    wrap(
        linker,
        F::SetEffectiveContext,
        |c: Call<'_>, context: u32| {
            serve(c, F::SetEffectiveContext, |g| {
                Ok(g.state().set_effective(context))
            })
        },
    )?;
    Ok(())
}

/// As Envoy resolves it: attributes and filter state of the stream, else those that hold everywhere.
fn property(g: &mut Guest<'_>, path: &[u8]) -> Result<Vec<u8>, Status> {
    if let Some(value) = g.stream().and_then(|s| s.property(path)) {
        return Ok(value);
    }
    let Ok(path) = std::str::from_utf8(path) else {
        return Err(Status::NOT_FOUND);
    };
    let parts: Vec<&str> = path.split('\0').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["xds", "node", rest @ ..] => g.state().proxy.node_property(rest),
        _ => Err(Status::NOT_FOUND),
    }
}

fn link_shared(linker: &mut Linker<State>) -> Result<()> {
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
                g.state().proxy.define_metric(kind, &name)?;
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
                Some(name) => g.state().proxy.increment_metric(&name, offset),
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
                Some(name) => Ok(g.state().proxy.record_metric(&name, value)),
                None => Ok(Status::NOT_FOUND),
            })
        },
    )?;
    Ok(())
}

fn link_plugin(linker: &mut Linker<State>) -> Result<()> {
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
