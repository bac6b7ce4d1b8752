//! Pods of the mesh: what the API server is told of them, and what runs in them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use spillway_clusters::{User, registry};
use spillway_e2e::app::{App, AppOptions};

use super::{Mesh, member};
use crate::network::NODE;
use crate::pod::{AgentOptions, Pod, PodOptions, Proxy};
use crate::sandbox;

/// A pod of the service.
#[derive(Debug)]
pub struct Endpoint {
    /// Its application.
    pub app: App,
    /// The pod.
    pub pod: Pod,
}

/// A pod of the mesh that is to be started.
pub(super) struct PodSpec<'s> {
    pub(super) name: &'s str,
    pub(super) workload: &'s str,
    pub(super) namespace: &'s str,
    pub(super) cluster: &'s str,
    pub(super) proxy: Proxy,
    /// Besides `app`, which names the workload.
    pub(super) labels: &'s [(&'s str, &'s str)],
    /// Where others find it, besides its own address.
    pub(super) outer: Option<Ipv4Addr>,
    /// Of the agent, over what it has otherwise.
    pub(super) environment: &'s [(&'s str, &'s str)],
}

impl Mesh {
    pub(super) async fn make_endpoint(
        &mut self,
        cluster: &str,
        app: AppOptions,
    ) -> Result<Endpoint> {
        let workload = self.service.workload.clone();
        let namespace = self.service.namespace.clone();
        let name = format!("{workload}-{}", self.started);
        let pod = self
            .make_pod(&PodSpec {
                name: &name,
                workload: &workload,
                namespace: &namespace,
                cluster,
                proxy: Proxy::Sidecar,
                labels: &[],
                outer: None,
                environment: &[],
            })
            .await?;
        let address = (Ipv4Addr::UNSPECIFIED, self.service.app_port).into();
        let owner = cluster.to_owned();
        let app = pod.run(async move { App::start(&owner, address, app).await });
        Ok(Endpoint {
            app: app.await?,
            pod,
        })
    }

    pub(super) async fn make_caller(
        &mut self,
        name: &str,
        cluster: &str,
        namespace: Option<&str>,
        proxy: Proxy,
    ) -> Result<Pod> {
        let own = self.service.namespace.clone();
        self.make_pod(&PodSpec {
            name,
            workload: name,
            namespace: namespace.unwrap_or(&own),
            cluster,
            proxy,
            labels: &[],
            outer: None,
            environment: &[],
        })
        .await
    }

    /// A pod whose proxy is starting, and its object, as long as it is not ready.
    pub(super) async fn make_pod(&mut self, spec: &PodSpec<'_>) -> Result<Pod> {
        self.started += 1;
        // Before the pod: what is mounted later is not seen in it.
        let envoy = sandbox::envoy(&self.envoy)?;
        let member = self.member(spec.cluster)?;
        let (number, network) = (member.number, member.network.clone());
        // What lies on no named network lies on one with all others that do not.
        let reached = match (spec.proxy, &network) {
            (Proxy::EastWest, _) | (_, None) => Vec::new(),
            _ => {
                let same = self.members.iter().filter(|it| it.network == network);
                same.map(|it| it.number).collect()
            }
        };
        let address = self.network.pod_address(number)?;
        let options = PodOptions {
            name: spec.name,
            namespace: spec.namespace,
            cluster: spec.cluster,
            proxy: spec.proxy,
            addresses: [address].into_iter().chain(spec.outer).collect(),
            reached,
        };
        let mut pod = Pod::start(&mut self.network, self.folder.path(), &options)?;
        let workload = spec.workload;
        let mut labels = BTreeMap::from([("app".to_owned(), workload.to_owned())]);
        let others = spec.labels.iter();
        labels.extend(others.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let object = self.object(spec, &labels);
        self.cluster(spec.cluster)?.apply(&object).await?;
        self.report_ready(&pod, false).await?;
        if spec.proxy == Proxy::None {
            return Ok(pod);
        }
        let token = member::token(self.cluster(spec.cluster)?, spec.namespace).await?;
        pod.start_agent(&AgentOptions {
            workload,
            labels: &labels,
            network: network.as_deref(),
            istiod: self.member(spec.cluster)?.istiod_address,
            root_certificate: &self.root_certificate,
            token: &token,
            envoy: &envoy,
            registry: &format!("{NODE}:{}", registry::PORT),
            environment: spec.environment,
        })?;
        Ok(pod)
    }

    fn object(&self, spec: &PodSpec<'_>, labels: &BTreeMap<String, String>) -> String {
        let mut labels = labels.clone();
        let mut containers = vec![json!({
            "name": "app",
            "image": "none",
            "ports": [{"containerPort": self.service.app_port}],
        })];
        if spec.proxy != Proxy::None {
            // What injection adds to the application's own.
            containers.push(json!({"name": "istio-proxy", "image": "none"}));
            let added = [
                ("security.istio.io/tlsMode", "istio"),
                ("service.istio.io/canonical-name", spec.workload),
            ];
            labels.extend(added.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": spec.name,
                "namespace": spec.namespace,
                "labels": labels,
            },
            "spec": {
                "nodeName": format!("node-{}", spec.cluster),
                "serviceAccountName": "default",
                "terminationGracePeriodSeconds": 0,
                "containers": containers,
            },
        })
        .to_string()
    }

    /// Says of a pod what a kubelet would: that it runs, and whether it is ready.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn report_ready(&self, pod: &Pod, ready: bool) -> Result<()> {
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
        let pods = self.pod_objects(pod)?;
        let patched = pods.patch_status(pod.name(), &params, &patch);
        patched.await.context("no pod of this name").map(drop)
    }

    /// Ends every endpoint of a cluster as a node does that is lost: without a word to anybody. The
    /// API server is told of it a little later, as by the node's controller.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn lose_endpoints(&mut self, cluster: &str) -> Result<()> {
        let (lost, kept) = std::mem::take(&mut self.endpoints)
            .into_iter()
            .partition(|it| it.pod.cluster() == cluster);
        self.endpoints = kept;
        let lost: Vec<Endpoint> = lost;
        let mut gone = Vec::new();
        for endpoint in lost {
            gone.push((
                self.pod_objects(&endpoint.pod)?,
                endpoint.pod.name().to_owned(),
            ));
        }
        for (pods, name) in gone {
            pods.delete(&name, &DeleteParams::default().grace_period(0))
                .await?;
        }
        Ok(())
    }

    /// Starts one more endpoint, and waits until all callers know it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn add_endpoint(&mut self, cluster: &str) -> Result<()> {
        let endpoint = self.make_endpoint(cluster, AppOptions::default()).await?;
        endpoint.pod.wait_ready().await?;
        self.report_ready(&endpoint.pod, true).await?;
        self.endpoints.push(endpoint);
        self.wait_endpoints().await
    }

    fn pod_objects(&self, pod: &Pod) -> Result<Api<v1::Pod>> {
        let client = self.cluster(pod.cluster())?.client(User::admin())?;
        Ok(Api::namespaced(client, pod.namespace()))
    }
}
