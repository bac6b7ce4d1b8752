//! Which images Istio's agent can take a filter from.
//!
//! It knows three layouts, and gives up on everything else without a word in any resource:
//! - an image, Docker's or OCI's, whose *last* layer is a compressed tar archive with
//!   `plugin.wasm`;
//! - an OCI artifact of exactly two layers, one of which is the module.

use oci_client::manifest::{OciDescriptor, OciImageManifest};

const MODULE: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
const ARCHIVES: [&str; 2] = [
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar+gzip",
];

/// The layer that holds the filter, or what is wrong with the image, to be read after its name.
pub(super) fn filter_layer(manifest: &OciImageManifest) -> Result<&OciDescriptor, String> {
    let layers = &manifest.layers;
    if let Some(module) = layers.iter().find(|layer| layer.media_type == MODULE) {
        return match layers.len() {
            2 => Ok(module),
            count => Err(format!(
                "is an artifact of {count} layers, and Istio takes those of two only: build it as an image with plugin.wasm in its last layer"
            )),
        };
    }
    let Some(last) = layers.last() else {
        return Err("has no layers: build it with plugin.wasm in its last layer".to_owned());
    };
    if ARCHIVES.contains(&last.media_type.as_str()) {
        Ok(last)
    } else {
        Err(format!(
            "has {} as its last layer: build it with plugin.wasm in a last layer of the type {}",
            shown(&last.media_type),
            ARCHIVES[1],
        ))
    }
}

/// A media type as long as media types are; a registry may write anything.
fn shown(media_type: &str) -> String {
    media_type.chars().take(127).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layers: &[&str]) -> OciImageManifest {
        let descriptor = |(index, media_type): (usize, &&str)| OciDescriptor {
            media_type: (*media_type).to_owned(),
            digest: format!("sha256:{index}"),
            ..OciDescriptor::default()
        };
        OciImageManifest {
            layers: layers.iter().enumerate().map(descriptor).collect(),
            ..OciImageManifest::default()
        }
    }

    #[test]
    fn the_layouts_that_the_agent_takes() {
        let [docker, oci] = ARCHIVES;
        let config = "application/vnd.module.wasm.config.v1+json";
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        for (layers, found) in [
            (&[docker][..], Ok("sha256:0")),
            (&[oci], Ok("sha256:0")),
            (&[oci, oci, oci], Ok("sha256:2")),
            (&[config, MODULE], Ok("sha256:1")),
            (&[MODULE, config], Ok("sha256:0")),
            (&[MODULE], Err("is an artifact of 1 layers")),
            (&[config, MODULE, config], Err("is an artifact of 3 layers")),
            (&[], Err("has no layers")),
            (
                &[oci, zstd],
                Err("has application/vnd.oci.image.layer.v1.tar+zstd as its last layer"),
            ),
        ] {
            let manifest = manifest(layers);
            match (filter_layer(&manifest), found) {
                (Ok(layer), Ok(digest)) => assert_eq!(layer.digest, digest, "{layers:?}"),
                (Err(error), Err(start)) => assert!(error.starts_with(start), "{error}"),
                (result, _) => panic!("{layers:?}: {result:?}"),
            }
        }
    }
}
