//! One cluster of the mesh, with its control plane.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use spillway_clusters::{Cluster, Clusters, Server, User};
use spillway_e2e::topology::Service;

use super::builder::ClusterSpec;
use crate::network::Network;
use crate::{istioctl, istiod, programs, wait};

/// Istio's root namespace.
pub(super) const ROOT: &str = "istio-system";

/// Kubernetes' own controllers that a mesh stands on.
const CONTROLLERS: [&str; 4] = [
    "endpointslice-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
];

/// How control planes learn of other clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// By a Secret of the form that istioctl writes.
    #[default]
    Written,
    /// By what istioctl writes.
    Istioctl,
}

/// What all clusters of a mesh have in common.
pub(super) struct Setting<'m> {
    pub(super) clusters: &'m Clusters,
    pub(super) all: &'m [ClusterSpec],
    pub(super) service: &'m Service,
    /// By cluster.
    pub(super) namespaces: &'m BTreeSet<(String, String)>,
    pub(super) joining: Joining,
    pub(super) authority: &'m Path,
    pub(super) folder: &'m Path,
}

impl Setting<'_> {
    /// What a cluster has before any control plane reads it.
    pub(super) async fn prepare(&self, spec: &ClusterSpec) -> Result<Server> {
        let cluster = self.clusters.cluster(&spec.name)?;
        let controllers = cluster.start_controllers(&CONTROLLERS).await?;
        let definitions = std::fs::read_to_string(programs::istio()?.join("crd-all.gen.yaml"))?;
        cluster.apply(&definitions).await?;
        cluster.apply(&self.objects(spec)).await?;
        Ok(controllers)
    }

    fn objects(&self, spec: &ClusterSpec) -> String {
        let (cluster, service) = (&spec.name, self.service);
        let mut labels = json!({});
        if let Some(network) = &spec.network {
            labels = json!({"topology.istio.io/network": network});
        }
        let root = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": ROOT, "labels": labels},
        });
        let namespaces = self.namespaces.iter().filter(|it| it.0 == *cluster);
        let namespaces = namespaces.map(|(_, name)| {
            json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"istio-injection": "enabled"}},
            })
        });
        let others = [
            // Pods have their region from their node.
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": format!("node-{cluster}"),
                    "labels": {"topology.kubernetes.io/region": format!("region-{cluster}")},
                },
            }),
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name(service), "namespace": service.namespace},
                "spec": {
                    "selector": service.labels,
                    "ports": [
                        {"name": "http", "port": service.port, "targetPort": service.app_port},
                    ],
                },
            }),
            json!({
                "apiVersion": "security.istio.io/v1",
                "kind": "PeerAuthentication",
                "metadata": {"name": "default", "namespace": ROOT},
                "spec": {"mtls": {"mode": "STRICT"}},
            }),
        ];
        let all = [root].into_iter().chain(namespaces).chain(others);
        let all: Vec<String> = all.map(|object| object.to_string()).collect();
        all.join("\n---\n")
    }

    /// How a control plane learns of another cluster.
    fn remote_secret(&self, other: &str) -> Result<String> {
        let cluster = self.clusters.cluster(other)?;
        match self.joining {
            Joining::Written => Ok(written(other, cluster.kubeconfig(User::admin())?)),
            Joining::Istioctl => istioctl::create_remote_secret(self.folder, cluster),
        }
    }
}

pub(super) struct Member {
    pub(super) name: String,
    /// Its addresses are 10.200.NUMBER.0/24.
    pub(super) number: u8,
    pub(super) network: Option<String>,
    /// The cluster whose control plane serves it, unless it has one.
    pub(super) primary: Option<String>,
    pub(super) istiod_address: Ipv4Addr,
    /// The cluster's own address of the service.
    pub(super) service_address: Ipv4Addr,
    pub(super) istiod: Option<Server>,
    _controllers: Server,
}

impl Member {
    /// Starts the control plane of a cluster, unless it is another's.
    pub(super) async fn start(
        setting: &Setting<'_>,
        spec: &ClusterSpec,
        controllers: Server,
        number: u8,
    ) -> Result<Self> {
        let cluster = setting.clusters.cluster(&spec.name)?;
        let mut istiod_address = Network::control_plane(number);
        let mut istiod = None;
        match &spec.primary {
            Some(primary) => {
                let place = setting.all.iter().position(|it| it.name == *primary);
                let place = place.with_context(|| format!("no cluster {primary}"))?;
                istiod_address = Network::control_plane(u8::try_from(place)? + 1);
            }
            None => {
                let others = setting.all.iter().filter(|it| it.name != spec.name);
                for other in others {
                    cluster.apply(&setting.remote_secret(&other.name)?).await?;
                }
                let (authority, folder) = (setting.authority, setting.folder);
                let server = istiod::describe(cluster, istiod_address, authority, folder)?;
                server.start().await?;
                istiod = Some(server);
            }
        }
        Ok(Self {
            name: spec.name.clone(),
            number,
            network: spec.network.clone(),
            primary: spec.primary.clone(),
            istiod_address,
            service_address: service_address(cluster, setting.service).await?,
            istiod,
            _controllers: controllers,
        })
    }
}

/// A Secret as istioctl writes it, with an account that may do everything.
fn written(name: &str, kubeconfig: String) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": format!("istio-remote-secret-{name}"),
            "namespace": ROOT,
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": name},
        },
        "data": {name: ByteString(kubeconfig.into_bytes())},
    })
    .to_string()
}

/// The name of the service's object.
fn name(service: &Service) -> &str {
    service.host.split('.').next().unwrap_or_default()
}

async fn service_address(cluster: &Cluster, service: &Service) -> Result<Ipv4Addr> {
    let client = cluster.client(User::admin())?;
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(client, &service.namespace);
    let found = services.get(name(service)).await?.spec;
    let address = found.and_then(|spec| spec.cluster_ip);
    Ok(address.context("a service without an address")?.parse()?)
}

/// By which an agent asks istiod for its certificate: of the account `default`, once there is one.
pub(super) async fn token(cluster: &Cluster, namespace: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(User::admin())?, namespace);
    wait::until("there is an account", async || {
        Ok(accounts.get_opt("default").await?.is_some())
    })
    .await?;
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec!["istio-ca".to_owned()]),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let answer: TokenRequest = accounts
        .create_subresource("token", "default", &PostParams::default(), &body)
        .await?;
    let status = answer.status.context("a TokenRequest without status")?;
    status.token.context("a TokenRequest without token")
}
