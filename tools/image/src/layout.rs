//! An image as a folder: an OCI image layout with the one image in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::image::{Blob, Image, MANIFEST};

const BLOBS: &str = "blobs/sha256";
const INDEX: &str = "index.json";

impl Image {
    /// Writes it. What was in the folder before is replaced: it holds this image and nothing else.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let parent = folder.parent().unwrap_or(folder);
        fs::create_dir_all(parent)?;
        let stage = tempfile::tempdir_in(parent)?;
        fs::create_dir_all(stage.path().join(BLOBS))?;
        for blob in self.blobs.iter().chain([&self.manifest]) {
            fs::write(place(stage.path(), &blob.digest)?, &blob.bytes)?;
        }
        let version = json!({"imageLayoutVersion": "1.0.0"});
        fs::write(stage.path().join("oci-layout"), version.to_string())?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": MANIFEST,
                "digest": self.manifest.digest,
                "size": self.manifest.bytes.len(),
            }],
        });
        fs::write(stage.path().join(INDEX), index.to_string())?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::rename(stage.keep(), folder)?;
        Ok(())
    }

    /// Reads the image of a folder.
    ///
    /// # Errors
    /// When there is not exactly one, or something is not what its digest says.
    pub fn read(folder: &Path) -> Result<Self> {
        let index = folder.join(INDEX);
        let text = fs::read(&index).with_context(|| {
            format!(
                "{} cannot be read: is this an image layout?",
                index.display()
            )
        })?;
        let index: Value = serde_json::from_slice(&text)?;
        let [manifest] = index
            .get("manifests")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
        else {
            anyhow::bail!("{} does not hold exactly one image", folder.display());
        };
        let manifest = blob(folder, manifest)?;
        let named: Value = serde_json::from_slice(&manifest.bytes)?;
        let layers = named.get("layers").and_then(Value::as_array);
        let blobs = layers.into_iter().flatten().chain(named.get("config"));
        let blobs = blobs.map(|descriptor| blob(folder, descriptor));
        Ok(Self {
            blobs: blobs.collect::<Result<_>>()?,
            manifest,
        })
    }
}

fn blob(folder: &Path, descriptor: &Value) -> Result<Blob> {
    let digest = descriptor.get("digest").and_then(Value::as_str);
    let digest = digest.context("a descriptor has no digest")?;
    let path = place(folder, digest)?;
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let blob = Blob::new(bytes);
    ensure!(
        blob.digest == digest,
        "{} is not what its digest says",
        path.display()
    );
    Ok(blob)
}

fn place(folder: &Path, digest: &str) -> Result<std::path::PathBuf> {
    let hash = digest
        .strip_prefix("sha256:")
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let hash = hash.with_context(|| format!("{digest} is no SHA-256 digest"))?;
    Ok(folder.join(BLOBS).join(hash))
}
