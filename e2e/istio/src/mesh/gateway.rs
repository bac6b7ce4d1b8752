//! Gateways: the one that other networks reach a cluster by, and the one that the world does.
//!
//! Both are Envoys of their own with Istio's agent, as Istio installs them: a pod, a Service that
//! a load balancer gives an address, and a Gateway. Who asks for the service of another network is
//! handed the address of the gateway there, and the gateway finds the service by the name in the
//! handshake, which it does not end.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_e2e::client::Target;

use super::endpoint::PodSpec;
use super::{Mesh, member};
use crate::network::Network;
use crate::pod::{Pod, Proxy};

/// Where east–west gateways take what comes from other networks.
pub(super) const CROSSING: u16 = 15443;
/// Where ingress gateways take requests.
const INGRESS: u16 = 8080;
/// The namespace of ingress gateways: Istio advises against its own root namespace.
pub(super) const NAMESPACE: &str = "istio-ingress";
/// The Gateway of an ingress gateway, as VirtualServices name it.
pub const GATEWAY: &str = "istio-ingress/ingressgateway";
/// The host that ingress gateways are asked for.
pub const HOST: &str = "shop.example.com";

/// A gateway that runs.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) pod: Pod,
    pub(super) is_ingress: bool,
}

impl Mesh {
    /// Starts the gateway by which other networks reach a cluster.
    pub(super) async fn start_east_west(&mut self, cluster: &str) -> Result<()> {
        let network = self.member(cluster)?.network.clone();
        let network = network.with_context(|| format!("{cluster} lies on no network"))?;
        let label = ("topology.istio.io/network", network.as_str());
        let server = json!({
            "port": {"number": CROSSING, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"},
            "hosts": ["*.local"],
        });
        self.start_gateway(cluster, Proxy::EastWest, &[label], &server)
            .await
    }

    /// Starts an ingress gateway, for the host [`HOST`].
    pub(super) async fn start_ingress(&mut self, cluster: &str) -> Result<()> {
        let server = json!({
            "port": {"number": INGRESS, "name": "http", "protocol": "HTTP"},
            "hosts": [HOST],
        });
        self.start_gateway(cluster, Proxy::Ingress, &[], &server)
            .await
    }

    async fn start_gateway(
        &mut self,
        cluster: &str,
        proxy: Proxy,
        labels: &[(&str, &str)],
        server: &Value,
    ) -> Result<()> {
        let is_ingress = proxy == Proxy::Ingress;
        let (name, namespace) = if is_ingress {
            ("ingressgateway", NAMESPACE)
        } else {
            ("eastwestgateway", member::ROOT)
        };
        let labels = [&[("istio", name)][..], labels].concat();
        let of_service: serde_json::Map<String, Value> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let object = format!("istio-{name}");
        let port = server.pointer("/port").cloned().unwrap_or_default();
        let (number, title) = (port.get("number"), port.get("name"));
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": object, "namespace": namespace, "labels": of_service},
            "spec": {
                "type": "LoadBalancer",
                "selector": {"istio": name},
                "ports": [{"name": title, "port": number, "targetPort": number}],
            },
        });
        // A primary reads the Gateways of its own cluster, for the remote ones too.
        let primary = self.primary(cluster)?.unwrap_or(cluster).to_owned();
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"istio": name}, "servers": [server]},
        });
        self.cluster(cluster)?.apply(&service.to_string()).await?;
        self.cluster(&primary)?.apply(&gateway.to_string()).await?;
        let outer = Network::gateway(self.member(cluster)?.number);
        if !is_ingress {
            // What a load balancer does.
            let client = self.cluster(cluster)?.client(User::admin())?;
            let services: Api<Service> = Api::namespaced(client, namespace);
            let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": outer}]}}});
            services
                .patch_status(&object, &PatchParams::default(), &Patch::Merge(status))
                .await?;
        }
        let pod = self
            .make_pod(&PodSpec {
                name: &format!("{object}-{cluster}"),
                workload: &object,
                namespace,
                cluster,
                proxy,
                labels: &labels,
                outer: (!is_ingress).then_some(outer),
                environment: &[],
            })
            .await?;
        self.gateways.push(Gateway { pod, is_ingress });
        Ok(())
    }

    /// Where the world finds the ingress gateway of a cluster.
    ///
    /// # Errors
    /// When there is none.
    pub fn ingress(&self, cluster: &str) -> Result<Target> {
        let mut gateways = self.gateways.iter().filter(|it| it.is_ingress);
        let gateway = gateways.find(|it| it.pod.cluster() == cluster);
        let gateway = gateway.with_context(|| format!("no ingress gateway in {cluster}"))?;
        Ok(Target {
            address: SocketAddr::from((gateway.pod.address(), INGRESS)),
            host: HOST.to_owned(),
            http2: false,
        })
    }
}
