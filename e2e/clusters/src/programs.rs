//! Where the programs of Kubernetes are found.
//!
//! `KUBEBUILDER_ASSETS`, which the tests of other controllers know too, names a folder with
//! kube-apiserver, kubectl and etcd. Without it they are what `tools/setup clusters` leaves: etcd
//! as a package of the system, and the others in the cache folder, built in the version that
//! `tools/kube/go.mod` pins.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use spillway_e2e::artefacts::cache_folder;

const KUBE_MODULE: &str = include_str!("../../../tools/kube/go.mod");
const HELM_MODULE: &str = include_str!("../../../tools/helm/go.mod");

/// The version of Kubernetes that is built, such as `1.36.4`.
///
/// # Errors
/// When `tools/kube/go.mod` does not say.
pub fn kubernetes_version() -> Result<&'static str> {
    pinned(KUBE_MODULE, "k8s.io/kubernetes")
}

/// A program of Kubernetes: `kube-apiserver`, `kube-controller-manager` or `kubectl`.
///
/// # Errors
/// When it is not installed.
pub fn kubernetes(program: &str) -> Result<PathBuf> {
    if let Some(folder) = assets() {
        return existing(folder.join(program), NOT_IN_ASSETS);
    }
    let folder = cache_folder()?.join(format!("kube-{}", kubernetes_version()?));
    existing(folder.join(program), "`tools/setup kube` builds it")
}

/// etcd.
///
/// # Errors
/// When it is not installed.
pub fn etcd() -> Result<PathBuf> {
    if let Some(folder) = assets() {
        return existing(folder.join("etcd"), NOT_IN_ASSETS);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("etcd"))
        .find(|program| program.is_file())
        .context("no etcd in the PATH: `tools/setup etcd` installs it")
}

/// Helm.
///
/// # Errors
/// When it is not installed.
pub fn helm() -> Result<PathBuf> {
    let version = pinned(HELM_MODULE, "helm.sh/helm/v4")?;
    let program = cache_folder()?.join(format!("helm-{version}/helm"));
    existing(program, "`tools/setup helm` builds it")
}

const NOT_IN_ASSETS: &str = "KUBEBUILDER_ASSETS names a folder without it";

fn assets() -> Option<PathBuf> {
    std::env::var_os("KUBEBUILDER_ASSETS")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
}

fn existing(program: PathBuf, hint: &str) -> Result<PathBuf> {
    ensure!(program.is_file(), "no {}: {hint}", program.display());
    Ok(program)
}

fn pinned(go_mod: &'static str, module: &str) -> Result<&'static str> {
    go_mod
        .lines()
        .map(|line| line.trim_start().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(" v"))
        .and_then(|version| version.split_whitespace().next())
        .with_context(|| format!("go.mod pins no {module}"))
}
