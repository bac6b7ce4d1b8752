//! The chart of the controller, as it stands in this command.

use std::fs;
use std::io;

use serde_json::{Value, json};
use tempfile::TempDir;

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../charts/spillway/", $path)))),*]
    };
}

/// The chart's files, as `charts/spillway` has them: a test compares.
const FILES: &[(&str, &str)] = files![
    ".helmignore",
    "Chart.yaml",
    "crds/burstpolicies.spillway.dev.yaml",
    "crds/fleets.spillway.dev.yaml",
    "crds/meshclusters.spillway.dev.yaml",
    "templates/NOTES.txt",
    "templates/_helpers.tpl",
    "templates/clusterrole.yaml",
    "templates/deployment.yaml",
    "templates/poddisruptionbudget.yaml",
    "templates/role.yaml",
    "templates/service.yaml",
    "templates/serviceaccount.yaml",
    "templates/servicemonitor.yaml",
    "values.schema.json",
    "values.yaml",
];

/// The chart as Helm renders it with what has no default: its tests keep it so.
const RENDERED: &str = include_str!("../../../charts/tests/golden/controller-least.out.yaml");
const RENDERED_FOR: &str = "spillway-system";
const REPOSITORY: &str = "registry.example.com/spillway/controller";
const FILTER: &str = "oci://registry.example.com/spillway/filter@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The chart in a folder, for Helm.
pub(super) fn unpack() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("spillway-chart")
        .tempdir()?;
    for (path, text) in FILES {
        let path = folder.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(folder)
}

/// The definitions of the resources, as text.
pub(super) fn definitions() -> impl Iterator<Item = &'static str> {
    let crds = FILES.iter().filter(|(path, _)| path.starts_with("crds/"));
    crds.map(|(_, text)| *text)
}

/// What stands in the place of Helm where there is none: of the values only the images, which have
/// no default.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Images {
    /// `REPOSITORY:TAG` or `REPOSITORY@DIGEST`.
    controller: String,
    filter: String,
}

impl Images {
    /// By `--set`.
    ///
    /// # Errors
    /// What is set and is no image, or what is missing.
    pub(super) fn read(set: &[String]) -> Result<Self, String> {
        let (mut repository, mut version, mut filter) = (None, None, None);
        for pair in set.iter().flat_map(|set| set.split(',')) {
            match pair.split_once('=') {
                Some(("image.repository", value)) => repository = Some(value),
                Some(("image.digest", value)) => version = Some(format!("@{value}")),
                Some(("image.tag", value)) => version = Some(format!(":{value}")),
                Some(("filter.image", value)) => filter = Some(value),
                _ => {
                    return Err(format!(
                        "\"{pair}\" is no image, and other values need Helm"
                    ));
                }
            }
        }
        let (Some(repository), Some(filter)) = (repository, filter) else {
            return Err("the images have no default".to_owned());
        };
        let version = version.unwrap_or_else(|| concat!(":", env!("CARGO_PKG_VERSION")).to_owned());
        Ok(Self {
            controller: format!("{repository}{version}"),
            filter: filter.to_owned(),
        })
    }
}

/// The chart's objects with these images.
///
/// # Errors
/// Never in practice: the chart's tests read it too.
pub(super) fn rendered(
    system_namespace: &str,
    images: &Images,
) -> Result<Vec<Value>, serde_saphyr::Error> {
    let version = env!("CARGO_PKG_VERSION");
    let text = RENDERED
        .replace(RENDERED_FOR, system_namespace)
        .replace(&format!("{REPOSITORY}:{version}"), &images.controller)
        .replace(FILTER, &images.filter)
        .replace("managed-by: Helm", "managed-by: spillway-cli");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(objects.into_iter().filter(|it| !it.is_null()).collect())
}

/// The namespace of Spillway's own objects.
pub(super) fn namespace(system_namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": system_namespace}})
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }

    /// Nothing is missing, and the texts are those of the folder.
    #[test]
    fn it_is_the_chart() {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/spillway");
        let unpacked = unpack().unwrap();
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        walk(&chart, "", &mut theirs);
        walk(unpacked.path(), "", &mut ours);
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs);
        for file in theirs {
            let text = fs::read_to_string(chart.join(&file)).unwrap();
            let unpacked = fs::read_to_string(unpacked.path().join(&file)).unwrap();
            assert!(text == unpacked, "{file}");
        }
    }

    #[test]
    fn images_stand_in_what_is_rendered() {
        let set = |text: &str| vec![text.to_owned()];
        let images = Images::read(&[
            "image.repository=r.example/c,image.digest=sha256:12".to_owned(),
            "filter.image=oci://r.example/f@sha256:34".to_owned(),
        ]);
        let objects = rendered("mesh", &images.unwrap()).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(text.contains("r.example/c@sha256:12"), "{text}");
        assert!(
            text.contains("--image=oci://r.example/f@sha256:34"),
            "{text}"
        );
        for gone in [REPOSITORY, FILTER, RENDERED_FOR, "Helm"] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert!(
            Images::read(&set("replicas=3"))
                .unwrap_err()
                .contains("Helm")
        );
        assert!(Images::read(&set("image.repository=r")).is_err());
    }
}
