//! Resources of the hub, of which one may be unreadable.
//!
//! A version of Spillway that is newer than this controller may have written what it does not know,
//! and a definition that was tampered with lets anything through. A list with one such object must
//! not fail as a whole: that would blind the controller for all others. So each is read by itself;
//! what cannot be read is kept with what is the matter with it, and is neither gone nor empty.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::DynamicObject;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::MeshClusterSpec;

/// A resource, if it can be read.
#[derive(Clone, Debug)]
pub enum Read<K> {
    /// It can.
    Whole(Arc<K>),
    /// It cannot.
    Not(Arc<Unreadable>),
}

/// A resource that is there and cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What is there.
    pub object: DynamicObject,
    /// What is the matter with it, with its path.
    pub error: String,
}

/// All that is there and cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// BurstPolicies.
    pub policies: Vec<Arc<Unreadable>>,
    /// Fleets.
    pub fleets: Vec<Arc<Unreadable>>,
    /// MeshClusters.
    pub clusters: Vec<Arc<Unreadable>>,
}

impl Unreadable {
    /// `NAMESPACE/NAME`, or the name of one that has no namespace.
    #[must_use]
    pub fn key(&self) -> String {
        let meta = &self.object.metadata;
        let name = meta.name.clone().unwrap_or_default();
        match &meta.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        }
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// A MeshCluster with what of it can be read: enough for others to know that it is there.
    #[must_use]
    pub fn cluster(&self) -> MeshCluster {
        let field = |name: &str| {
            self.object
                .data
                .get("spec")?
                .get(name)?
                .as_str()
                .map(str::to_owned)
        };
        let spec = MeshClusterSpec {
            control_plane: field("controlPlane"),
            cluster_name: field("clusterName"),
            prefix: field("prefix").unwrap_or_default(),
            ..MeshClusterSpec::default()
        };
        MeshCluster {
            metadata: self.object.metadata.clone(),
            spec,
            status: None,
        }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Read<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match serde_path_to_error::deserialize(&value) {
            Ok(whole) => Ok(Self::Whole(Arc::new(whole))),
            Err(error) => {
                let object = serde_json::from_value(value).map_err(D::Error::custom)?;
                let error = error.to_string();
                Ok(Self::Not(Arc::new(Unreadable { object, error })))
            }
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Resource for Read<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Whole(whole) => whole.meta(),
            Self::Not(unreadable) => &unreadable.object.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Whole(whole) => Arc::make_mut(whole).meta_mut(),
            Self::Not(unreadable) => &mut Arc::make_mut(unreadable).object.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spillway_api::Fleet;

    use super::*;

    #[test]
    fn one_that_cannot_be_read_is_kept_with_its_error() {
        let read = |spec: Value| {
            let object = json!({
                "apiVersion": "spillway.dev/v1alpha1", "kind": "Fleet",
                "metadata": {"name": "cloud"}, "spec": spec,
            });
            serde_json::from_value::<Read<Fleet>>(object).unwrap()
        };
        let good = read(json!({"clusterSelector": {"matchLabels": {"site": "cloud"}}}));
        assert!(matches!(good, Read::Whole(_)));
        let Read::Not(unreadable) = read(json!({"clusterSelector": {"matchLabels": 1}})) else {
            panic!("it was read");
        };
        assert_eq!(unreadable.key(), "cloud");
        assert!(
            unreadable
                .error
                .contains("spec.clusterSelector.matchLabels"),
            "{}",
            unreadable.error
        );
    }

    #[test]
    fn of_a_cluster_the_names_are_known() {
        let object = json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "MeshCluster",
            "metadata": {"name": "far"},
            "spec": {"access": "Tunnel", "clusterName": "far-1", "controlPlane": "near"},
        });
        let Read::<MeshCluster>::Not(unreadable) = serde_json::from_value(object).unwrap() else {
            panic!("it was read");
        };
        let spec = unreadable.cluster().spec;
        assert_eq!(spec.cluster_name.as_deref(), Some("far-1"));
        assert_eq!(spec.control_plane.as_deref(), Some("near"));
    }
}
