//! One cluster: an API server with an authority, users and objects of its own.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rcgen::KeyPair;
use serde_json::json;

use crate::certificates::{Authority, Certificate};
use crate::identity::{Identity, User};
use crate::proxy::FaultProxy;
use crate::server::Server;
use crate::{kubectl, manifests, programs};

/// Away from the port that a Kubernetes on the same machine may listen to everywhere.
const API_PORT: u16 = 26443;

/// A cluster that runs: see [`crate::Clusters::start`].
pub struct Cluster {
    name: String,
    url: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) folder: PathBuf,
    pub(crate) authority: Arc<Authority>,
    /// What every server of the cluster shows.
    pub(crate) certificate: Certificate,
    api_server: Server,
}

impl Cluster {
    pub(crate) fn new(
        name: &str,
        address: Ipv4Addr,
        etcd_url: &str,
        folder: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let authority = Authority::new(name)?;
        let certificate = authority.server(address)?;
        fs::write(folder.join("ca.crt"), authority.pem())?;
        fs::write(folder.join("server.crt"), &certificate.pem)?;
        fs::write(folder.join("server.key"), &certificate.key_pem)?;
        let tokens = KeyPair::generate()?;
        fs::write(folder.join("tokens.key"), tokens.serialize_pem())?;
        fs::write(folder.join("tokens.pub"), tokens.public_key_pem())?;

        let url = format!("https://{address}:{API_PORT}");
        let kubeconfig = kubeconfig(name, &url, &authority, User::admin().into())?;
        let api_server = Server::new(
            programs::kubernetes("kube-apiserver")?,
            arguments(name, address, etcd_url, folder),
            folder.join("kube-apiserver.log"),
            config(&kubeconfig)?,
            "/readyz",
        );
        Ok(Self {
            name: name.to_owned(),
            url,
            address,
            folder: folder.to_owned(),
            authority: Arc::new(authority),
            certificate,
            api_server,
        })
    }

    /// The name that it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `https://ADDRESS:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Its API server, to kill, pause and restart it.
    #[must_use]
    pub fn api_server(&self) -> &Server {
        &self.api_server
    }

    /// A kubeconfig with one context, named as the cluster; as JSON, which is YAML too.
    ///
    /// # Errors
    /// When the user's name does not fit into a certificate.
    pub fn kubeconfig(&self, identity: impl Into<Identity>) -> Result<String> {
        kubeconfig(&self.name, &self.url, &self.authority, identity.into())
    }

    /// A client that sends every request once: kube's own would hide what is to be seen.
    ///
    /// # Errors
    /// As [`Cluster::kubeconfig`].
    pub fn client(&self, identity: impl Into<Identity>) -> Result<Client> {
        client(&self.kubeconfig(identity)?)
    }

    /// The identity of a service account, by a token that is valid for an hour.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Identity> {
        let client = self.client(User::admin())?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
        let body = TokenRequest::default();
        let answer: TokenRequest = accounts
            .create_subresource("token", name, &PostParams::default(), &body)
            .await
            .with_context(|| format!("no token for {namespace}/{name}"))?;
        let status = answer.status.context("a TokenRequest without status")?;
        Ok(Identity::Token(
            status.token.context("a TokenRequest without token")?,
        ))
    }

    /// Applies manifests as [`User::admin`]: see [`crate::apply`].
    ///
    /// # Errors
    /// As [`crate::apply`].
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        manifests::apply(&self.client(User::admin())?, yaml).await
    }

    /// What `kubectl ARGUMENTS` prints for this identity, without colours.
    ///
    /// # Errors
    /// When kubectl fails; with what it says.
    pub async fn kubectl(
        &self,
        identity: impl Into<Identity>,
        arguments: &[&str],
    ) -> Result<String> {
        kubectl::run(&self.folder, &self.kubeconfig(identity)?, arguments).await
    }

    /// Starts a proxy before the API server that can misbehave.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn fault_proxy(&self) -> Result<FaultProxy> {
        FaultProxy::start(self, &[b"h2", b"http/1.1"]).await
    }

    /// As [`Cluster::fault_proxy`], but for HTTP/2, which it does not speak.
    ///
    /// # Errors
    /// As [`Cluster::fault_proxy`].
    pub async fn http1_proxy(&self) -> Result<FaultProxy> {
        FaultProxy::start(self, &[b"http/1.1"]).await
    }
}

/// As [`Cluster::kubeconfig`], for another address.
pub(crate) fn kubeconfig(
    cluster: &str,
    url: &str,
    ca: &Authority,
    identity: Identity,
) -> Result<String> {
    let user = match identity {
        Identity::User(user) => {
            let certificate = ca.client(user)?;
            json!({
                "client-certificate-data": ByteString(certificate.pem.into_bytes()),
                "client-key-data": ByteString(certificate.key_pem.into_bytes()),
            })
        }
        Identity::Token(token) => json!({"token": token}),
    };
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {
            "server": url,
            "certificate-authority-data": ByteString(ca.pem().into_bytes()),
        }}],
        "users": [{"name": cluster, "user": user}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
    });
    Ok(serde_json::to_string_pretty(&kubeconfig)?)
}

/// What kube makes of a kubeconfig, but for what the machine's environment and kube's patience add.
pub(crate) fn config(kubeconfig: &str) -> Result<Config> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let options = KubeConfigOptions::default();
    // Nothing in it has to be waited for: there are no files and no plug-ins.
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    let mut config =
        futures_util::FutureExt::now_or_never(config).context("a kubeconfig waits")??;
    config.proxy_url = None;
    config.default_retry = false;
    Ok(config)
}

/// As [`Cluster::client`].
pub(crate) fn client(kubeconfig: &str) -> Result<Client> {
    Ok(Client::try_from(config(kubeconfig)?)?)
}

fn arguments(name: &str, address: Ipv4Addr, etcd_url: &str, folder: &Path) -> Vec<String> {
    let file = |file: &str| folder.join(file).display().to_string();
    vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--etcd-prefix=/{name}"),
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        format!("--secure-port={API_PORT}"),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-issuer=https://{address}:{API_PORT}"),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Pods may be written without waiting for a controller to make their account.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]
}
