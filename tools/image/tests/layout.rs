//! What is in the images, read back as others read it: from the folders.

#![allow(clippy::indexing_slicing, reason = "what is not there fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use spillway_image::{Image, Provenance, epoch};
use tempfile::TempDir;

/// The shortest program for x86_64 without a loader: an ELF header that promises nothing.
fn program() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    // An executable, x86_64, version 1, a header of 64 bytes, and no table.
    for (at, byte) in [(16, 2), (18, 62), (20, 1), (52, 64), (54, 56), (58, 64)] {
        elf[at] = byte;
    }
    elf
}

fn origin() -> Provenance {
    Provenance {
        source: Some("https://example.com/spillway".to_owned()),
        revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        created: epoch("1767225600").ok(),
    }
}

fn blob(folder: &Path, digest: &Value) -> Result<Vec<u8>> {
    let digest = digest.as_str().context("a digest")?;
    let hash = digest.strip_prefix("sha256:").context("SHA-256")?;
    let bytes = fs::read(folder.join("blobs/sha256").join(hash))?;
    let is: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(is, hash);
    Ok(bytes)
}

/// Mode, owner and content of files, by path.
type Files = BTreeMap<String, (u32, u64, Vec<u8>)>;

/// The manifest, the configuration, and the files of the layers.
fn read(folder: &Path) -> Result<(Value, Value, Files)> {
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
    let manifest =
        serde_json::from_slice::<Value>(&blob(folder, &index["manifests"][0]["digest"])?)?;
    let config = serde_json::from_slice::<Value>(&blob(folder, &manifest["config"]["digest"])?)?;
    let mut files = BTreeMap::new();
    let layers = manifest["layers"].as_array().context("layers")?;
    for (layer, content) in layers.iter().zip(0..) {
        let packed = blob(folder, &layer["digest"])?;
        assert_eq!(layer["size"], packed.len());
        let mut archive = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut archive)?;
        let is: String = Sha256::digest(&archive)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            config["rootfs"]["diff_ids"][content],
            format!("sha256:{is}")
        );
        for entry in tar::Archive::new(archive.as_slice()).entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            let header = entry.header();
            assert_eq!(header.mtime()?, 0);
            let path = entry.path()?.display().to_string();
            files.insert(path, (header.mode()?, header.uid()?, content));
        }
    }
    Ok((manifest, config, files))
}

#[test]
fn the_controllers_image_holds_the_program_and_the_authorities() -> Result<()> {
    let (folder, again) = (TempDir::new()?, TempDir::new()?);
    let image = Image::controller(&program(), &origin())?;
    image.write(&folder.path().join("image"))?;
    // Over what was there before, and the same to the byte.
    fs::create_dir_all(again.path().join("image/blobs/sha256/old"))?;
    Image::controller(&program(), &origin())?.write(&again.path().join("image"))?;
    let (manifest, config, files) = read(&folder.path().join("image"))?;
    assert_eq!(
        read(&again.path().join("image"))?,
        (manifest, config.clone(), files.clone())
    );
    assert!(!again.path().join("image/blobs/sha256/old").exists());
    assert_eq!(
        Image::read(&folder.path().join("image"))?.digest(),
        image.digest()
    );

    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][0], "/spillway-controller");
    assert_eq!(files["spillway-controller"], (0o755, 0, program()));
    let authorities = String::from_utf8(files["etc/ssl/certs/ca-certificates.crt"].2.clone())?;
    let begins = authorities.matches("-----BEGIN CERTIFICATE-----").count();
    assert!(begins > 100, "{begins} authorities");
    assert_eq!(
        files.keys().filter(|name| !name.ends_with('/')).count(),
        2,
        "{:?}",
        files.keys()
    );
    Ok(())
}

#[test]
fn the_filters_image_is_one_that_istio_takes() -> Result<()> {
    let folder = TempDir::new()?;
    let module = b"\0asm\x01\0\0\0";
    Image::filter(module, &origin())?.write(&folder.path().join("image"))?;
    let (manifest, config, files) = read(&folder.path().join("image"))?;
    let layers = manifest["layers"].as_array().context("layers")?;
    assert_eq!(layers.len(), 1);
    assert_eq!(
        layers[0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    assert_eq!(files["plugin.wasm"].2, module);
    assert_eq!(config["created"], "2026-01-01T00:00:00Z");
    assert_eq!(
        manifest["annotations"],
        serde_json::json!({
            "org.opencontainers.image.title": "spillway-filter",
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.source": "https://example.com/spillway",
            "org.opencontainers.image.revision": "0123456789abcdef0123456789abcdef01234567",
            "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
        })
    );
    Ok(())
}

#[test]
fn what_is_not_known_is_not_told() -> Result<()> {
    let folder = TempDir::new()?;
    let unknown = Image::filter(b"\0asm\x01\0\0\0", &Provenance::default())?;
    unknown.write(&folder.path().join("image"))?;
    let (manifest, config, _) = read(&folder.path().join("image"))?;
    let told = manifest["annotations"].as_object().context("annotations")?;
    let told: Vec<&str> = told.keys().map(String::as_str).collect();
    let known = ["licenses", "title", "version"].map(|it| format!("org.opencontainers.image.{it}"));
    assert_eq!(told, known);
    assert_eq!(config.get("created"), None);
    assert!(epoch("now").is_err() && epoch("1e99").is_err());
    Ok(())
}

#[test]
fn what_could_not_run_is_refused() -> Result<()> {
    let error = |bytes: &[u8]| Image::controller(bytes, &origin()).unwrap_err().to_string();
    assert_eq!(error(b"#!/bin/sh"), "this is no program for Linux");
    // This test needs a loader, as every program that is not linked statically.
    let dynamic = fs::read(std::env::current_exe()?)?;
    assert!(
        error(&dynamic).contains("needs a loader"),
        "{}",
        error(&dynamic)
    );
    let mut other = program();
    other[18] = 40;
    assert!(error(&other).contains("images are for x86_64 and aarch64"));
    let error = Image::filter(b"plain text", &origin())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "this is no WebAssembly module");
    Ok(())
}

#[test]
fn a_folder_that_was_changed_is_refused() -> Result<()> {
    let folder = TempDir::new()?;
    let image = folder.path().join("image");
    Image::filter(b"\0asm\x01\0\0\0", &origin())?.write(&image)?;
    for entry in fs::read_dir(image.join("blobs/sha256"))? {
        let path = entry?.path();
        let whole = fs::read(&path)?;
        let mut other = whole.clone();
        other.push(b' ');
        fs::write(&path, other)?;
        let error = format!("{:#}", Image::read(&image).unwrap_err());
        assert!(error.contains("is not what its digest says"), "{error}");
        fs::write(&path, whole)?;
    }
    Image::read(&image)?;
    Ok(())
}
