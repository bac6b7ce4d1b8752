//! The controllers of Kubernetes itself, for the tests that need one.

use std::fs;

use anyhow::Result;

use crate::cluster::{Cluster, config, kubeconfig};
use crate::identity::User;
use crate::programs;
use crate::server::Server;

const PORT: u16 = 26257;

impl Cluster {
    /// Starts a kube-controller-manager with these controllers and waits until it is healthy; it
    /// ends when it is dropped. A cluster has one at a time. The names are its own, such as
    /// `namespace-controller`, `garbage-collector-controller`, `serviceaccount-controller`,
    /// `endpointslice-controller`, `deployment-controller` and `replicaset-controller`.
    ///
    /// # Errors
    /// When there is no such controller, or the program is missing or does not start.
    pub async fn start_controllers(&self, controllers: &[&str]) -> Result<Server> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let own = file("controllers.kubeconfig");
        fs::write(&own, self.kubeconfig(User::admin())?)?;
        let arguments = vec![
            format!("--kubeconfig={own}"),
            format!("--authentication-kubeconfig={own}"),
            format!("--authorization-kubeconfig={own}"),
            format!("--controllers={}", controllers.join(",")),
            format!("--bind-address={}", self.address),
            format!("--secure-port={PORT}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--service-account-private-key-file={}", file("tokens.key")),
            "--leader-elect=false".to_owned(),
        ];
        let url = format!("https://{}:{PORT}", self.address);
        let server = Server::new(
            programs::kubernetes("kube-controller-manager")?,
            arguments,
            self.folder.join("kube-controller-manager.log"),
            config(&kubeconfig(
                self.name(),
                &url,
                &self.authority,
                User::admin().into(),
            )?)?,
            "/healthz",
        );
        server.start().await?;
        Ok(server)
    }
}
