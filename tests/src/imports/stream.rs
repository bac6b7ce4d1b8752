//! Properties and filter state, answers instead of the upstream's, and whose call it is.

use wasmtime::{Linker, Result, ensure};

use super::{Call, wrap};
use crate::guest::{Guest, serve};
use crate::headers::Headers;
use crate::state::State;
use crate::status::{HostFunction as F, Status};
use crate::stream::Answer;

pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
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
        ["plugin_name" | "plugin_root_id"] => {
            let name = g.state().plugin_name().ok_or(Status::NOT_FOUND)?;
            Ok(name.as_bytes().to_vec())
        }
        ["xds", "node", rest @ ..] => g.state().proxy.node_property(rest),
        _ => Err(Status::NOT_FOUND),
    }
}
