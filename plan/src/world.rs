//! The clusters as the planner sees them: which can be used, who serves whom, what is where.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{Selector, SelectorExt};
use serde_json::Value;
use spillway_api::mesh_cluster::Access;
use spillway_api::{Fleet, MeshCluster};

use crate::input::{Cluster, Input, Observed, Unreadable};
use crate::settings::Mesh;
use crate::text::Text;

/// The clusters, fleets and settings.
pub(crate) struct World<'a> {
    pub(crate) mesh: &'a Mesh,
    /// The clusters, by MeshCluster.
    pub(crate) sites: BTreeMap<&'a str, Site<'a>>,
    /// Why clusters are not used, by MeshCluster.
    pub(crate) problems: BTreeMap<String, String>,
    /// Those that are a cluster which another MeshCluster is already.
    twins: BTreeSet<&'a str>,
    /// The clusters of every fleet in the order of their names, by Fleet.
    pub(crate) fleets: BTreeMap<&'a str, Vec<&'a str>>,
    pub(crate) unreadable: &'a Unreadable,
    /// Some clusters are reached through gateways only.
    pub(crate) several_networks: bool,
    /// The MeshClusters that every control plane serves.
    served: BTreeMap<&'a str, Vec<&'a str>>,
    /// MeshClusters by their name in Istio.
    by_istio: BTreeMap<&'a str, &'a str>,
}

/// A cluster.
pub(crate) struct Site<'a> {
    /// The MeshCluster.
    pub(crate) name: &'a str,
    /// The name that Istio and the filter know it by.
    pub(crate) istio: &'a str,
    /// The MeshCluster whose istiod serves it.
    pub(crate) control_plane: &'a str,
    pub(crate) access: Access,
    pub(crate) prefix: &'a str,
    pub(crate) observed: Option<&'a Observed>,
    texts: &'a [Text],
    /// They are read where something was not seen, which is seldom.
    deployed: OnceCell<Vec<Value>>,
    services: BTreeMap<(&'a str, &'a str), &'a Service>,
}

impl<'a> Site<'a> {
    fn new(cluster: &'a Cluster) -> Option<Self> {
        let spec = &cluster.resource.spec;
        let name = cluster.resource.metadata.name.as_deref()?;
        let observed = cluster.observed.as_deref();
        let services = observed
            .map(|observed| observed.services.as_slice())
            .unwrap_or_default();
        Some(Self {
            name,
            istio: spec.cluster_name.as_deref().unwrap_or(name),
            control_plane: spec.control_plane.as_deref().unwrap_or(name),
            access: spec.access,
            prefix: &spec.prefix,
            observed,
            texts: &cluster.deployed,
            deployed: OnceCell::new(),
            services: services
                .iter()
                .filter_map(|service| {
                    let meta = &service.metadata;
                    let key = (meta.namespace.as_deref()?, meta.name.as_deref()?);
                    Some((key, service.as_ref()))
                })
                .collect(),
        })
    }

    /// The objects of ours that are there.
    pub(crate) fn deployed(&self) -> &[Value] {
        self.deployed
            .get_or_init(|| self.texts.iter().map(Text::value).collect())
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        self.services.get(&(namespace, name)).copied()
    }

