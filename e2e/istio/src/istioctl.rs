//! Istio's own tool, as a person would run it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use spillway_clusters::{Cluster, User};

use crate::programs;

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether it is content.
    pub is_success: bool,
    /// What it printed.
    pub out: String,
    /// What it printed as errors.
    pub errors: String,
}

/// Runs `istioctl ARGUMENTS`.
///
/// # Errors
/// When it cannot be run.
pub fn run(home: &Path, arguments: &[&str]) -> Result<Answer> {
    let program = programs::istio()?.join("istioctl");
    let output = Command::new(&program)
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer {
        is_success: output.status.success(),
        out: text(&output.stdout),
        errors: text(&output.stderr),
    })
}

/// The Secret by which others learn of a cluster, with the account that istioctl makes there.
///
/// # Errors
/// When istioctl is not content.
pub fn create_remote_secret(folder: &Path, cluster: &Cluster) -> Result<String> {
    let name = cluster.name();
    let file = folder.join(format!("admin-{name}.kubeconfig"));
    std::fs::write(&file, cluster.kubeconfig(User::admin())?)?;
    let arguments = [
        "create-remote-secret",
        &format!("--kubeconfig={}", file.display()),
        &format!("--name={name}"),
    ];
    let answer = run(folder, &arguments)?;
    ensure!(answer.is_success, "{answer:?}");
    Ok(answer.out)
}
