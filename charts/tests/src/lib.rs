//! Helm, as a person would run it, for the tests of the charts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use spillway_clusters::programs;
use tempfile::TempDir;

/// The folder with the charts.
#[must_use]
pub fn charts() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Helm with nothing of its own user's: neither settings nor cache nor a cluster but the given.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    /// Without a cluster.
    ///
    /// # Errors
    /// When Helm is not installed.
    pub fn new() -> Result<Self> {
        Ok(Self {
            program: programs::helm()?,
            home: tempfile::tempdir()?,
        })
    }

    /// For the cluster of a kubeconfig.
    ///
    /// # Errors
    /// When Helm is not installed.
    pub fn with_cluster(kubeconfig: &str) -> Result<Self> {
        let this = Self::new()?;
        fs::write(this.kubeconfig(), kubeconfig)?;
        Ok(this)
    }

    /// Runs it in the folder of the charts.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(&self.program)
            .args(arguments)
            .current_dir(charts())
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be run", self.program.display()))
    }

    /// What it prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let (out, errors) = texts(&output);
        let arguments = arguments.join(" ");
        ensure!(output.status.success(), "helm {arguments}: {out}{errors}");
        Ok(out)
    }

    /// What it says when it fails.
    ///
    /// # Errors
    /// When it does not.
    pub fn fail(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let arguments = arguments.join(" ");
        ensure!(!output.status.success(), "helm {arguments} succeeded");
        Ok(texts(&output).1)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