    /// How many endpoints of a service are ready here; `None` where nobody knows.
    pub(crate) fn ready(&self, namespace: &str, service: &str) -> Option<u32> {
        let endpoints = &self.observed?.endpoints;
        let key = format!("{namespace}/{service}");
        Some(endpoints.get(&key).map_or(0, |found| found.ready))
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(input: &'a Input) -> Self {
        let mut world = Self {
            mesh: &input.mesh,
            sites: BTreeMap::new(),
            problems: BTreeMap::new(),
            twins: BTreeSet::new(),
            fleets: BTreeMap::new(),
            unreadable: &input.unreadable,
            several_networks: false,
            served: BTreeMap::new(),
            by_istio: BTreeMap::new(),
        };
        world.take_in(&input.clusters);
        world.index();
        world.look_for_control_planes();
        for fleet in &input.fleets {
            world.gather(fleet, &input.clusters);
        }
        world
    }

    /// The older of two that claim one identity has it; one that is attached comes before one that
    /// is Discovered, however old.
    fn take_in(&mut self, clusters: &'a [Cluster]) {
        let mut by_age: Vec<&Cluster> = clusters.iter().collect();
        by_age.sort_by_key(|cluster| age(&cluster.resource));
        let mut uids: BTreeMap<&str, &str> = BTreeMap::new();
        let mut istio_names: BTreeMap<&str, &str> = BTreeMap::new();
        for cluster in by_age {
            let Some(site) = Site::new(cluster) else {
                continue;
            };
            let uid = site.observed.map(|seen| seen.uid.as_str());
            let problem = if let Some(other) = uid.and_then(|uid| uids.get(uid)) {
                self.twins.insert(site.name);
                Some(format!(
                    "is the same cluster as the MeshCluster {other} (uid {}): delete one of the two",
                    uid.unwrap_or_default()
                ))
            } else if let Some(other) = istio_names.get(site.istio) {
                Some(format!(
                    "has the name {} in Istio, as the MeshCluster {other} has: write another clusterName",
                    site.istio
                ))
            } else {
                wrong_name(&site)
            };
            if let Some(problem) = problem {
                self.problems.insert(site.name.to_owned(), problem);
                continue;
            }
            if let Some(uid) = uid.filter(|uid| !uid.is_empty()) {
                uids.insert(uid, site.name);
            }
            istio_names.insert(site.istio, site.name);
            self.sites.insert(site.name, site);
        }
    }

    /// What would otherwise be searched for per policy and control plane.
    fn index(&mut self) {
        let mut networks = BTreeSet::new();
        for site in self.sites.values() {
            networks.extend(site.observed.map(|seen| seen.network.as_deref()));
            self.by_istio.insert(site.istio, site.name);
            let served = self.served.entry(site.control_plane).or_default();
            served.push(site.name);
        }
        self.several_networks = networks.len() > 1;
    }

    fn look_for_control_planes(&mut self) {
        for site in self.sites.values() {
            if let Some(problem) = self.unprogrammable(site) {
                self.problems.insert(site.name.to_owned(), problem);
            }
        }
    }

    fn gather(&mut self, fleet: &'a Fleet, clusters: &'a [Cluster]) {
        let Some(name) = fleet.metadata.name.as_deref() else {
            return;
        };
        // A selector that cannot be read, or that takes in everything, takes in nothing.
        let selector = Selector::try_from(fleet.spec.cluster_selector.clone())
            .ok()
            .filter(|selector| !selector.selects_all());
        let none = BTreeMap::new();
        let mut members: Vec<&str> = clusters
            .iter()
            .filter_map(|cluster| {
                let meta = &cluster.resource.metadata;
                let name = meta.name.as_deref()?;
                let labels = meta.labels.as_ref().unwrap_or(&none);
                let in_it = self.sites.contains_key(name)
                    && selector.as_ref().is_some_and(|s| s.matches(labels));
                in_it.then_some(name)
            })
            .collect();
        members.sort_unstable();
        self.fleets.insert(name, members);
    }

    /// Why nothing can be written for a cluster.
    pub(crate) fn unprogrammable(&self, site: &Site<'_>) -> Option<String> {
        let Some(plane) = self.sites.get(site.control_plane) else {
            return Some(format!(
                "its controlPlane {} is no MeshCluster that can be used",
                site.control_plane
            ));
        };
        if plane.control_plane != plane.name {
            return Some(format!(
                "its controlPlane {} is itself served by {}: name the cluster whose istiod it is",
                plane.name, plane.control_plane
            ));
        }
        if plane.access == Access::Discovered {
            return Some(
                "is Discovered: the account can read and not write; attach the cluster".to_owned(),
            );
        }
        plane
            .observed
            .is_some_and(|seen| seen.without_istio)
            .then(|| {
                format!(
                    "has no Istio that can be written to: install Istio 1.22 or newer in {}, which serves networking.istio.io/v1 and extensions.istio.io/v1alpha1",
                    plane.name
                )
            })
    }

    /// The clusters in which no filter of ours can run.
    pub(crate) fn idle(&self) -> BTreeSet<String> {
        let empty = |plane: &Site<'_>| {
            let without = plane.observed.is_some_and(|seen| seen.without_istio);
            plane.access == Access::Discovered || without
        };
        let sites = self.sites.values();
        let idle = sites.filter(|site| self.sites.get(site.control_plane).is_some_and(empty));
        let idle = idle.map(|site| site.name).chain(self.twins.iter().copied());
        idle.map(str::to_owned).collect()
    }

    /// The control planes that can be written to and were seen.
    pub(crate) fn control_planes(&self) -> impl Iterator<Item = (&Site<'a>, &'a Observed)> {
        self.sites.values().filter_map(|site| {
            let observed = site.observed?;
            let usable = site.control_plane == site.name && self.unprogrammable(site).is_none();
            usable.then_some((site, observed))
        })
    }

    /// The clusters that a control plane serves.
    pub(crate) fn served(&self, plane: &str) -> impl Iterator<Item = &Site<'a>> {
        let names = self.served.get(plane).into_iter().flatten();
        names.filter_map(|name| self.sites.get(name))
    }

    /// A cluster by its name in Istio.
    pub(crate) fn by_istio(&self, name: &str) -> Option<&Site<'a>> {
        self.sites.get(self.by_istio.get(name)?)
    }
}

fn age(resource: &MeshCluster) -> (bool, Option<&Time>, Option<&str>) {
    let meta = &resource.metadata;
    (
        resource.spec.access == Access::Discovered,
        meta.creation_timestamp.as_ref(),
        meta.name.as_deref(),
    )
}

/// The filter's rules for the table of clusters.
fn wrong_name(site: &Site<'_>) -> Option<String> {
    let tag = |text: &str, most: usize| {
        text.len() <= most
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let begins = |text: &str| {
        text.bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
    };
    if !tag(site.istio, 63) || !begins(site.istio) {
        return Some(
            "its name in Istio cannot be used: write a clusterName of 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"
                .to_owned(),
        );
    }
    (!tag(site.prefix, 64))
        .then(|| "its prefix cannot be used: write at most 64 of A-Z a-z 0-9 . _ -".to_owned())
}
