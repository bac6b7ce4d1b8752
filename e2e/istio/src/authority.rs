//! The mesh's authority, which all clusters share: what one istiod signs, all sidecars believe.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// Writes it as Istio takes an authority of one's own ("plug in CA certificates"), and returns the
/// root certificate.
pub(crate) fn write(folder: &Path) -> Result<String> {
    fs::create_dir_all(folder)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "mesh");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let key_pem = key.serialize_pem();
    let pem = CertifiedIssuer::self_signed(params, key)?.pem();
    for file in ["ca-cert.pem", "cert-chain.pem", "root-cert.pem"] {
        fs::write(folder.join(file), &pem)?;
    }
    fs::write(folder.join("ca-key.pem"), key_pem)?;
    Ok(pem)
}
