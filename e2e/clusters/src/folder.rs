//! Folders that are removed also when their process was killed.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

/// What all folders are called, up to the number of the process.
const PREFIX: &str = "spillway-clusters-";

/// A folder for one set of clusters; removes what killed processes left behind.
pub(crate) fn create() -> Result<TempDir> {
    remove_abandoned();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir()?)
}

fn remove_abandoned() {
    let entries = std::fs::read_dir(std::env::temp_dir());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if owner.is_some_and(|owner: u32| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another user's, or removed by others that are starting.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
