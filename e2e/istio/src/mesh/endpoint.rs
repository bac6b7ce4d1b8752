//! Pods of the mesh: what the API server is told of them, and what runs in them.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use spillway_clusters::{User, registry};
use spillway_e2e::app::{App, AppOptions};
use spillway_e2e::artefacts::default_envoy;

use super::{Mesh, member};
use crate::network::NODE;
use crate::pod::{AgentOptions, Pod};
use crate::sandbox;

/// A pod of the service.
#[derive(Debug)]
pub struct Endpoint {
    /// Its application.
    pub app: App,
    /// The pod.
    pub pod: Pod,
}

impl Mesh {
    pub(super) async fn make_endpoint(
        &mut self,
        cluster: &str,
        app: AppOptions,
    ) -> Result<Endpoint> {
        let workload = self.service.workload.clone();
        let name = format!("{workload}-{}", self.started);
        let pod = self.make_pod(&name, &workload, cluster).await?;
        let address = (Ipv4Addr::UNSPECIFIED, self.service.app_port).into();
        let owner = cluster.to_owned();
        let app = pod.run(async move { App::start(&owner, address, app).await });
        Ok(Endpoint {
            app: app.await?,
            pod,
        })
    }

    /// A pod with a sidecar that is starting, and its object, as long as it is not ready.
    pub(super) async fn make_pod(
        &mut self,
        name: &str,
        workload: &str,
        cluster: &str,
    ) -> Result<Pod> {
        self.started += 1;
        // Before the pod: what is mounted later is not seen in it.
        let envoy = sandbox::envoy(&default_envoy())?;
        let number = self.member(cluster)?.number;
        let address = self.network.pod_address(number)?;
        let mut pod = Pod::start(
            &mut self.network,
            self.folder.path(),
            name,
            cluster,
            address,
        )?;
        let namespace = &self.service.namespace;
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                // What injection adds to the application's own.
                "labels": {
                    "app": workload,
                    "security.istio.io/tlsMode": "istio",
                    "service.istio.io/canonical-name": workload,
                },
            },
            "spec": {
                "nodeName": format!("node-{cluster}"),
                "serviceAccountName": "default",
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "app",
                    "image": "none",
                    "ports": [{"containerPort": self.service.app_port}],
                }],
            },
        });
        self.cluster(cluster)?.apply(&object.to_string()).await?;
        self.report_ready(&pod, false).await?;
        let token = member::token(self.cluster(cluster)?, namespace).await?;
        pod.start_agent(&AgentOptions {
            namespace,
            workload,
            istiod: self.member(cluster)?.istiod_address,
            root_certificate: &self.root_certificate,
            token: &token,
            envoy: &envoy,
            registry: &format!("{NODE}:{}", registry::PORT),
        })?;
        Ok(pod)
    }

    /// Says of a pod what a kubelet would: that it runs, and whether it is ready.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn report_ready(&self, pod: &Pod, ready: bool) -> Result<()> {
        let client = self.cluster(pod.cluster())?.client(User::admin())?;
        let pods: Api<v1::Pod> = Api::namespaced(client, &self.service.namespace);
        let ready = if ready { "True" } else { "False" };
        let conditions = [
            ("Ready", ready),
            ("ContainersReady", ready),
            ("Initialized", "True"),
            ("PodScheduled", "True"),
        ];
        let conditions = conditions.map(|(kind, status)| json!({"type": kind, "status": status}));
        let status = json!({"status": {
            "phase": "Running",
            "podIP": pod.address(),
            "podIPs": [{"ip": pod.address()}],
            "conditions": conditions,
        }});
        let (params, patch) = (PatchParams::default(), Patch::Merge(status));
        let patched = pods.patch_status(pod.name(), &params, &patch);
        patched.await.context("no pod of this name").map(drop)
    }
}
