//! A certificate authority for each lab.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SigningKey, date_time_ymd,
};
use serde::{Deserialize, Serialize};

/// A key or a certificate that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("the lab's certificate authority: {0}")]
pub struct AuthorityError(#[from] rcgen::Error);

/// Signs certificates that only guests of its lab trust.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Authority {
    /// Of the lab.
    name: String,
    /// Its own certificate, in PEM.
    certificate: String,
    /// Its private key, in PEM.
    key: String,
}

/// What a host shows to those who connect to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificates, the host's own one first, in DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key, in PKCS #8.
    pub key: Vec<u8>,
}

/// Valid whatever a guest's clock shows.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

fn params_of_authority(lab: &str) -> CertificateParams {
    let mut params = params(&format!("minivpc lab {lab}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// A new one for a lab.
    ///
    /// # Errors
    /// When there is no key to be had.
    pub fn new(lab: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params_of_authority(lab).self_signed(&key)?.pem();
        Ok(Self { name: lab.to_owned(), certificate, key: key.serialize_pem() })
    }

    /// What guests trust, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The signature of a text, for whoever trusts the certificate: ECDSA on P-256 of its SHA-256, in DER.
    ///
    /// # Errors
    /// When the key can't be used.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        Ok(KeyPair::from_pem(&self.key)?.sign(text)?)
    }

    /// For a host of this name.
    ///
    /// # Errors
    /// When the name can't be in a certificate.
    pub fn identity(&self, name: &str) -> Result<Identity, AuthorityError> {
        let issuer = Issuer::new(params_of_authority(&self.name), KeyPair::from_pem(&self.key)?);
        let mut params = params(name);
        params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let own = params.signed_by(&key, &issuer)?;
        Ok(Identity { chain: vec![own.der().to_vec()], key: key.serialize_der() })
    }
}
