//! Manifests from files, folders and standard input.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Standard input, as kubectl names it.
const STDIN: &str = "-";

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// As it was named, or found.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Reads files as they are named. Of a folder those that end with `.yaml` or `.yml`, and of its
/// folders too; but for `clusters`, where [`crate::render`] finds what is in clusters.
///
/// # Errors
/// When one cannot be read, or a folder has none.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| unreadable(path, &error))?;
            manifests.push(Manifest {
                path: "<stdin>".into(),
                text,
            });
        } else if path.is_dir() {
            let found = folder(path).map_err(|error| unreadable(path, &error))?;
            if found.is_empty() {
                return Err(Failure::bad_input(
                    format!("{} has no manifests", path.display()),
                    "Name a folder with files that end with .yaml, or the files themselves.",
                ));
            }
            for path in found {
                manifests.push(file(path)?);
            }
        } else {
            manifests.push(file(path.clone())?);
        }
    }
    Ok(manifests)
}

/// Reads one file as text.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn file(path: PathBuf) -> Result<Manifest, Failure> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Manifest { path, text }),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// The text of one file, or of standard input.
///
/// # Errors
/// As [`read`], and for a folder with several.
pub(crate) fn one(path: &PathBuf) -> Result<String, Failure> {
    let mut manifests = read(std::slice::from_ref(path))?;
    match (manifests.pop(), manifests.is_empty()) {
        (Some(manifest), true) => Ok(manifest.text),
        _ => Err(Failure::bad_input(
            format!("{} is a folder with several files", path.display()),
            "Name one file.",
        )),
    }
}

fn folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "clusters" {
            found.extend(self::folder(&path)?);
        } else if (name.ends_with(".yaml") || name.ends_with(".yml")) && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::bad_input(
        format!("{} cannot be read: {error}", path.display()),
        "Name a file or folder that is there, or - for standard input.",
    )
}
