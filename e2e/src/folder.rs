//! Folders that are removed also when their process was killed: the kernel ends what such a
//! process started, but knows nothing of files.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

/// A folder whose name begins with `kind`; removes what killed processes left behind of this kind.
///
/// # Errors
/// When it cannot be made.
pub fn create(kind: &str) -> Result<TempDir> {
    remove_abandoned(kind);
    let prefix = format!("{kind}-{}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir()?)
}

fn remove_abandoned(kind: &str) {
    let owner = |name: &str| -> Option<u32> {
        let rest = name.strip_prefix(kind)?.strip_prefix('-')?;
        rest.split('-').next()?.parse().ok()
    };
    let entries = std::fs::read_dir(std::env::temp_dir());
    for entry in entries.into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(owner);
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another user's, or removed by others that are starting.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
