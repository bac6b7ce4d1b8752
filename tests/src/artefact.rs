//! The built filter: where it is, and how it is compiled for this host.

use std::path::PathBuf;

use wasmtime::{Config, Engine, Module, OptLevel, Result, ensure, format_err};

use crate::status::HostFunction;

/// Functions of the ABI that no filter of ours calls. A module may import them (the dispatcher of the
/// `proxy-wasm` crate does), and a call ends in a trap.
const UNSERVED: [&str; 19] = [
    "proxy_close_stream",
    "proxy_continue_stream",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_buffer_status",
    "proxy_get_log_level",
    "proxy_get_metric",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
    "proxy_set_buffer_bytes",
    "proxy_set_header_map_pairs",
];

fn is_served(module: &str, name: &str) -> bool {
    HostFunction::ALL
        .iter()
        .any(|f| f.module() == module && f.name() == name)
}

fn is_of_the_abi(module: &str, name: &str) -> bool {
    module == "env" && UNSERVED.contains(&name)
}

/// A compiled filter, from which any number of VMs can be started.
#[derive(Clone)]
pub struct Filter {
    pub(crate) module: Module,
    size: usize,
}

impl Filter {
    /// The file that is tested: `SPILLWAY_FILTER`, else what `make wasm` leaves.
    #[must_use]
    pub fn path() -> PathBuf {
        let built = "../target/spillway-filter.wasm";
        let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(built);
        std::env::var_os("SPILLWAY_FILTER").map_or_else(built, PathBuf::from)
    }

    /// Compiles the built filter.
    ///
    /// # Errors
    /// When it was not built, is no module, or imports what is not of the ABI.
    pub fn load() -> Result<Filter> {
        let path = Filter::path();
        let bytes = std::fs::read(&path).map_err(|e| {
            format_err!(
                "no filter at {} ({e}): build it with `make wasm`",
                path.display()
            )
        })?;
        Filter::compile(&bytes)
    }

    /// Compiles a module, from its binary or its text form.
    ///
    /// # Errors
    /// When it is no module, or imports what is not of the ABI.
    pub fn compile(module: &[u8]) -> Result<Filter> {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .cranelift_opt_level(OptLevel::Speed);
        let filter = Filter {
            module: Module::new(&Engine::new(&config)?, module)?,
            size: module.len(),
        };
        let unknown: Vec<String> = filter
            .imports()
            .iter()
            .filter(|(module, name)| !is_served(module, name) && !is_of_the_abi(module, name))
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        ensure!(
            unknown.is_empty(),
            "not of the ABI 0.2.1: {}",
            unknown.join(", ")
        );
        Ok(filter)
    }

    /// Module and name of all that it imports, in order of the names.
    #[must_use]
    pub fn imports(&self) -> Vec<(String, String)> {
        let mut imports: Vec<_> = self
            .module
            .imports()
            .map(|i| (i.module().to_owned(), i.name().to_owned()))
            .collect();
        imports.sort();
        imports
    }

    /// Bytes of the module.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes of the largest function, compiled for this host.
    #[must_use]
    pub fn largest_function(&self) -> usize {
        let sizes = self.module.functions().map(|function| function.len);
        sizes.max().unwrap_or_default()
    }
}
