//! Pods that start while the mesh runs.

use anyhow::Result;

use super::Mesh;
use super::endpoint::PodSpec;
use crate::pod::Proxy;

impl Mesh {
    /// Starts a caller, with this environment of its agent over what it has otherwise, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; with the end of its log.
    pub async fn start_caller(
        &mut self,
        name: &str,
        cluster: &str,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let namespace = self.service.namespace.clone();
        let spec = PodSpec {
            name,
            workload: name,
            namespace: &namespace,
            cluster,
            proxy: Proxy::Sidecar,
            labels: &[],
            outer: None,
            environment,
        };
        let pod = self.make_pod(&spec).await?;
        pod.wait_ready().await?;
        self.report_ready(&pod, true).await?;
        self.callers.push(pod);
        Ok(())
    }
}
