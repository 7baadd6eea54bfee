//! Certificates of HTTPS: what a PEM file holds, and everything that is wrong with it before a
//! load balancer is given it. [`authority`] makes certificates for labs, [`store`] keeps them
//! and the keys of session tickets among the secrets.

pub mod acme;
pub mod authority;
pub mod shown;
pub mod store;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::topology::{Code, ServedName, covers};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Days before its end from which a certificate is told of, unless it lives shorter than three times that.
const SOON: i64 = 21;
/// What haproxy takes at once at its runtime socket (`tune.bufsize`), less what it needs itself.
const LARGEST: usize = 15 << 10;

/// Something that is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What kind of problem it is.
    pub code: Code,
    /// It in one sentence, without the file's name.
    pub message: String,
}

impl Flaw {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Whether a load balancer must not be given it.
    pub fn is_error(&self) -> bool {
        self.code.severity() == crate::topology::Severity::Error
    }
}

/// A certificate with its chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The site's own first.
    chain: Vec<CertificateDer<'static>>,
    /// Host names and addresses that it is for.
    names: Vec<String>,
    /// Seconds since 1970 from which all of the chain is valid.
    from: i64,
    /// Seconds since 1970 until which all of the chain is valid.
    until: i64,
    /// Serial number of the site's, in hexadecimal, as haproxy writes it.
    serial: String,
}

impl Bundle {
    /// Reads a PEM file. What makes it unusable whatever the time is, is an error here.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn read(pem: &[u8]) -> Result<Self, Vec<Flaw>> {
        let unreadable = |why: &str| vec![Flaw::new(Code::UnreadableCertificate, why)];
        if pem.len() > LARGEST {
            return Err(unreadable(
                "it has more than 15 KiB, which haproxy can't take while it runs",
            ));
        }
        let text = String::from_utf8_lossy(pem);
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(unreadable("its private key has a password"));
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|_| unreadable("it is damaged: not PEM"))?;
        let parsed: Result<Vec<_>, _> = chain
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
            .collect();
        let parsed = parsed.map_err(|_| unreadable("it has something that is no certificate"))?;
        let Some(site) = parsed.first() else {
            return Err(unreadable("there is no certificate in it"));
        };
        let Ok(key) = PrivateKeyDer::from_pem_slice(pem) else {
            return Err(unreadable("there is no private key in it"));
        };
        let mut flaws = Vec::new();
        flaws.extend(mismatch(&key, site));
        flaws.extend(broken(&parsed));
        if !flaws.is_empty() {
            return Err(flaws);
        }
        let time =
            |of: &dyn Fn(&X509Certificate<'_>) -> i64| parsed.iter().map(of).collect::<Vec<_>>();
        let from = time(&|of| of.validity().not_before.timestamp());
        let until = time(&|of| of.validity().not_after.timestamp());
        Ok(Self {
            names: names(site),
            from: from.into_iter().max().unwrap_or_default(),
            until: until.into_iter().min().unwrap_or_default(),
            serial: hex::encode_upper(site.raw_serial()),
            chain,
        })
    }

    /// What is wrong with it at a time, in seconds since 1970, and what visitors will make of it.
    pub fn flaws(&self, now: i64) -> Vec<Flaw> {
        let life = (self.until - self.from) / DAY;
        let left = self.days_left(now);
        let mut flaws = Vec::new();
        if now >= self.until {
            let since = counted((now - self.until) / DAY);
            flaws.push(Flaw::new(
                Code::CertificateExpired,
                format!("it expired {since} ago"),
            ));
        } else if now < self.from {
            let wait = counted((self.from - now).div_euclid(DAY));
            flaws.push(Flaw::new(
                Code::CertificateExpired,
                format!("it is not valid for another {wait}"),
            ));
        } else if left < SOON.min(life / 3) {
            flaws.push(Flaw::new(
                Code::CertificateExpires,
                format!("it expires in {}", counted(left)),
            ));
        }
        flaws.extend(self.incomplete());
        flaws
    }

    /// Days until it expires; negative once it has.
    pub fn days_left(&self, now: i64) -> i64 {
        (self.until - now).div_euclid(DAY)
    }

    /// When it expires, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.until
    }

    /// When it is time for another one, in seconds since 1970: with a third of its life left, as Let's
    /// Encrypt asks, or at once if it is nobody's but its own, or a name is missing.
    pub fn due_at(&self, names: &[String]) -> i64 {
        if self.is_self_signed() || !names.iter().all(|name| self.is_for(name)) {
            return self.from;
        }
        self.until - (self.until - self.from) / 3
    }

    /// Whether no authority has signed it.
    pub fn is_self_signed(&self) -> bool {
        let site = self.chain.first();
        let site = site.and_then(|der| X509Certificate::from_der(der).ok());
        site.is_some_and(|(_, site)| site.issuer() == site.subject())
    }

    /// Whether it is valid at a time, in seconds since 1970.
    pub fn is_valid(&self, now: i64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// Whether it was made after another one.
    pub fn is_newer(&self, than: &Self) -> bool {
        (self.from, self.until) > (than.from, than.until)
    }

    /// Host names and addresses that it is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Serial number of the site's certificate, in upper-case hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Whether it is for a name; a wildcard stands for one label.
    pub fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| covers(own, name))
    }

    fn incomplete(&self) -> Option<Flaw> {
        let (_, last) = X509Certificate::from_der(self.chain.last()?).ok()?;
        let issuer = last.issuer();
        // Trust anchors have the name without the header of its sequence.
        let is_known = webpki_roots::TLS_SERVER_ROOTS
            .iter()
            .any(|root| issuer.as_raw().ends_with(root.subject.as_ref()));
        let is_root = self.chain.len() > 1 && last.subject() == issuer;
        let message = match (is_known || is_root, last.subject() == issuer) {
            (true, _) => return None,
            (false, true) => "it is signed by itself".to_owned(),
            (false, false) => format!("its chain ends before {issuer}, which browsers don't know"),
        };
        Some(Flaw::new(Code::IncompleteChain, message))
    }
}

