//! Header maps of a stream.

use wasmtime::{Linker, Result};

use super::{Call, wrap};
use crate::guest::{Guest, serve};
use crate::headers::{self, Headers};
use crate::state::State;
use crate::status::{HostFunction as F, Status};

pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
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
