//! kubectl, as a person would run it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::programs;

/// Runs kubectl with nothing of its own user's: neither kubeconfig nor cache nor proxy.
pub(crate) async fn run(folder: &Path, kubeconfig: &str, arguments: &[&str]) -> Result<String> {
    let home = tempfile::tempdir_in(folder)?;
    let file = home.path().join("kubeconfig");
    fs::write(&file, kubeconfig)?;
    let mut command = Command::new(programs::kubernetes("kubectl")?);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("KUBECONFIG", &file)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    let arguments = arguments.join(" ");
    ensure!(output.status.success(), "kubectl {arguments}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
