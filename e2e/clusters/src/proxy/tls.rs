//! TLS towards the client, as an API server has it.

use std::sync::Arc;

use anyhow::Result;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::certificates::{Authority, Certificate};

/// Asks for a client certificate and goes without: others bring a token. Only HTTP/1 is offered, so
/// that a connection is one task, which ends all there is of it.
pub(super) fn acceptor(authority: &Authority, certificate: &Certificate) -> Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from(certificate.der.clone())],
            PrivatePkcs8KeyDer::from(certificate.key_der.clone()).into(),
        )?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
