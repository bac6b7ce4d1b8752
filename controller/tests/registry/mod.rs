//! A real registry, and what is put into it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spillway_e2e::address::Block;
use spillway_e2e::process::Process;
use tempfile::TempDir;
use tokio::net::TcpStream;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PATIENCE: Duration = Duration::from_secs(20);

/// As a registry names it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Debian's registry.
pub(crate) struct Registry {
    pub(crate) address: String,
    _process: Process,
    _block: Block,
    _folder: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut block = Block::take()?;
        let address = format!("{}:5000", block.next_address()?);
        let config = json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": address},
        });
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config.to_string())?;
        let arguments = ["serve".to_owned(), file.display().to_string()];
        let log = folder.path().join("log");
        let mut process = Process::start("/usr/bin/docker-registry".as_ref(), &arguments, &log)?;
        let began = Instant::now();
        while TcpStream::connect(&address).await.is_err() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            ensure!(
                process.is_running() && began.elapsed() < PATIENCE,
                "no registry: {log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            address,
            _process: process,
            _block: block,
            _folder: folder,
        })
    }

    /// Puts a manifest there with the blobs that it names.
    pub(crate) async fn push(
        &self,
        media_type: &str,
        manifest: &Value,
        blobs: &[&[u8]],
    ) -> Result<String> {
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)?;
        let manifest = serde_json::to_vec(manifest)?;
        let digest = digest(&manifest);
        let tagged: Reference = format!("{}/spillway/filter:pushed", self.address).parse()?;
        client
            .auth(&tagged, &RegistryAuth::Anonymous, RegistryOperation::Push)
            .await?;
        for blob in blobs {
            client
                .push_blob(&tagged, blob.to_vec(), &self::digest(blob))
                .await?;
        }
        client
            .push_manifest_raw(&tagged, manifest, media_type.parse()?)
            .await?;
        Ok(format!("oci://{}/spillway/filter@{digest}", self.address))
    }
}

/// What a manifest says of a blob.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// A manifest of one layer.
pub(crate) fn manifest(layer_type: &str, layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [descriptor(layer_type, layer)],
    })
}
