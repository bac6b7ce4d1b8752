//! What is in the images.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object};
use pem::Pem;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::archive::{File, pack};
use crate::provenance::Provenance;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Where the controller is in its image.
const CONTROLLER: &str = "spillway-controller";
/// Where programs look for the authorities that they trust.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// The user `nonroot` of images without a distribution, which has no name in this one.
const USER: &str = "65532:65532";

/// What a program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

impl Architecture {
    const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// What an image is for, and how it is run.
struct Runs {
    system: &'static str,
    architecture: &'static str,
    settings: Option<Value>,
}

/// An image: its manifest, and all that this names, by digest.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) manifest: Blob,
    pub(crate) blobs: Vec<Blob>,
}

/// Bytes and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let digest = digest(&bytes);
        Self { digest, bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

impl Image {
    /// The controller's: a static program on nothing but the authorities by which it trusts
    /// registries (Mozilla's list).
    ///
    /// # Errors
    /// When the program is none that runs without a system: not an ELF file of an architecture
    /// that is known, or one that needs a loader.
    pub fn controller(program: &[u8], provenance: &Provenance) -> Result<Self> {
        let architecture = runs_on(program)?;
        let authorities = authorities();
        let base = [File {
            path: AUTHORITIES,
            mode: 0o644,
            content: authorities.as_bytes(),
        }];
        // The part that seldom changes comes first: nodes keep it.
        let top = [File {
            path: CONTROLLER,
            mode: 0o755,
            content: program,
        }];
        let settings = json!({
            "Entrypoint": [format!("/{CONTROLLER}")],
            "User": USER,
            "WorkingDir": "/",
            "Env": [format!("SSL_CERT_FILE=/{AUTHORITIES}")],
        });
        let runs = Runs {
            system: "linux",
            architecture: architecture.name(),
            settings: Some(settings),
        };
        Self::build("spillway-controller", runs, provenance, &[&base, &top])
    }

    /// The filter's: the module in the one layer, as Istio's agent takes it.
    ///
    /// # Errors
    /// When it is no WebAssembly module.
    pub fn filter(module: &[u8], provenance: &Provenance) -> Result<Self> {
        ensure!(
            module.starts_with(b"\0asm"),
            "this is no WebAssembly module"
        );
        let layer = [File {
            path: "plugin.wasm",
            mode: 0o644,
            content: module,
        }];
        let runs = Runs {
            system: "wasip1",
            architecture: "wasm",
            settings: None,
        };
        Self::build("spillway-filter", runs, provenance, &[&layer])
    }

    /// By which it is named: of its manifest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    fn build(
        title: &str,
        runs: Runs,
        provenance: &Provenance,
        layers: &[&[File<'_>]],
    ) -> Result<Self> {
        let mut contents = Vec::new();
        let mut blobs = Vec::new();
        for files in layers {
            let packed = pack(files)?;
            contents.push(digest(&packed.archive));
            blobs.push(Blob::new(packed.compressed));
        }
        let mut config = json!({
            "architecture": runs.architecture,
            "os": runs.system,
            "rootfs": {"type": "layers", "diff_ids": contents},
        });
        let created = provenance.created.map(|time| time.to_string().into());
        for (name, value) in [("config", runs.settings), ("created", created)] {
            if let (Some(value), Some(config)) = (value, config.as_object_mut()) {
                config.insert(name.to_owned(), value);
            }
        }
        let config = Blob::new(serde_json::to_vec(&config)?);
        let layers: Vec<Value> = blobs.iter().map(|blob| blob.descriptor(LAYER)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": layers,
            "annotations": provenance.annotations(title),
        });
        blobs.push(config);
        Ok(Self {
            manifest: Blob::new(serde_json::to_vec(&manifest)?),
            blobs,
        })
    }
}

/// `sha256:…`, as images name what belongs to them.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // A text takes every write.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The list, in PEM.
fn authorities() -> String {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    all.iter()
        .map(|certificate| pem::encode(&Pem::new("CERTIFICATE", certificate.as_ref())))
        .collect()
}

/// The architecture of a program that needs no other file to run.
fn runs_on(program: &[u8]) -> Result<Architecture> {
    let elf = ElfFile64::<Endianness>::parse(program).context("this is no program for Linux")?;
    let needs_loader = elf
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type(elf.endian()) == PT_INTERP);
    ensure!(
        !needs_loader,
        "this program needs a loader, which the image does not have: build it for a musl target"
    );
    match elf.architecture() {
        object::Architecture::X86_64 => Ok(Architecture::Amd64),
        object::Architecture::Aarch64 => Ok(Architecture::Arm64),
        other => bail!("this program is for {other:?}, and images are for x86_64 and aarch64"),
    }
}
