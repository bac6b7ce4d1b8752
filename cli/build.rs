//! Puts the filter into the command, where SPILLWAY_EMBEDDED_FILTER names its module: `make cli`
//! does. What is built for tests has none, so that it is not built anew with every filter.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    const NAME: &str = "SPILLWAY_EMBEDDED_FILTER";
    println!("cargo::rerun-if-env-changed={NAME}");
    let module = match env::var_os(NAME) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            fs::read(path)?
        }
        None => Vec::new(),
    };
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    fs::write(Path::new(&out).join("filter.wasm"), module)
}
