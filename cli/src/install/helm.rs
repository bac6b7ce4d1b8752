//! The user's Helm.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::connection::Connection;
use crate::exit::{Exit, Failure};

/// Helm, found in the PATH.
#[derive(Debug)]
pub(super) struct Helm(PathBuf);

impl Helm {
    /// None where there is no Helm.
    pub(super) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let programs = std::env::split_paths(&path).map(|folder| folder.join("helm"));
        programs.into_iter().find(|it| it.is_file()).map(Self)
    }

    /// # Errors
    /// Where there is none, with the way out.
    pub(super) fn required(advice: &str) -> Result<Self, Failure> {
        Self::find().ok_or_else(|| Failure::bad_input("there is no helm in the PATH", advice))
    }

    /// The chart's objects, in YAML.
    ///
    /// # Errors
    /// When the values are not what the chart takes.
    pub(super) fn template(
        &self,
        chart: &Path,
        namespace: &str,
        values: &[String],
    ) -> Result<String, Failure> {
        let mut command = Command::new(&self.0);
        command
            .args(["template", super::RELEASE])
            .arg(chart)
            .args(["--include-crds", "--namespace", namespace])
            .args(values);
        said(command, |words| {
            Failure::bad_input(
                format!("the values are not what the chart takes: {words}"),
                "Write them by --set or --values: docs/operations/controller.md names those that have no default.",
            )
        })
    }

    /// What `helm ARGUMENTS` answers in JSON, for a cluster.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn run(
        &self,
        connection: &Connection,
        context: Option<&str>,
        arguments: &[&str],
    ) -> Result<Value, Failure> {
        let mut command = Command::new(&self.0);
        command.args(arguments);
        if let Some(kubeconfig) = connection.kubeconfig() {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(context) = context {
            command.args(["--kube-context", context]);
        }
        let first = arguments.first().copied().unwrap_or_default();
        let answer = said(command, |words| {
            Failure::new(
                Exit::Unreachable,
                format!("helm {first} failed: {words}"),
                "Look at the release: helm history spillway --namespace NAMESPACE.",
            )
        })?;
        Ok(serde_json::from_str(&answer).unwrap_or_default())
    }
}

/// What it prints; when it fails, what it says about that.
fn said(mut command: Command, failed: impl Fn(&str) -> Failure) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.map_err(|error| failed(&error.to_string()))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&stderr);
    // What to do is said here, and not by flags that this command does not have.
    let words = words.lines().map(str::trim);
    let words: Vec<&str> = words
        .filter(|line| !line.starts_with("Use --debug"))
        .collect();
    Err(failed(words.join(" ").trim_start_matches("Error: ").trim()))
}
