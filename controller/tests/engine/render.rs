//! A folder instead of a hub, and folders instead of clusters.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::world::policy;

const CLUSTERS: &str = "
apiVersion: spillway.dev/v1alpha1
kind: MeshCluster
metadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {secretRef: {namespace: spillway-system, name: a}}
---
apiVersion: spillway.dev/v1alpha1
kind: MeshCluster
metadata: {name: b, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {secretRef: {namespace: spillway-system, name: b}}
";

const SEEN: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio-injection: enabled}}}
- apiVersion: v1
  kind: Service
  metadata: {name: worker, namespace: shop}
  spec:
    clusterIP: 10.0.0.10
    selector: {app: worker}
    ports: [{name: http, port: 80, targetPort: 8080}]
";

fn render(source: &Path, target: &Path) -> Result<String> {
    render_with("mesh-token-1\n", source, target)
}

fn render_with(tokens: &str, source: &Path, target: &Path) -> Result<String> {
    let folder = TempDir::new()?;
    let file = folder.path().join("tokens");
    fs::write(&file, tokens)?;
    let output = Command::new(env!("CARGO_BIN_EXE_spillway-controller"))
        .arg(format!("--source={}", source.display()))
        .arg(format!("--target={}", target.display()))
        .arg(format!("--tokens={}", file.display()))
        .arg(format!(
            "--image=oci://registry.example.com/spillway/filter@sha256:{}",
            "0".repeat(64)
        ))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(said)
}

/// Every file of a folder with its content.
fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.display().to_string();
                found.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(found)
}

fn source() -> Result<TempDir> {
    let source = TempDir::new()?;
    fs::write(source.path().join("clusters.yaml"), CLUSTERS)?;
    fs::write(
        source.path().join("policy.yaml"),
        policy("worker", "a", "b", "50/s").to_string(),
    )?;
    for cluster in ["a", "b"] {
        let folder = source.path().join("clusters").join(cluster);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("seen.yaml"), SEEN)?;
    }
    Ok(source)
}

#[test]
fn a_folder_is_rendered_once_and_cleaned_exactly() -> Result<()> {
    let (source, target) = (source()?, TempDir::new()?);
    fs::create_dir_all(target.path().join("a/shop"))?;
    let theirs = target.path().join("a/shop/theirs.yaml");
    fs::write(
        &theirs,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs, namespace: shop}}",
    )?;
    render(source.path(), target.path())?;
    let first = files(target.path())?;
    for cluster in ["a", "b"] {
        for name in [
            "destinationrule-spillway-worker",
            "virtualservice-spillway-worker",
            "wasmplugin-spillway-client",
            "wasmplugin-spillway-server",
        ] {
            assert!(
                first.contains_key(&format!("{cluster}/shop/{name}.yaml")),
                "{name}: {first:?}"
            );
        }
    }
    assert_eq!(first.len(), 9, "{:?}", first.keys());

    // Again: nothing is touched. Changed: the next generation.
    let said = render(source.path(), target.path())?;
    assert!(
        said.contains("\"written\":0") || said.contains("written=0"),
        "{said}"
    );
    assert_eq!(files(target.path())?, first);
    fs::write(
        source.path().join("policy.yaml"),
        policy("worker", "a", "b", "60/s").to_string(),
    )?;
    render(source.path(), target.path())?;
    let second = files(target.path())?;
    assert!(
        second["a/shop/wasmplugin-spillway-client.yaml"].contains("spillway.dev/generation: \"2\"")
    );
    assert_eq!(
        second["a/shop/destinationrule-spillway-worker.yaml"],
        first["a/shop/destinationrule-spillway-worker.yaml"]
    );

    // Gone: only what is ours goes.
    fs::remove_file(source.path().join("policy.yaml"))?;
    render(source.path(), target.path())?;
    let left: Vec<String> = files(target.path())?.into_keys().collect();
    assert_eq!(left, ["a/shop/theirs.yaml"]);
    Ok(())
}

#[test]
fn the_mesh_has_the_tokens_of_the_file() -> Result<()> {
    let (source, target) = (source()?, TempDir::new()?);
    for (tokens, words) in [
        ("", "write one token, or two"),
        ("mesh;token", "8 to 64 of A-Z a-z 0-9 _ -"),
    ] {
        let said = render_with(tokens, source.path(), target.path()).unwrap_err();
        assert!(said.to_string().contains(words), "{said}");
        assert!(files(target.path())?.is_empty());
    }
    render_with("mesh-token-2,mesh-token-1", source.path(), target.path())?;
    let files = files(target.path())?;
    let routes = &files["a/shop/virtualservice-spillway-worker.yaml"];
    assert!(routes.contains("b;mesh-token-2;") && routes.contains("b;mesh-token-1;"));
    let plugin = &files["a/shop/wasmplugin-spillway-client.yaml"];
    assert!(plugin.find("mesh-token-2") < plugin.find("mesh-token-1"));
    Ok(())
}

#[test]
fn all_that_cannot_be_read_is_told_at_once() -> Result<()> {
    let (source, target) = (source()?, TempDir::new()?);
    fs::write(source.path().join("broken.yaml"), "{")?;
    fs::write(
        source.path().join("wrong.yaml"),
        "{apiVersion: spillway.dev/v1alpha1, kind: Fleet, metadata: {name: wrong}, spec: {}}",
    )?;
    let said = render(source.path(), target.path())
        .unwrap_err()
        .to_string();
    for part in ["broken.yaml", "wrong.yaml", "clusterSelector"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(files(target.path())?.is_empty());
    Ok(())
}
