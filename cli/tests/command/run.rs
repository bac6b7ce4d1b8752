//! How the command is run.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

/// The workshop's policy, clusters, and what is in these.
pub(crate) const POLICY: &str = include_str!("../../../examples/workshop/mesh/policy.yaml");
pub(crate) const CLUSTERS: &str = include_str!("../../../examples/workshop/mesh/clusters.yaml");
pub(crate) const PRIMARY: &str =
    include_str!("../../../examples/workshop/mesh/clusters/primary/default.yaml");
pub(crate) const BURST: &str =
    include_str!("../../../examples/workshop/mesh/clusters/burst/default.yaml");
/// An image by its digest.
pub(crate) const IMAGE: &str = "oci://registry.example.com/spillway/filter@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The subcommands whose examples need clusters, in the order in which these can be run.
pub(crate) const WITH_CLUSTERS: [&str; 6] =
    ["attach", "status", "force", "unforce", "shadow", "detach"];
/// Those whose examples need Helm besides.
pub(crate) const WITH_HELM: [&str; 5] = ["install", "upgrade", "check", "rotate", "uninstall"];
/// The one whose examples send requests to services.
pub(crate) const FLIGHT: &str = "test-flight";

/// The command with nothing of its user's.
pub(crate) fn spillway(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.current_dir(folder).env_clear();
    command
}

/// What it says, and its status.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    let status = output.status.code().expect("it was not killed");
    let errors = match errors.as_str() {
        "" => errors,
        _ => format!("--- errors\n{errors}"),
    };
    format!("{out}{errors}--- status {status}\n")
}

/// Runs it with words.
pub(crate) fn run(folder: &Path, words: &[&str]) -> String {
    said(&spillway(folder).args(words).output().unwrap())
}

/// A folder with files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}
