//! One cluster of the mesh, with its control plane.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use spillway_clusters::{Cluster, Server, User};
use spillway_e2e::topology::Service;

use crate::{istiod, programs, wait};

/// Kubernetes' own controllers that a mesh stands on.
const CONTROLLERS: [&str; 3] = [
    "endpointslice-controller",
    "namespace-controller",
    "serviceaccount-controller",
];

pub(super) struct Member {
    pub(super) name: String,
    /// Its addresses are 10.200.NUMBER.0/24.
    pub(super) number: u8,
    pub(super) istiod_address: Ipv4Addr,
    /// The cluster's own address of the service.
    pub(super) service_address: Ipv4Addr,
    pub(super) istiod: Server,
    _controllers: Server,
}

impl Member {
    /// Starts what a cluster of the mesh has in addition to its API server.
    pub(super) async fn start(
        cluster: &Cluster,
        number: u8,
        istiod_address: Ipv4Addr,
        others: &[&Cluster],
        service: &Service,
        authority: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let name = cluster.name();
        let controllers = cluster.start_controllers(&CONTROLLERS).await?;
        let definitions = std::fs::read_to_string(programs::istio()?.join("crd-all.gen.yaml"))?;
        cluster.apply(&definitions).await?;
        cluster.apply(&objects(name, service)).await?;
        for other in others {
            cluster.apply(&remote_secret(other)?).await?;
        }
        let istiod = istiod::describe(cluster, istiod_address, authority, folder)?;
        istiod.start().await?;
        Ok(Self {
            name: name.to_owned(),
            number,
            istiod_address,
            service_address: service_address(cluster, service).await?,
            istiod,
            _controllers: controllers,
        })
    }
}

fn objects(cluster: &str, service: &Service) -> String {
    let (namespace, labels) = (&service.namespace, &service.labels);
    let host = &service.host;
    let name = host.split('.').next().unwrap_or(host);
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}),
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"istio-injection": "enabled"}},
        }),
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
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": service.port, "targetPort": service.app_port}],
            },
        }),
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "istio-system"},
            "spec": {"mtls": {"mode": "STRICT"}},
        }),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

/// How istiod learns of another cluster.
fn remote_secret(other: &Cluster) -> Result<String> {
    let name = other.name();
    let kubeconfig = ByteString(other.kubeconfig(User::admin())?.into_bytes());
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": format!("istio-remote-secret-{name}"),
            "namespace": "istio-system",
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": name},
        },
        "data": {name: kubeconfig},
    });
    Ok(secret.to_string())
}

async fn service_address(cluster: &Cluster, service: &Service) -> Result<Ipv4Addr> {
    let client = cluster.client(User::admin())?;
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(client, &service.namespace);
    let name = service.host.split('.').next().unwrap_or_default();
    let found = services.get(name).await?.spec;
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
