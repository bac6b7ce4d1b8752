//! What is to be made and deleted, from the remote secrets and the MeshClusters that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use spillway_api::MeshCluster;
use spillway_api::mesh_cluster::{Access, MeshClusterSpec, SecretRef};
use spillway_plan::names;
use spillway_plan::output::{MANAGED_BY, SPILLWAY};

use super::secrets::{RemoteSecret, Secrets};

/// The Secret that a MeshCluster was made from, as `NAMESPACE/NAME`.
pub const REMOTE_SECRET: &str = "spillway.dev/remote-secret";

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// MeshClusters to make.
    pub make: Vec<MeshCluster>,
    /// MeshClusters of ours to delete.
    pub delete: Vec<Arc<MeshCluster>>,
    /// Secrets that tell of a cluster of which an older one tells already.
    pub younger: Vec<Younger>,
}

/// A Secret that comes too late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Younger {
    /// The Secret.
    pub secret: RemoteSecret,
    /// The cluster, by its name in Istio.
    pub cluster: String,
    /// The older Secret, as `NAMESPACE/NAME`.
    pub older: String,
}

/// What is to be done, for these remote secrets and MeshClusters.
#[must_use]
pub fn changes(secrets: &Secrets, clusters: &[Arc<MeshCluster>]) -> Changes {
    let mut changes = Changes::default();
    let told = told(secrets, &mut changes.younger);
    let (ours, others): (Vec<_>, Vec<_>) = clusters.iter().partition(|cluster| is_ours(cluster));
    let others: BTreeSet<&str> = others.iter().map(|cluster| istio_name(cluster)).collect();
    let mut known = others.clone();
    for cluster in ours {
        let name = istio_name(cluster);
        let from = cluster.annotations().get(REMOTE_SECRET);
        let holds = told.get(name).map(|secret| place(secret)) == from.cloned();
        if !others.contains(name) && (holds || is_unknown(secrets, from)) {
            known.insert(name);
        } else {
            changes.delete.push(cluster.clone());
        }
    }
    let stay = clusters.iter().filter(|it| !changes.delete.contains(it));
    let mut taken: BTreeSet<String> = stay.map(|cluster| cluster.name_any()).collect();
    for (name, secret) in told.iter().filter(|(name, _)| !known.contains(*name)) {
        let names = [names::cluster(name), names::hashed_cluster(name)];
        let Some(free) = names.into_iter().find(|name| !taken.contains(name)) else {
            continue;
        };
        taken.insert(free.clone());
        changes.make.push(discovered(free, name, secret));
    }
    changes
}

/// The Secret that tells of each cluster: the oldest.
fn told<'a>(
    secrets: &'a Secrets,
    younger: &mut Vec<Younger>,
) -> BTreeMap<&'a str, &'a RemoteSecret> {
    let all = secrets.values().flatten().flat_map(BTreeMap::values);
    let mut by_age: Vec<&RemoteSecret> = all.collect();
    by_age.sort_by_key(|secret| (&secret.created, &secret.namespace, &secret.name));
    let mut told: BTreeMap<&str, &RemoteSecret> = BTreeMap::new();
    for secret in by_age {
        for cluster in &secret.clusters {
            let older = *told.entry(cluster).or_insert(secret);
            if older.uid != secret.uid {
                younger.push(Younger {
                    secret: secret.clone(),
                    cluster: cluster.clone(),
                    older: place(older),
                });
            }
        }
    }
    told
}

fn place(secret: &RemoteSecret) -> String {
    format!("{}/{}", secret.namespace, secret.name)
}

/// Whether the namespace of a Secret is watched and was not listed yet.
fn is_unknown(secrets: &Secrets, place: Option<&String>) -> bool {
    let namespace = place.and_then(|place| place.split('/').next());
    let known = namespace.and_then(|namespace| secrets.get(namespace));
    known.is_some_and(Option::is_none)
}

fn is_ours(cluster: &MeshCluster) -> bool {
    let by = cluster.labels().get(MANAGED_BY).map(String::as_str);
    cluster.spec.access == Access::Discovered
        && by == Some(SPILLWAY)
        && cluster.annotations().contains_key(REMOTE_SECRET)
}

fn istio_name(cluster: &Arc<MeshCluster>) -> &str {
    let own = cluster.metadata.name.as_deref().unwrap_or_default();
    cluster.spec.cluster_name.as_deref().unwrap_or(own)
}

