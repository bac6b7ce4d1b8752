//! A cluster's own certificate authority.
//!
//! The certificates are X.509 v3: rustls refuses older ones.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::identity::User;

/// A certificate and its private key, both as PEM and DER.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
    pub(crate) key_pem: String,
    pub(crate) key_der: Vec<u8>,
}

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Whom each client certificate was issued to, by its DER.
    users: Mutex<HashMap<Vec<u8>, User>>,
}

impl Authority {
    pub(crate) fn new(cluster: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("{cluster}-ca"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
            users: Mutex::default(),
        })
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// For every server that stands at this address.
    pub(crate) fn server(&self, address: Ipv4Addr) -> Result<Certificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("kube-apiserver");
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// For a user: Kubernetes reads the name from CN and the group from O.
    pub(crate) fn client(&self, user: User) -> Result<Certificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&user.name);
        if let Some(group) = &user.group {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationName, group.as_str());
        }
        if user.expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = self.issue(params)?;
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.insert(certificate.der.clone(), user);
        Ok(certificate)
    }

    /// Whom a client certificate was issued to.
    pub(crate) fn user(&self, der: &[u8]) -> Option<User> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(der).cloned()
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Certificate> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        })
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
