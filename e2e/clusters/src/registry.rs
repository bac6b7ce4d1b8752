//! Debian's container registry, for the tests that need an image to be had.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spillway_e2e::address::Block;
use spillway_e2e::folder;
use spillway_e2e::process::Process;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;

use crate::certificates::Authority;

/// Where Debian's package puts it: `tools/setup registry` installs it.
const PROGRAM: &str = "/usr/bin/docker-registry";
/// Where every registry stands.
pub const PORT: u16 = 5000;
const CONFIGURATION: &str = "config.yml";
/// It is there in a second; the rest is for a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// The type of an image's manifest.
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The type of a layer that Istio takes.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Whom a guarded registry knows, and the password.
pub const KNOWN: (&str, &str) = ("alice", "secret-of-alice");
/// Bcrypt's hash of the password, of the lowest cost.
const HASH: &str = "$2b$04$8/axiXwhWLgGKnrcOjsSCOjKvCd7d5I.I1aR0tVWuUw0hFLofxAfy";

/// What stands before a registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Guard {
    None,
    Tls,
    TlsAndAccounts,
}

/// A registry; ends when it is dropped.
pub struct Registry {
    address: String,
    ca_pem: String,
    process: Option<Process>,
    _block: Option<Block>,
    folder: TempDir,
}

impl Registry {
    /// Starts an empty one that asks for nothing, without TLS.
    ///
    /// # Errors
    /// When it is not installed or does not start; with its log.
    pub async fn start() -> Result<Self> {
        let mut block = Block::take()?;
        Self::start_as(block.next_address()?, Some(block), Guard::None).await
    }

    /// Starts an empty one at an address of one's own.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub async fn start_at(address: Ipv4Addr) -> Result<Self> {
        Self::start_as(address, None, Guard::None).await
    }

    /// Starts an empty one with TLS that asks for nothing.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub async fn start_with_tls() -> Result<Self> {
        let mut block = Block::take()?;
        Self::start_as(block.next_address()?, Some(block), Guard::Tls).await
    }

    /// Starts an empty one with TLS that takes pushes and gives images only to [`KNOWN`].
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub async fn start_guarded() -> Result<Self> {
        let mut block = Block::take()?;
        Self::start_as(block.next_address()?, Some(block), Guard::TlsAndAccounts).await
    }

    async fn start_as(ip: Ipv4Addr, block: Option<Block>, guard: Guard) -> Result<Self> {
        let folder = folder::create("spillway-registry")?;
        let address = format!("{ip}:{PORT}");
        let authority = Authority::new("registry")?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let (mut tls, mut auth) = (json!({}), json!({}));
        if guard >= Guard::Tls {
            let shown = authority.server(ip)?;
            let certificate = write("tls.crt", shown.pem)?;
            let key = write("tls.key", shown.key_pem)?;
            tls = json!({"certificate": certificate, "key": key});
        }
        if guard == Guard::TlsAndAccounts {
            let accounts = write("htpasswd", format!("{}:{HASH}\n", KNOWN.0))?;
            auth = json!({"htpasswd": {"realm": "registry", "path": accounts}});
        }
        let config = json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": address, "tls": tls},
            "auth": auth,
        });
        std::fs::write(folder.path().join(CONFIGURATION), config.to_string())?;
        let mut this = Self {
            address,
            ca_pem: authority.pem(),
            process: None,
            _block: block,
            folder,
        };
        this.restart().await?;
        Ok(this)
    }

    /// Kills it. What was pushed is there again after [`Registry::restart`].
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops its time: connections are accepted by the kernel, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends [`Registry::pause`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("the registry does not run")?;
        let pid = Pid::from_raw(process.id().try_into()?).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Starts it anew in its place.
    ///
    /// # Errors
    /// When it does not start; with its log.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let file = |name| self.folder.path().join(name);
        let arguments = [
            "serve".to_owned(),
            file(CONFIGURATION).display().to_string(),
        ];
        let mut process = Process::start(Path::new(PROGRAM), &arguments, &file("log"))?;
        let began = Instant::now();
        while TcpStream::connect(&self.address).await.is_err() {
            let log = std::fs::read_to_string(file("log")).unwrap_or_default();
            ensure!(
                process.is_running() && began.elapsed() < READY_WITHIN,
                "no registry: {log}"
            );
            tokio::time::sleep(LOOK).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The authority of one with TLS.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Puts a manifest there with the blobs that it names. Returns the image's URL, by its digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push(
        &self,
        media_type: &str,
        manifest: &Value,
        blobs: &[&[u8]],
    ) -> Result<String> {
        // The client sets up TLS in any case. Somebody else in this process may have done it.
        let _ = ring::default_provider().install_default();
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

    /// Puts a filter there in the form that Istio takes, with this in its one layer. Returns the
    /// image's URL, by its digest.
    ///
    /// # Errors
    /// As [`Registry::push`].
    pub async fn push_filter(&self, layer: &[u8]) -> Result<String> {
        let manifest = manifest(LAYER, layer);
        self.push(IMAGE, &manifest, &[b"{}", layer]).await
    }
}

/// The manifest of an image with one layer and the configuration `{}`.
#[must_use]
pub fn manifest(layer_type: &str, layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, b"{}"),
        "layers": [descriptor(layer_type, layer)],
    })
}

/// How a manifest names a blob.
#[must_use]
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// `sha256:…`.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
