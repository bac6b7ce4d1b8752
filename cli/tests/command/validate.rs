//! `spillway validate`.

use std::collections::BTreeMap;
use std::path::Path;

use insta::assert_snapshot;
use serde::Deserialize;
use serde_json::Value;
use spillway_clusters::merge;

use crate::run::{folder, run, said, spillway};

/// The objects that a real API server takes and refuses, and the words with which it does.
#[derive(Deserialize)]
struct Table {
    good: BTreeMap<String, Value>,
    bad: Vec<Bad>,
}

#[derive(Deserialize)]
struct Bad {
    from: String,
    change: Value,
    because: String,
}

#[derive(Deserialize)]
struct Told {
    objects: usize,
    mistakes: Vec<Mistake>,
}

#[derive(Debug, Deserialize)]
struct Mistake {
    file: String,
    line: u64,
    path: String,
    message: String,
}

/// What API servers take is taken here, what they refuse is refused, and where they do it by a rule
/// of Spillway's, with its very words and nothing else.
#[test]
fn it_judges_as_api_servers_do() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/refusals.yaml");
    let table = std::fs::read_to_string(table).unwrap();
    let table: Table = serde_saphyr::from_str(&table).unwrap();
    let folder = folder(&[]);
    let write = |name: String, object: &Value| {
        std::fs::write(folder.path().join(name), object.to_string()).unwrap();
    };
    for (name, object) in &table.good {
        write(format!("good-{name}.yaml"), object);
    }
    for (at, bad) in table.bad.iter().enumerate() {
        let mut object = table.good[&bad.from].clone();
        object["metadata"]["name"] = format!("bad-{at}").into();
        merge(&mut object, &bad.change);
        write(format!("bad-{at}.yaml"), &object);
    }
    let output = spillway(folder.path())
        .args(["validate", ".", "-o", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told: Told = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told.objects, table.good.len() + table.bad.len());

    let definitions: String = spillway_api::crds::all()
        .unwrap()
        .iter()
        .map(|crd| serde_json::to_string(crd).unwrap())
        .collect();
    let mut by_rules = 0;
    for (at, bad) in table.bad.iter().enumerate() {
        let file = format!("./bad-{at}.yaml");
        let of_file: Vec<_> = told.mistakes.iter().filter(|it| it.file == file).collect();
        assert!(!of_file.is_empty(), "{} is taken", bad.change);
        let placed = of_file.iter().all(|it| it.line == 1 && !it.path.is_empty());
        assert!(placed, "{of_file:?}");
        let is_rule = |message: &str| {
            let quoted = serde_json::to_string(message).unwrap();
            definitions.contains(quoted.trim_matches('"'))
        };
        if is_rule(&bad.because) {
            let said = of_file.iter().any(|it| it.message.contains(&bad.because));
            assert!(
                said && of_file.iter().all(|it| is_rule(&it.message)),
                "{of_file:?}"
            );
            by_rules += 1;
        } else {
            assert_eq!(of_file.len(), 1, "{of_file:?}");
        }
    }
    assert!(by_rules > 30, "{by_rules}");
    let good = told
        .mistakes
        .iter()
        .filter(|it| it.file.contains("good"))
        .count();
    assert_eq!(good, 0);
}

const WRONG: &str = "\
# Ten mistakes, an object of somebody else's, and a fleet that is fine.
apiVersion: spillway.dev/v1alpha1
kind: BurstPolicy
metadata:
  name: Worker
  namespace: shop
spec:
  targetRefs:
    - name: worker
      kind: Deployment
  home: primary
  overflow:
    - cluster: primary
    - cluster: burst
      maxRate: 200
    - {}
  capacity:
    perEndpoint: {rate: 0/s, concurency: 5}
  bounce: On
  override: {force: Home, until: tomorrow}
  clients: {namespaces: [shop, shop]}
  routes: [{match: {pathPrefix: checkout}, class: Never}]
---
apiVersion: v1
kind: Service
metadata: {name: worker}
---
apiVersion: v1
kind: List
items:
  - apiVersion: spillway.dev/v1alpha1
    kind: Fleet
    metadata: {name: cloud}
    spec: {clusterSelector: {matchLabels: {site: cloud}}}
";

#[test]
fn ten_mistakes_are_told_at_once() {
    let folder = folder(&[("policy.yaml", WRONG)]);
    assert_snapshot!(run(folder.path(), &["validate", "policy.yaml"]));
}

#[test]
fn other_mistakes() {
    let folder = folder(&[
        (
            "a/syntax.yaml",
            "apiVersion: spillway.dev/v1alpha1\nkind: [\n",
        ),
        (
            "a/kinds.yaml",
            "apiVersion: spillway.dev/v1\nkind: BurstPolice\n---\n- 1\n---\nkind: Fleet\nmetadata: {name: a}\nsepc: {}\n",
        ),
        ("a/clusters/burst/seen.yaml", "is not read: ["),
        (
            "a/twice.yml",
            "{apiVersion: spillway.dev/v1alpha1, kind: MeshCluster, metadata: {name: hub}, spec: {access: Hub}}\n---\n{apiVersion: spillway.dev/v1alpha1, kind: MeshCluster, metadata: {name: hub}, spec: {access: Hub}}\n",
        ),
    ]);
    assert_snapshot!(run(folder.path(), &["validate", "a"]));
}

/// The status does not depend on the form.
#[test]
fn forms() {
    let folder = folder(&[(
        "fleet.yaml",
        "apiVersion: spillway.dev/v1alpha1\nkind: Fleet\nmetadata: {name: cloud}\nspec: {}\n",
    )]);
    let told = ["text", "json", "yaml"]
        .map(|form| run(folder.path(), &["validate", "fleet.yaml", "-o", form]));
    assert_snapshot!(told.join("===\n"));
    let output = spillway(folder.path())
        .args(["validate", "-"])
        .write_stdin("")
        .output()
        .unwrap();
    assert_snapshot!(said(&output), @"
    √ 0 objects in 1 file, no mistake
    --- status 0
    ");
}
