//! Resources and clusters from manifests.
//!
//! `DIR/*.yaml`, and files by themselves, are the hub's: policies, fleets and MeshClusters.
//! `DIR/clusters/NAME/*.yaml` is what is in a cluster, as `kubectl get -o yaml` prints it:
//! namespaces, services, EndpointSlices, and what users have of Istio's. A cluster without a folder was not seen, and nothing is
//! concluded from it. What is not needed is passed over; what cannot be read is told, all of it at
//! once.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};
use spillway_plan::{Cluster, Input, Mesh, Observed};
use tokio::sync::watch;

use crate::observe::index::{Index, Place};
use crate::observe::kinds::Kind;

/// Everything that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable(Vec<String>);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Unreadable {}

/// Reads a source: folders, and files of the hub's.
///
/// # Errors
/// Everything that cannot be read, each with its file.
pub fn read<'a>(
    paths: impl IntoIterator<Item = &'a Path> + Clone,
    mesh: Mesh,
) -> Result<Input, Unreadable> {
    let mut reader = Reader::default();
    let mut input = Input {
        mesh,
        clusters: Vec::new(),
        fleets: Vec::new(),
        policies: Vec::new(),
        unreadable: spillway_plan::Unreadable::default(),
    };
    let of_hub = paths.clone().into_iter();
    for (path, object) in of_hub
        .flat_map(|path| reader.objects(path))
        .collect::<Vec<_>>()
    {
        match object.get("kind").and_then(Value::as_str) {
            Some("BurstPolicy") => input
                .policies
                .extend(reader.typed::<BurstPolicy>(&path, object).map(Arc::new)),
            Some("Fleet") => input
                .fleets
                .extend(reader.typed::<Fleet>(&path, object).map(Arc::new)),
            Some("MeshCluster") => {
                let resource = reader.typed::<MeshCluster>(&path, object);
                input.clusters.extend(resource.map(|resource| Cluster {
                    resource: Arc::new(resource),
                    observed: None,
                    deployed: Vec::new(),
                }));
            }
            _ => {}
        }
    }
    for cluster in &mut input.clusters {
        let name = cluster.resource.name_any();
        let folders = paths.clone().into_iter();
        let mut folders = folders.map(|path| path.join("clusters").join(&name));
        if let Some(folder) = folders.find(|folder| folder.is_dir()) {
            cluster.observed = reader.cluster(&folder, &name, &input.mesh.root_namespace);
        }
    }
    if reader.problems.is_empty() {
        Ok(input)
    } else {
        Err(Unreadable(reader.problems))
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<String>,
}

impl Reader {
    /// What is in a cluster, by the same way as what a watch brings.
    fn cluster(
        &mut self,
        folder: &Path,
        name: &str,
        root_namespace: &str,
    ) -> Option<Arc<Observed>> {
        let mut uid = format!("the folder of {name}");
        let mut places: BTreeMap<Place, Vec<DynamicObject>> = BTreeMap::new();
        for (path, object) in self.objects(folder) {
            let Some(kind) = kind(&object) else { continue };
            let Some(object) = self.typed::<DynamicObject>(&path, object) else {
                continue;
            };
            if kind == Kind::Namespace && object.name_any() == "kube-system" {
                uid = object.uid().unwrap_or(uid);
            }
            let namespace = match kind {
                Kind::Namespace => String::new(),
                _ => object.namespace().unwrap_or_else(|| "default".to_owned()),
            };
            places.entry((kind, namespace)).or_default().push(object);
        }
        let index = Index::new(watch::Sender::new(0), watch::Sender::new(0));
        index.open((Kind::Namespace, String::new()));
        index.replace(&(Kind::Namespace, String::new()), Vec::new());
        for (place, objects) in places {
            index.open(place.clone());
            index.replace(&place, objects);
        }
        index.observed(&uid, root_namespace)
    }

    /// All objects of a folder's manifests, lists taken apart.
    fn objects(&mut self, folder: &Path) -> Vec<(PathBuf, Value)> {
        let mut objects = Vec::new();
        for path in self.manifests(folder) {
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    self.problem(&path, &error);
                    continue;
                }
            };
            match serde_saphyr::from_multiple::<Value>(&text) {
                Ok(documents) => {
                    let all = documents.into_iter().flat_map(items);
                    objects.extend(all.map(|object| (path.clone(), object)));
                }
                Err(error) => self.problem(&path, &error),
            }
        }
        objects
    }

    fn manifests(&mut self, folder: &Path) -> Vec<PathBuf> {
        if folder.is_file() {
            return vec![folder.to_owned()];
        }
        match super::directory::manifests(folder) {
            Ok(manifests) => manifests,
            Err(error) => {
                self.problem(folder, &error);
                Vec::new()
            }
        }
    }

    fn typed<T: DeserializeOwned>(&mut self, path: &Path, object: Value) -> Option<T> {
        let name = object
            .pointer("/metadata/name")
            .cloned()
            .unwrap_or_default();
        let typed = serde_json::from_value(object);
        typed
            .map_err(|error| self.problem(path, &format!("{name}: {error}")))
            .ok()
    }

    fn problem(&mut self, path: &Path, problem: &dyn fmt::Display) {
        self.problems.push(format!("{}: {problem}", path.display()));
    }
}

fn items(document: Value) -> Vec<Value> {
    match document {
        Value::Object(mut map) if map.get("items").is_some_and(Value::is_array) => {
            match map.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        Value::Null => Vec::new(),
        other => vec![other],
    }
}

fn kind(object: &Value) -> Option<Kind> {
    let kind = object.get("kind")?.as_str()?;
    let group = object.get("apiVersion")?.as_str()?;
    let group = group.split_once('/').map_or("", |(group, _)| group);
    Kind::NAMESPACED
        .into_iter()
        .chain([Kind::Namespace])
        .find(|known| known.as_str() == kind && known.resource().group == group)
}
