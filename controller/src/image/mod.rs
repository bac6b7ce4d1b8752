//! Whether the filter's image can be had.
//!
//! Envoy replaces a running filter by *nothing* when the image of its successor cannot be had, and
//! does not try again by itself. So a WasmPlugin that names an image is not written before its
//! registry has shown, by the very digest, a manifest that Istio's agent can take, and the layer
//! that holds the filter. Where the image does not change nothing needs to be asked: proxies have
//! it already, and a registry that is away must not hold up a policy.
//!
//! Registries are asked as the [distribution specification] says, with a token where they want
//! one. The credentials are a `.dockerconfigjson` file, which is read each time, so that a rotated
//! Secret is followed. They, and what a registry's token server says, stand in no message.
//!
//! [distribution specification]: https://github.com/opencontainers/distribution-spec

mod credentials;
mod layout;
mod watch;

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciManifest;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

pub use self::watch::{Returned, follow, unknown};

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// A file as Kubernetes mounts it from a Secret of the type `kubernetes.io/dockerconfigjson`.
    pub credentials: Option<PathBuf>,
    /// A PEM file of the authorities that are trusted, instead of the system's.
    pub authorities: Option<PathBuf>,
    /// `HOST[:PORT]` of those that are asked without TLS.
    pub insecure: Vec<String>,
}

/// An image cannot be had, or cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unavailable {
    /// As in a condition.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Unavailable {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message }
    }
}

/// Whether the filter's image could be had when its registry was asked last.
pub type Availability = Result<Returned, Unavailable>;

/// Asks registries.
pub struct Images {
    registries: Registries,
    deadline: Duration,
}

impl Images {
    /// Answers within `deadline`.
    #[must_use]
    pub fn new(registries: Registries, deadline: Duration) -> Self {
        Self {
            registries,
            deadline,
        }
    }

    /// Whether an image, `oci://REGISTRY/NAME@sha256:DIGEST`, can be had now.
    ///
    /// # Errors
    /// When it cannot, with the reason and words for a condition.
    pub async fn available(&self, image: &str) -> Result<(), Unavailable> {
        let asked = tokio::time::timeout(self.deadline, self.ask(image)).await;
        asked.unwrap_or_else(|_| {
            let seconds = self.deadline.as_secs_f32();
            let message = format!("no answer about {image} from its registry within {seconds} s");
            Err(Unavailable::new("RegistryUnreachable", message))
        })
    }

    /// Whether the registry still names an image that could be had, which is all that this asks:
    /// registries that count pulls do not count it.
    pub async fn is_still_available(&self, image: &str) -> bool {
        let named = async {
            let reference = reference(image).ok()?;
            let credentials = self.credentials(&reference).await.ok()?;
            let client = self.client().await.ok()?;
            let pull = RegistryOperation::Pull;
            client.auth(&reference, &credentials, pull).await.ok()?;
            let digest = client.fetch_manifest_digest(&reference, &credentials).await;
            Some(reference.digest() == Some(digest.ok()?.as_str()))
        };
        let named = tokio::time::timeout(self.deadline, named).await;
        named.ok().flatten().unwrap_or_default()
    }

    async fn credentials(&self, reference: &Reference) -> Result<RegistryAuth, Unavailable> {
        match &self.registries.credentials {
            Some(file) => credentials::read(file, reference.resolve_registry()).await,
            None => Ok(RegistryAuth::Anonymous),
        }
    }

    async fn ask(&self, image: &str) -> Result<(), Unavailable> {
        let reference = reference(image)?;
        let credentials = self.credentials(&reference).await?;
        let client = self.client().await?;
        let manifest = client.pull_manifest(&reference, &credentials).await;
        let (manifest, _) = manifest.map_err(|error| translate(image, &reference, &error))?;
        let OciManifest::Image(manifest) = manifest else {
            let message = format!(
                "{image} is an index, whose digest is not that of the image in it: name the digest of one of its manifests"
            );
            return Err(Unavailable::new("ImageUnusable", message));
        };
        let layer = layout::filter_layer(&manifest)
            .map_err(|why| Unavailable::new("ImageUnusable", format!("{image} {why}")))?;
        // Some registries answer this from a storage that does not know the method; then the
        // manifest has to do.
        match client.blob_exists(&reference, &layer.digest).await {
            Ok(false) => {
                let message = format!(
                    "the registry has the manifest of {image} and not its layer {}: push it again",
                    layer.digest
                );
                Err(Unavailable::new("ImageNotFound", message))
            }
            Ok(true) | Err(_) => Ok(()),
        }
    }

