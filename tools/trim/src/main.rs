//! Takes out of the built filter what Envoy need not call.
//!
//! The `proxy-wasm` crate exports every callback of the ABI, and Envoy calls each that it finds:
//! for every piece of a body, for trailers, at the end of the stream and again for its log. Each
//! is a crossing into the VM for nothing. Linkers keep what is exported, so this takes the exports
//! that the filter has no use for off the linked module, and with them all code and host functions
//! that only they reach.
//!
//! usage: spillway-trim IN.wasm OUT.wasm

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use walrus::Module;

/// What Envoy has to find.
const KEPT: [&str; 10] = [
    "memory",
    "malloc",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_delete",
];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: spillway-trim IN.wasm OUT.wasm");
    };
    let mut module = Module::from_file(&from).with_context(|| from.display().to_string())?;
    for name in KEPT {
        let exported = module.exports.iter().any(|export| export.name == name);
        ensure!(exported, "{} exports no {name}", from.display());
    }
    let others: Vec<_> = module
        .exports
        .iter()
        .filter(|export| !KEPT.contains(&export.name.as_str()))
        .map(walrus::Export::id)
        .collect();
    for id in others {
        module.exports.delete(id);
    }
    walrus::passes::gc::run(&mut module);
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Written beside and renamed: whoever reads it meanwhile reads one or the other.
    let part = to.with_extension("part");
    module.emit_wasm_file(&part)?;
    std::fs::rename(&part, &to).with_context(|| to.display().to_string())
}
