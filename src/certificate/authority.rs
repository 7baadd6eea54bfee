//! A certificate authority for labs and tests: a root that is made once, and certificates that
//! it signs. The caller says what time it is.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// What a certificate is for, and from when until when.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Host names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Seconds since 1970 from which it is valid.
    pub from: i64,
    /// Days for which it is valid.
    pub days: i64,
}

/// An authority: its certificate, which visitors trust, and its key, both in PEM.
#[derive(Clone)]
pub struct Authority {
    /// The certificate.
    pub certificate: String,
    /// The key. Secret.
    pub key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Authority {
    /// Makes one that is valid for ten years from `now`, in seconds since 1970.
    ///
    /// # Errors
    /// If there are no random numbers.
    pub fn make(name: &str, now: i64) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("making the authority's key")?;
        let mut params = params(&[], now, 3650)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params
            .self_signed(&key)
            .context("signing the authority's certificate")?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Makes a certificate: in PEM, with its key behind it.
    ///
    /// # Errors
    /// If the authority's own files are damaged, or a name can't be a host's.
    pub fn sign(&self, wish: &Wish) -> anyhow::Result<String> {
        let own = KeyPair::from_pem(&self.key).context("reading the authority's key")?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, own)
            .context("reading the authority's certificate")?;
        let key = KeyPair::generate().context("making a key")?;
        let mut params = params(&wish.names, wish.from, wish.days)?;
        let addresses = wish
            .addresses
            .iter()
            .map(|address| SanType::IpAddress((*address).into()));
        params.subject_alt_names.extend(addresses);
        if let Some(name) = wish.names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params
            .signed_by(&key, &issuer)
            .context("signing a certificate")?;
        Ok(certificate.pem() + &key.serialize_pem())
    }
}

/// A certificate that a key signs for itself: haproxy can start with it, and visitors refuse it. In
/// PEM, with the key behind it. `from` is in seconds since 1970.
///
/// # Errors
/// If the key is damaged, or a name can't be a host's.
pub fn self_signed(names: &[String], key: &str, from: i64, days: i64) -> anyhow::Result<String> {
    let pair = KeyPair::from_pem(key).context("reading the key")?;
    let mut params = params(names, from, days)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "not certified yet");
    let certificate = params.self_signed(&pair).context("signing a certificate")?;
    Ok(certificate.pem() + &pair.serialize_pem())
}

fn params(names: &[String], from: i64, days: i64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec()).context("naming a certificate")?;
    // rcgen would write its own name.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = OffsetDateTime::from_unix_timestamp(from).context("no such time")?;
    params.not_after = params.not_before + Duration::days(days);
    Ok(params)
}
