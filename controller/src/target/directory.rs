//! Objects into files: `DIR/CLUSTER/NAMESPACE/KIND-NAME.yaml`.
//!
//! Each file is written whole under another name first and then renamed, so that nobody reads half
//! of one. A file that is as it should be is not touched. What is removed are files of our label
//! that nobody wants any more, and nothing else. A user's VirtualService with our routes in it is a
//! file of its own (`…merged.yaml`), to be put in the place of the user's.
//!
//! There is no order of writes here: who applies the files chooses it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use spillway_plan::diff::{self, Action};
use spillway_plan::output::Key;
use spillway_plan::{ControlPlane, Plan};

/// What a file with a user's object is called.
const MERGED: &str = ".merged.yaml";

/// A folder or file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files that were made or changed.
    pub written: usize,
    /// Files that were removed.
    pub removed: usize,
}

/// A file that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is.
    pub path: PathBuf,
    /// What stands there; nothing where there is no such file.
    pub before: Option<String>,
    /// What should stand there; nothing where it is to go.
    pub after: Option<String>,
}

/// Writes a plan, a folder for every control plane. Control planes that are not in the plan are
/// left as they are.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(target: &Path, plan: &Plan) -> Result<Written, FileError> {
    for name in plan.control_planes.keys() {
        let folder = target.join(name);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
    }
    let mut all = Written::default();
    for Change { path, after, .. } in changes(target, plan)? {
        match after {
            Some(text) => {
                put(&path, &text)?;
                all.written += 1;
            }
            None => {
                fs::remove_file(&path).map_err(at(&path))?;
                all.removed += 1;
            }
        }
    }
    Ok(all)
}

/// What [`write`] would do, in the order of the files.
///
/// # Errors
/// When a file cannot be read.
pub fn changes(target: &Path, plan: &Plan) -> Result<Vec<Change>, FileError> {
    let mut changes = Vec::new();
    for (name, wanted) in &plan.control_planes {
        let files = control_plane(&target.join(name), wanted)?;
        for (path, after) in files {
            let before = match fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(at(&path)(error)),
            };
            if before != after {
                changes.push(Change {
                    path,
                    before,
                    after,
                });
            }
        }
    }
    Ok(changes)
}

/// What should stand in the files of a control plane, nothing in those that are to go.
fn control_plane(
    folder: &Path,
    wanted: &ControlPlane,
) -> Result<BTreeMap<PathBuf, Option<String>>, FileError> {
    let mut files = BTreeMap::new();
    let mut actual = read(folder)?;
    // A change of a rule is made in two steps, of which files need the last only.
    for _ in 0..3 {
        for change in diff::changes(wanted, &actual) {
            match change.action {
                Action::Apply { key, object } => {
                    let path = path(folder, &key, ".yaml");
                    actual.retain(|other| Key::of(other).as_ref() != Some(&key));
                    let object = without_version(object);
                    let text = text(&path, &object)?;
                    files.insert(path, Some(text));
                    actual.push(object);
                }
                Action::Delete { key, .. } => {
                    files.insert(path(folder, &key, ".yaml"), None);
                    actual.retain(|other| Key::of(other).as_ref() != Some(&key));
                }
                Action::Replace { .. } => {}
            }
        }
    }
    for path in manifests_of(folder)? {
        if path.to_string_lossy().ends_with(MERGED) {
            files.insert(path, None);
        }
    }
    for edit in wanted.edits.iter().filter(|edit| !edit.policies.is_empty()) {
        if let Some(key) = Key::of(&edit.after) {
            let path = path(folder, &key, MERGED);
            let text = text(&path, &without_version(edit.after.clone()))?;
            files.insert(path, Some(text));
        }
    }
    Ok(files)
}

/// The objects in the files of a control plane, but for users'.
fn read(folder: &Path) -> Result<Vec<Value>, FileError> {
    let mut objects = Vec::new();
    for path in manifests_of(folder)? {
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let object: Value = serde_saphyr::from_str(&text).map_err(|error| FileError {
            path: path.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        // Only what we would have written there ourselves is ours to change.
        let key = Key::of(&object);
        if key.is_some_and(|key| self::path(folder, &key, ".yaml") == path) {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// The manifests of a folder and of its folders, in the order of their names.
pub(super) fn manifests(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "clusters" {
            found.extend(manifests(&path)?);
        } else if name.ends_with(".yaml") && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// As [`manifests`]; none of a folder that is not there yet.
fn manifests_of(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match manifests(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found.map_err(at(folder)),
    }
}

/// Kubernetes' names have no slash, so that they are good names of files.
fn path(folder: &Path, key: &Key, end: &str) -> PathBuf {
    let kind = key.kind().map_or("", |kind| kind.kind).to_lowercase();
    let name = format!("{kind}-{}{end}", key.name);
    folder.join(&key.namespace).join(name)
}

fn text(path: &Path, object: &Value) -> Result<String, FileError> {
    serde_saphyr::to_string(object).map_err(|error| FileError {
        path: path.to_owned(),
        source: io::Error::other(error.to_string()),
    })
}

/// Writes a file whole, or not at all.
fn put(path: &Path, text: &str) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(".spillway-")
        .tempfile_in(folder)
        .map_err(at(folder))?;
    file.write_all(text.as_bytes()).map_err(at(path))?;
    file.as_file().sync_all().map_err(at(path))?;
    file.persist(path).map_err(|error| FileError {
        path: path.to_owned(),
        source: error.error,
    })?;
    Ok(())
}

/// A version of an API server has no meaning in a file.
fn without_version(mut object: Value) -> Value {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            metadata.remove(field);
        }
    }
    object
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { path, source }
}
