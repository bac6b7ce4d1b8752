//! Where the binaries under test are found.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The version of Envoy that is used where none is named: `$SPILLWAY_ENVOY`, so that the same tests
/// run on every version, else 1.40.0.
#[must_use]
pub fn default_envoy() -> String {
    std::env::var("SPILLWAY_ENVOY").unwrap_or_else(|_| "1.40.0".to_owned())
}

/// The cache folder: `$SPILLWAY_CACHE`, else `$XDG_CACHE_HOME/spillway`, else `~/.cache/spillway`.
///
/// # Errors
/// When none of these variables is set.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SPILLWAY_CACHE") {
        return Ok(folder.into());
    }
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&folder).join("spillway"));
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(Path::new(&home).join(".cache/spillway"))
}

/// The Envoy binary of a version, such as `1.40.0`.
///
/// # Errors
/// When it has not been installed into the cache folder.
pub fn envoy(version: &str) -> Result<PathBuf> {
    let path = cache_folder()?.join(format!("envoy-{version}/envoy"));
    ensure!(path.is_file(), "no Envoy {version} at {}", path.display());
    Ok(path)
}

/// The filter: `$SPILLWAY_FILTER`, else what `make wasm` leaves in the workspace.
///
/// # Errors
/// When it has not been built.
pub fn filter() -> Result<PathBuf> {
    let path = match std::env::var_os("SPILLWAY_FILTER") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/spillway-filter.wasm"),
    };
    ensure!(
        path.is_file(),
        "the filter is not built: no {}",
        path.display()
    );
    Ok(path)
}

/// The filter's test build that traps: `$SPILLWAY_FILTER_TRAP`.
///
/// # Errors
/// When the variable is not set, or names no file.
pub fn trapping_filter() -> Result<PathBuf> {
    let path =
        std::env::var_os("SPILLWAY_FILTER_TRAP").context("SPILLWAY_FILTER_TRAP is not set")?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "no trapping filter at {}", path.display());
    Ok(path)
}