fn discovered(name: String, istio_name: &str, secret: &RemoteSecret) -> MeshCluster {
    let metadata = ObjectMeta {
        name: Some(name),
        labels: Some([(MANAGED_BY.to_owned(), SPILLWAY.to_owned())].into()),
        annotations: Some([(REMOTE_SECRET.to_owned(), place(secret))].into()),
        ..ObjectMeta::default()
    };
    let spec = MeshClusterSpec {
        access: Access::Discovered,
        cluster_name: Some(istio_name.to_owned()),
        secret_ref: Some(SecretRef {
            namespace: secret.namespace.clone(),
            name: secret.name.clone(),
        }),
        ..MeshClusterSpec::default()
    };
    MeshCluster {
        metadata,
        spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn secret(name: &str, age: i64, clusters: &[&str]) -> (String, RemoteSecret) {
        let secret = RemoteSecret {
            namespace: "istio-system".to_owned(),
            name: name.to_owned(),
            uid: format!("uid of {name}"),
            created: Timestamp::from_second(1_000 - age).ok().map(Time),
            clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
        };
        (name.to_owned(), secret)
    }

    fn secrets<const N: usize>(of: [(String, RemoteSecret); N]) -> Secrets {
        Secrets::from([("istio-system".to_owned(), Some(of.into()))])
    }

    fn cluster(name: &str, change: impl FnOnce(&mut MeshCluster)) -> Arc<MeshCluster> {
        let mut cluster = MeshCluster::new(name, MeshClusterSpec::default());
        change(&mut cluster);
        Arc::new(cluster)
    }

    fn names(clusters: &[MeshCluster]) -> Vec<String> {
        clusters.iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn what_nobody_attached_is_made_once() {
        let told = secrets([secret("remote", 1, &["east", "West_1", "north"])]);
        let there = [
            cluster("east", |_| {}),
            cluster("far", |far| {
                far.spec.cluster_name = Some("north".to_owned())
            }),
        ];
        let changes = super::changes(&told, &there);
        assert_eq!(names(&changes.make).len(), 1);
        let made = &changes.make[0];
        assert!(
            made.name_any().starts_with("west-1-"),
            "{}",
            made.name_any()
        );
        assert_eq!(made.spec.cluster_name.as_deref(), Some("West_1"));
        assert_eq!(made.spec.access, Access::Discovered);
        let there = [&there[..], &[Arc::new(made.clone())]].concat();
        assert_eq!(super::changes(&told, &there), Changes::default());
    }

    #[test]
    fn a_name_that_is_taken_leaves_another() {
        let told = secrets([secret("remote", 1, &["east"])]);
        let there = [cluster("east", |it| {
            it.spec.cluster_name = Some("another".to_owned());
        })];
        let changes = super::changes(&told, &there);
        let made = &changes.make[0];
        assert_ne!(made.name_any(), "east");
        assert_eq!(made.spec.cluster_name.as_deref(), Some("east"));
    }

    #[test]
    fn what_istio_forgets_goes_unless_somebody_attached_it() {
        let told = secrets([secret("remote", 1, &["east", "west"])]);
        let made = super::changes(&told, &[]).make;
        let mut there: Vec<Arc<MeshCluster>> = made.into_iter().map(Arc::new).collect();
        let mut attached = MeshCluster::clone(&there[0]);
        attached.spec.access = Access::Attached;
        there[0] = Arc::new(attached);
        let changes = super::changes(&secrets([]), &there);
        assert_eq!(changes.make, []);
        assert_eq!(changes.delete, there[1..]);
        // A namespace that cannot be listed tells nothing, one that is not watched any more does.
        let unknown = Secrets::from([("istio-system".to_owned(), None)]);
        assert_eq!(super::changes(&unknown, &there), Changes::default());
        assert_eq!(super::changes(&Secrets::new(), &there).delete, there[1..]);
    }

    #[test]
    fn one_that_somebody_attaches_beside_it_takes_its_place() {
        let told = secrets([secret("remote", 1, &["east"])]);
        let ours = Arc::new(super::changes(&told, &[]).make[0].clone());
        let theirs = cluster("mine", |it| it.spec.cluster_name = Some("east".to_owned()));
        let changes = super::changes(&told, &[ours.clone(), theirs]);
        assert_eq!(changes.delete, [ours]);
        assert_eq!(changes.make, []);
    }

    #[test]
    fn of_two_secrets_the_older_wins() {
        let younger = secret("a-younger", 1, &["east"]);
        let told = secrets([younger.clone(), secret("older", 9, &["east"])]);
        let changes = super::changes(&told, &[]);
        let from = |cluster: &MeshCluster| cluster.annotations()[REMOTE_SECRET].clone();
        assert_eq!(
            changes.make.iter().map(from).collect::<Vec<_>>(),
            ["istio-system/older"]
        );
        assert_eq!(changes.younger[0].secret, younger.1);
        assert_eq!(changes.younger[0].older, "istio-system/older");
        // When the older goes, what was made from it goes, and comes again from the other.
        let there = [Arc::new(changes.make[0].clone())];
        let changes = super::changes(&secrets([younger]), &there);
        assert_eq!(changes.delete, there);
        assert_eq!(
            changes.make.iter().map(from).collect::<Vec<_>>(),
            ["istio-system/a-younger"]
        );
    }
}