    async fn client(&self) -> Result<Client, Unavailable> {
        static PROVIDER: Once = Once::new();
        // One that is there already serves as well.
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let mut config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(self.registries.insecure.clone()),
            platform_resolver: None,
            connect_timeout: Some(self.deadline),
            read_timeout: Some(self.deadline),
            user_agent: concat!("spillway-controller/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        if let Some(file) = &self.registries.authorities {
            let unreadable = |error: std::io::Error| {
                let message = format!("{} cannot be read: {error}", file.display());
                Unavailable::new("RegistryUnreachable", message)
            };
            let pem = tokio::fs::read_to_string(file).await.map_err(unreadable)?;
            config.tls_certs_only = certificates(&pem);
            // An empty list would mean the system's authorities again.
            if config.tls_certs_only.is_empty() {
                let message = format!("{} holds no certificate in PEM", file.display());
                return Err(Unavailable::new("RegistryUnreachable", message));
            }
        }
        Client::try_from(config).map_err(|error| {
            let message = format!(
                "no connection to any registry can be made: {}",
                root_cause(&error)
            );
            Unavailable::new("RegistryUnreachable", message)
        })
    }
}

/// An image by its digest.
///
/// The registry's host is told apart as everybody does it. Only where there is none the library
/// has to parse it, by regular expressions that hold 12 MiB from then on.
fn reference(image: &str) -> Result<Reference, Unavailable> {
    let name = image.strip_prefix("oci://").unwrap_or(image);
    let is_host = |host: &str| host.contains(['.', ':']) || host == "localhost";
    let parts = name.split_once('@').and_then(|(name, digest)| {
        let (host, repository) = name.split_once('/').filter(|(host, _)| is_host(host))?;
        // What else there may be of a name, such as a tag, is the library's as well.
        let is_plain = !repository.contains(':');
        is_plain.then(|| (host.to_owned(), repository.to_owned(), digest.to_owned()))
    });
    if let Some((host, repository, digest)) = parts {
        return Ok(Reference::with_digest(host, repository, digest));
    }
    name.parse::<Reference>()
        .map_err(|error| Unavailable::new("ImageUnusable", format!("{image} is no image: {error}")))
}

/// Every certificate of a PEM file by itself.
fn certificates(pem: &str) -> Vec<Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .filter(|block| block.ends_with(END))
        .map(|block| Certificate {
            encoding: CertificateEncoding::Pem,
            data: block.trim_start().as_bytes().to_vec(),
        })
        .collect()
}

/// What an error means for who has to mend it.
fn translate(image: &str, reference: &Reference, error: &OciDistributionError) -> Unavailable {
    use OciDistributionError as Error;
    let registry = reference.resolve_registry();
    let missing = || {
        let message = format!("{image} is not in its registry: push it, or name another digest");
        Unavailable::new("ImageNotFound", message)
    };
    let refused = || {
        let message = format!(
            "the registry {registry} does not give {image} to this account: name credentials that may pull it"
        );
        Unavailable::new("ImageForbidden", message)
    };
    let trouble = |what: String| {
        let message = format!("the registry {registry} cannot be asked for {image}: {what}");
        Unavailable::new("RegistryUnreachable", message)
    };
    match error {
        Error::ImageManifestNotFoundError(_) => missing(),
        Error::RegistryError { envelope, .. } => {
            let any = |codes: &[OciErrorCode]| {
                envelope
                    .errors
                    .iter()
                    .any(|error| codes.contains(&error.code))
            };
            if any(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ]) {
                missing()
            } else if any(&[OciErrorCode::Denied, OciErrorCode::Unauthorized]) {
                refused()
            } else {
                trouble("it answers with an error".to_owned())
            }
        }
        Error::UnauthorizedError { .. } | Error::AuthenticationFailure(_) => refused(),
        Error::ServerError { code: 404, .. } => missing(),
        Error::ServerError { code: 403, .. } => refused(),
        Error::ServerError { code, .. } => trouble(format!("it answers {code}")),
        Error::DigestError(_) => {
            let message = format!(
                "the registry {registry} gives something else than {image}, by its digest: push the image again"
            );
            Unavailable::new("ImageUnusable", message)
        }
        Error::RequestError(error) => trouble(root_cause(error)),
        other => {
            // What a registry wrote is not repeated: only what kind of trouble it is.
            tracing::debug!(image, error = %other, "a registry gave what cannot be read");
            let message = format!(
                "the registry {registry} gives no manifest for {image} that can be read: push the image again"
            );
            Unavailable::new("ImageUnusable", message)
        }
    }
}

/// The innermost error: the outer ones repeat addresses.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
