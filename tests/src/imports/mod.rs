//! The functions of the ABI, as Envoy serves them.

mod headers;
mod plugin;
mod shared;
mod stream;

use wasmtime::{Caller, IntoFunc, Linker, Result};

use crate::state::State;
use crate::status::HostFunction;

type Call<'a> = Caller<'a, State>;

/// Makes all functions known to the linker.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    headers::link(linker)?;
    stream::link(linker)?;
    shared::link(linker)?;
    plugin::link(linker)
}

/// `func_wrap` under the function's import name.
fn wrap<P, R>(
    linker: &mut Linker<State>,
    function: HostFunction,
    work: impl IntoFunc<State, P, R>,
) -> Result<()> {
    linker.func_wrap(function.module(), function.name(), work)?;
    Ok(())
}
