//! Istio's own tool, as a person would run it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

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