/// Names that no certificate is for, each with its place in the list.
pub fn names_missing<'n>(
    bundles: &[Bundle],
    names: &'n [ServedName],
) -> Vec<(usize, &'n ServedName)> {
    let missing = names.iter().enumerate();
    missing
        .filter(|(_, name)| !bundles.iter().any(|bundle| bundle.is_for(name.as_str())))
        .collect()
}

fn counted(days: i64) -> String {
    format!("{days} day{}", if days == 1 { "" } else { "s" })
}

fn names(site: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = site.subject_alternative_name() else {
        return Vec::new();
    };
    let names = alternatives.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => {
                let octets: [u8; 4] = (*bytes).try_into().ok()?;
                Some(std::net::Ipv4Addr::from(octets).to_string())
            }
            _ => None,
        })
        .collect()
}

/// Whether key and certificate don't belong together.
fn mismatch(key: &PrivateKeyDer<'_>, site: &X509Certificate<'_>) -> Option<Flaw> {
    let Ok(key) = any_supported_type(key) else {
        let why = "its private key is of a kind that is not known here: use RSA, ECDSA (P-256, P-384) or Ed25519";
        return Some(Flaw::new(Code::UnreadableCertificate, why));
    };
    let fits = key
        .public_key()
        .is_some_and(|public| public.as_ref() == site.public_key().raw);
    (!fits).then(|| {
        let why = "its private key is not that of its first certificate";
        Flaw::new(Code::CertificateKeyMismatch, why)
    })
}

/// The first certificate that was not signed by the next one.
fn broken(chain: &[X509Certificate<'_>]) -> Option<Flaw> {
    let signed = |pair: &&[X509Certificate<'_>]| {
        let verified = pair[0].verify_signature(Some(pair[1].public_key()));
        // What can't be judged here, browsers will judge.
        pair[0].issuer() == pair[1].subject()
            && !matches!(verified, Err(X509Error::SignatureVerificationError))
    };
    let pair = chain.windows(2).find(|pair| !signed(pair))?;
    let [lower, upper] = pair else { return None };
    let message = format!(
        "{} was not signed by {}, which follows",
        lower.subject(),
        upper.subject()
    );
    Some(Flaw::new(Code::BrokenChain, message))
}

#[cfg(test)]
mod tests;
