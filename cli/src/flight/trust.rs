//! Whom a flight to an `https://` address trusts: the authorities of the system, or of a file, or
//! everybody.

use std::path::Path;

use kube::Config;
use kube::client::ConfigExt;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::exit::Failure;

/// As the command trusts API servers, which are told apart by the same means.
///
/// # Errors
/// When the file has no certificates, or the system none that can be used.
pub(super) fn config(authorities: Option<&Path>, insecure: bool) -> Result<ClientConfig, Failure> {
    let mut config = Config::new(http::Uri::from_static("https://localhost"));
    config.accept_invalid_certs = insecure;
    config.root_cert = authorities.map(read).transpose()?;
    config.rustls_client_config().map_err(|error| {
        let advice = "Name a PEM file of the authorities by --ca.";
        Failure::bad_input(format!("nobody can be trusted: {error}"), advice)
    })
}

fn read(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |why: String| {
        let advice = "Name a file with certificates in PEM by --ca.";
        Failure::bad_input(format!("{}: {why}", file.display()), advice)
    };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = certificates.map(|it| it.map(|it| it.to_vec())).collect();
    match certificates.map_err(|error| failed(error.to_string()))? {
        none if none.is_empty() => Err(failed("it has no certificate".to_owned())),
        some => Ok(some),
    }
}
