//! Into a registry, as the OCI distribution specification says.

use std::sync::Once;

use anyhow::{Context, Result, ensure};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use crate::image::{Image, MANIFEST};

/// How a registry is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The name and the password, where it wants them.
    pub credentials: Option<(String, String)>,
    /// Without TLS.
    pub insecure: bool,
    /// The authorities that it is trusted by, in PEM, instead of the system's.
    pub authorities: Option<String>,
}

/// Brings an image to `HOST[:PORT]/NAME:TAG`, and returns the name by which it is pulled:
/// `HOST[:PORT]/NAME@sha256:…`. What the registry has already is not sent again.
///
/// # Errors
/// When it is no name of an image, or the registry does not take it.
pub async fn push(image: &Image, to: &str, access: &Access) -> Result<String> {
    static PROVIDER: Once = Once::new();
    // One that is there already serves as well.
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let reference = reference(to)?;
    let protocol = if access.insecure {
        ClientProtocol::Http
    } else {
        ClientProtocol::Https
    };
    let client = Client::try_from(ClientConfig {
        protocol,
        user_agent: concat!("spillway-image/", env!("CARGO_PKG_VERSION")),
        tls_certs_only: certificates(access.authorities.as_deref())?,
        ..ClientConfig::default()
    })?;
    let credentials = match &access.credentials {
        Some((name, password)) => RegistryAuth::Basic(name.clone(), password.clone()),
        None => RegistryAuth::Anonymous,
    };
    let failed = || format!("{to} cannot be pushed");
    client
        .auth(&reference, &credentials, RegistryOperation::Push)
        .await
        .with_context(failed)?;
    for blob in &image.blobs {
        if !client
            .blob_exists(&reference, &blob.digest)
            .await
            .with_context(failed)?
        {
            client
                .push_blob(&reference, blob.bytes.clone(), &blob.digest)
                .await
                .with_context(failed)?;
        }
    }
    let manifest = image.manifest.bytes.clone();
    client
        .push_manifest_raw(&reference, manifest, MANIFEST.parse()?)
        .await
        .with_context(failed)?;
    pinned(image, to)
}

/// The name by which an image is pulled that was pushed to `HOST[:PORT]/NAME:TAG`:
/// `HOST[:PORT]/NAME@sha256:…`.
///
/// # Errors
/// When that is no name of an image.
pub fn pinned(image: &Image, to: &str) -> Result<String> {
    let reference = reference(to)?;
    let name = format!("{}/{}", reference.registry(), reference.repository());
    Ok(format!("{name}@{}", image.digest()))
}

fn reference(to: &str) -> Result<Reference> {
    to.parse()
        .with_context(|| format!("{to}: write HOST[:PORT]/NAME:TAG"))
}

/// The certificates of a PEM text; none means the system's.
fn certificates(text: Option<&str>) -> Result<Vec<Certificate>> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let all = pem::parse_many(text).context("the authorities are no PEM")?;
    let certificates = all.into_iter().filter(|part| part.tag() == "CERTIFICATE");
    let certificates = certificates.map(|part| Certificate {
        encoding: CertificateEncoding::Der,
        data: part.into_contents(),
    });
    let certificates: Vec<_> = certificates.collect();
    ensure!(
        !certificates.is_empty(),
        "the authorities hold no certificate in PEM"
    );
    Ok(certificates)
}
