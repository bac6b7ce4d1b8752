//! `spillway render` and `spillway diff`.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::run::{BURST, CLUSTERS, IMAGE, POLICY, PRIMARY, folder, said, spillway};

fn mesh() -> TempDir {
    folder(&[
        ("mesh/policy.yaml", POLICY),
        ("mesh/clusters.yaml", CLUSTERS),
        ("mesh/clusters/primary/seen.yaml", PRIMARY),
        ("mesh/clusters/burst/seen.yaml", BURST),
        ("tokens", "mesh-token-1\n"),
    ])
}

/// Runs it with the mesh's settings. What an object is to be has a hash.
fn run(folder: &Path, words: &[&str]) -> String {
    let said = run_plainly(folder, words);
    let hash = "spillway.dev/intent: ";
    let masked = said.lines().map(|line| match line.split_once(hash) {
        Some((before, _)) => format!("{before}{hash}HASH\n"),
        None => format!("{line}\n"),
    });
    masked.collect()
}

fn run_plainly(folder: &Path, words: &[&str]) -> String {
    let mut command = spillway(folder);
    command
        .env("SPILLWAY_IMAGE", IMAGE)
        .env("SPILLWAY_TOKENS", "tokens");
    said(&command.args(words).output().unwrap())
}

fn written(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| entries.count())
}

/// The life of a folder: rendered, compared, changed, compared, rendered again, emptied.
#[test]
fn a_folder_follows_its_source() {
    let folder = mesh();
    let path = folder.path();
    let render = ["render", "mesh", "--out", "out"];
    let diff = ["diff", "mesh", "--against", "out"];
    let dry = run(path, &["render", "mesh", "--out", "out", "--dry-run"]);
    assert_eq!(written(&path.join("out")), 0, "{dry}");
    let first = run(path, &render);
    let same = run(path, &diff);
    assert!(
        same.ends_with("0 objects to create, 0 to change, 0 to remove\n--- status 0\n"),
        "{same}"
    );
    let policy = path.join("mesh/policy.yaml");
    fs::write(&policy, POLICY.replace("15/s", "20/s")).unwrap();
    let changed = run(path, &diff);
    run(path, &render);
    fs::write(path.join("tokens"), "mesh-token-2,mesh-token-1").unwrap();
    let rotated = run(path, &diff);
    assert!(!rotated.contains("mesh-token"), "{rotated}");
    assert!(rotated.ends_with("to remove\n--- status 1\n"), "{rotated}");
    fs::remove_file(&policy).unwrap();
    let gone = run(path, &render);
    assert_snapshot!([dry, first, changed, gone].join("===\n"));
}

/// A single policy without what is in the clusters says what is wanting.
#[test]
fn what_is_refused_is_told() {
    let folder = mesh();
    let path = folder.path();
    fs::write(path.join("other.yaml"), POLICY.replace("worker", "other")).unwrap();
    let refused = run(path, &["render", "mesh", "other.yaml", "--out", "out"]);
    fs::rename(path.join("mesh/clusters/burst"), path.join("away")).unwrap();
    let unseen = run(path, &["diff", "mesh", "--against", "out"]);
    fs::write(
        path.join("mesh/policy.yaml"),
        POLICY
            .replace("15/s", "15")
            .replace("spec:", "spec:\n  moed: Switch"),
    )
    .unwrap();
    let mistaken = run(path, &["render", "mesh", "--out", "out"]);
    fs::write(path.join("mesh/policy.yaml"), POLICY).unwrap();
    fs::write(path.join("tokens"), "short").unwrap();
    let token = run(path, &["render", "mesh", "--out", "out"]);
    assert_snapshot!([refused, unseen, mistaken, token].join("===\n"));
}
