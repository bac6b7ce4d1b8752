//! The built filter: where it is, and how it is compiled for this host.

use std::path::PathBuf;

use wasmtime::{Config, Engine, Module, OptLevel, Result, ensure, format_err};

use crate::status::HostFunction;

/// A compiled filter, from which any number of VMs can be started.
#[derive(Clone)]
pub struct Filter {
    pub(crate) module: Module,
    size: usize,
}

impl Filter {
    /// The file that is tested: `SPILLWAY_FILTER`, else what the release build leaves.
    #[must_use]
    pub fn path() -> PathBuf {
        let built = "../target/wasm32-unknown-unknown/release/spillway_filter.wasm";
        let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(built);
        std::env::var_os("SPILLWAY_FILTER").map_or_else(built, PathBuf::from)
    }

    /// Compiles the built filter.
    ///
    /// # Errors
    /// When it was not built, is no module, or imports what this host does not serve.
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
    /// When it is no module, or imports what this host does not serve.
    pub fn compile(module: &[u8]) -> Result<Filter> {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .cranelift_opt_level(OptLevel::Speed);
        let filter = Filter {
            module: Module::new(&Engine::new(&config)?, module)?,
            size: module.len(),
        };
        let imports = filter.imports();
        let unserved: Vec<String> = imports
            .iter()
            .filter(|(module, name)| HostFunction::of_import(module, name).is_none())
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        ensure!(
            unserved.is_empty(),
            "the filter imports what no filter of ours needs: {}",
            unserved.join(", ")
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
}
