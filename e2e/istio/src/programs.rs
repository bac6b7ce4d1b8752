//! Where Istio's programs are found.
//!
//! `SPILLWAY_ISTIO` names a folder with pilot-discovery, pilot-agent, istioctl, Istio's CRDs
//! (`crd-all.gen.yaml`) and its bootstrap of Envoy (`envoy_bootstrap.json`). Without it, it is what
//! `tools/setup istio` leaves in the cache folder, in the version that `tools/istio/go.mod` pins.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use spillway_e2e::artefacts::cache_folder;

const MODULE: &str = include_str!("../../../tools/istio/go.mod");

/// The folder with all of it.
///
/// # Errors
/// When it is not there.
pub fn istio() -> Result<PathBuf> {
    let named = std::env::var_os("SPILLWAY_ISTIO").filter(|folder| !folder.is_empty());
    let folder = match named {
        Some(folder) => PathBuf::from(folder),
        None => cache_folder()?.join(format!("istio-{}", version()?)),
    };
    let there = folder.join("pilot-discovery").is_file();
    ensure!(
        there,
        "no Istio in {}: `tools/setup istio` builds it",
        folder.display()
    );
    Ok(folder)
}

/// The controller: `SPILLWAY_CONTROLLER`, which `make test-istio` builds and names.
///
/// # Errors
/// When the variable is not set, or names no file.
pub fn controller() -> Result<PathBuf> {
    let path = std::env::var_os("SPILLWAY_CONTROLLER").context("SPILLWAY_CONTROLLER is not set")?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "no controller at {}", path.display());
    Ok(path)
}

/// The command `spillway`: `SPILLWAY_COMMAND`, as [`controller`].
///
/// # Errors
/// As [`controller`].
pub fn command() -> Result<PathBuf> {
    let path = std::env::var_os("SPILLWAY_COMMAND").context("SPILLWAY_COMMAND is not set")?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "no command at {}", path.display());
    Ok(path)
}

fn version() -> Result<&'static str> {
    let mut words = MODULE.split_whitespace();
    words
        .by_ref()
        .find(|word| *word == "istio.io/istio")
        .and(words.next())
        .and_then(|version| version.strip_prefix('v'))
        .context("tools/istio/go.mod pins no Istio")
}
