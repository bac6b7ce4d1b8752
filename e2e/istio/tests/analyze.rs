//! Istio's own tool finds nothing wrong with anything that the planner writes: for every golden
//! file, in the company of what it was planned for; nor with what the documentation tells to write.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_istio::istioctl;
use tempfile::TempDir;

/// What one control plane is to have, and what users have there.
struct Plane {
    name: String,
    users: Vec<Value>,
    /// Of these, what is edited, as it was.
    before: Vec<Value>,
    ours: Vec<Value>,
}

#[test]
fn everything_planned_is_valid() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let planes = planes()?;
    ensure!(planes.len() > 90, "only {} control planes", planes.len());
    let mut arguments = vec!["validate".to_owned()];
    for plane in &planes {
        let file = write(&folder, &plane.name, [&plane.ours[..]])?;
        arguments.extend(["-f".to_owned(), file]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = istioctl::run(folder.path(), &arguments)?;
    assert!(said.is_success, "{said:?}");
    let text = said.out + &said.errors;
    let complaint = text.lines().find(|line| !line.ends_with("is valid"));
    assert_eq!(complaint, None);
    assert_eq!(text.lines().count(), planes.len());
    Ok(())
}

#[test]
fn what_the_documentation_tells_to_write_is_valid() -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/istio.md");
    let page = std::fs::read_to_string(page)?;
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|text| text.split_once("```"));
    let folder = tempfile::tempdir()?;
    let mut checked = 0;
    for (block, _) in blocks.filter(|(block, _)| block.contains(".istio.io/")) {
        let file = folder.path().join("example.yaml");
        std::fs::write(&file, block)?;
        let file = file.display().to_string();
        let said = istioctl::run(folder.path(), &["validate", "-f", &file])?;
        assert!(said.is_success, "{said:?}");
        checked += 1;
    }
    assert_eq!(checked, 1);
    Ok(())
}

#[test]
fn nothing_planned_adds_a_finding() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut found = Vec::new();
    for plane in planes()? {
        let after = write(&folder, &plane.name, [&plane.users[..], &plane.ours])?;
        let after = findings(&folder, &after)?;
        if after.is_empty() {
            continue;
        }
        let before = write(&folder, &plane.name, [&plane.users[..], &plane.before])?;
        let before = findings(&folder, &before)?;
        let new = after.difference(&before);
        found.extend(new.map(|finding| format!("{}: {finding}", plane.name)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// What `istioctl analyze` says of a file, without the place in it.
fn findings(folder: &TempDir, file: &str) -> Result<BTreeSet<String>> {
    let arguments = ["analyze", "--use-kube=false", "-A", "-o", "json", file];
    let said = istioctl::run(folder.path(), &arguments)?;
    let found = serde_json::from_str::<Vec<Value>>(&said.out);
    let found = found.with_context(|| format!("{said:?}"))?;
    let texts = found.into_iter().map(|mut finding| {
        finding.as_object_mut().unwrap().remove("reference");
        finding.to_string()
    });
    Ok(texts.collect())
}

fn write<'p>(
    folder: &TempDir,
    name: &str,
    parts: impl IntoIterator<Item = &'p [Value]>,
) -> Result<String> {
    let file = folder.path().join(format!("{name}.yaml"));
    let objects = parts.into_iter().flatten().map(Value::to_string);
    std::fs::write(&file, objects.collect::<Vec<_>>().join("\n---\n"))?;
    Ok(file.display().to_string())
}

fn planes() -> Result<Vec<Plane>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plan/tests/golden");
    let mut planes = Vec::new();
    for entry in std::fs::read_dir(golden)? {
        let input = entry?.path();
        let name = input.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".in.yaml") else {
            continue;
        };
        let output = read(&input.with_file_name(format!("{name}.out.yaml")))?;
        for cluster in list(&read(&input)?["clusters"]) {
            let resource = cluster["resource"]["metadata"]["name"].as_str();
            let resource = resource.context("a cluster has a name")?;
            let wanted = &output["controlPlanes"][resource];
            let edits = list(&wanted["edits"]);
            let ours = [list(&wanted["objects"]), edits.clone()].concat();
            if ours.is_empty() {
                continue;
            }
            let is_edited = |object: &Value| {
                let same = |edit: &Value| {
                    ["name", "namespace"].map(|key| &edit["metadata"][key])
                        == ["name", "namespace"].map(|key| &object["metadata"][key])
                        && object["kind"] == "VirtualService"
                };
                edits.iter().any(same)
            };
            let (before, users) = observed(&cluster["observed"])
                .into_iter()
                .partition(is_edited);
            planes.push(Plane {
                name: format!("{name}-{resource}"),
                users,
                before,
                ours,
            });
        }
    }
    Ok(planes)
}

/// What users have in a cluster, as objects of their kinds.
fn observed(observed: &Value) -> Vec<Value> {
    let namespaces = observed["namespaces"].as_object().into_iter().flatten();
    let namespaces = namespaces.map(|(name, labels)| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    });
    let kinds = [
        ("services", "v1", "Service"),
        (
            "virtualServices",
            "networking.istio.io/v1",
            "VirtualService",
        ),
        (
            "destinationRules",
            "networking.istio.io/v1",
            "DestinationRule",
        ),
        ("gateways", "networking.istio.io/v1", "Gateway"),
        ("serviceEntries", "networking.istio.io/v1", "ServiceEntry"),
    ];
    let objects = kinds.into_iter().flat_map(|(field, version, kind)| {
        list(&observed[field]).into_iter().map(move |mut object| {
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            object
        })
    });
    namespaces.chain(objects).collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn read(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_saphyr::from_str(&text)?)
}
