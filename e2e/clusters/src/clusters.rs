//! Any number of clusters on one etcd.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use kube::Config;
use spillway_e2e::address::Block;
use spillway_e2e::folder;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::programs;
use crate::server::Server;

/// Away from the ports that a Kubernetes on the same machine may listen to everywhere.
const ETCD_PORT: u16 = 22379;
const ETCD_PEER_PORT: u16 = 22380;

/// Running clusters; everything ends when this is dropped, or when the process ends in any way.
pub struct Clusters {
    // In this order they end: nobody is left to wait for an etcd that is gone.
    clusters: Vec<Cluster>,
    etcd: Server,
    etcd_url: String,
    _block: Block,
    folder: TempDir,
}

impl Clusters {
    /// Starts one API server per name, all on one etcd, and waits until they are ready.
    ///
    /// Clusters that must not share the fate of their etcd are started by separate calls.
    ///
    /// # Errors
    /// When a program is not installed, a name is not one of a cluster, or a server does not start.
    pub async fn start(names: &[&str]) -> Result<Self> {
        let folder = folder::create("spillway-clusters")?;
        let mut block = Block::take()?;
        let address = block.next_address()?;
        let etcd_url = format!("http://{address}:{ETCD_PORT}");
        let etcd = etcd(&etcd_url, address, folder.path())?;
        let mut clusters = Vec::new();
        for name in names {
            ensure!(is_label(name), "`{name}` is not of the form [a-z0-9-]+");
            let known = clusters.iter().any(|known: &Cluster| known.name() == *name);
            ensure!(!known, "two clusters of the name {name}");
            let folder = folder.path().join(name);
            let address = block.next_address()?;
            clusters.push(Cluster::new(name, address, &etcd_url, &folder)?);
        }
        let this = Self {
            clusters,
            etcd,
            etcd_url,
            _block: block,
            folder,
        };
        this.etcd.start().await?;
        let servers = this.clusters.iter().map(Cluster::api_server);
        try_join_all(servers.map(Server::start)).await?;
        Ok(this)
    }

    /// One of the clusters.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        let cluster = self.clusters.iter().find(|cluster| cluster.name() == name);
        cluster.with_context(|| format!("no cluster {name}"))
    }

    /// All of them, in the order of the names that they were started with.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter()
    }

    /// Where they keep their files; removed when this is dropped.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What all of them keep their objects in.
    #[must_use]
    pub fn etcd(&self) -> &Server {
        &self.etcd
    }

    /// Where that is, for whoever keeps something beside them: their keys begin with `/NAME`.
    #[must_use]
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }
}

fn etcd(url: &str, address: Ipv4Addr, folder: &Path) -> Result<Server> {
    let peers = format!("http://{address}:{ETCD_PEER_PORT}");
    let arguments = vec![
        "--name=etcd".to_owned(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=etcd={peers}"),
        // What is written must outlive the process, not the machine.
        "--unsafe-no-fsync".to_owned(),
    ];
    Ok(Server::new(
        programs::etcd()?,
        arguments,
        folder.join("etcd.log"),
        Config::new(url.parse()?),
        "/health",
    ))
}

/// Names stand in paths and in keys of etcd.
fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(allowed)
}
