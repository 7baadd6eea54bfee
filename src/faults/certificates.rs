//! What can go wrong with the certificates of a load balancer: somebody brings one that is not fit to be
//! served, or the authority can't be reached when one is asked for.

use anyhow::{Context as _, ensure};

use super::fault::BadCertificate;
use crate::certificate::authority::Authority;
use crate::certificate::store::now;
use crate::config::PROGRAM;
use crate::lab::Lab;

/// An authority's certificate is valid for ten years; one that was made so many seconds ago is not.
const ELEVEN_YEARS: i64 = 11 * 365 * 24 * 3600;
/// Port of HTTPS where an address names none.
const HTTPS: u16 = 443;

/// Puts a bad certificate in the place of each that `node` has, and tells the node to load them.
///
/// # Errors
/// If it can't be done, or the node takes them.
pub(super) fn spoil(lab: &Lab, node: &str, bad: BadCertificate) -> anyhow::Result<()> {
    let pem = made(bad)?;
    let served = lab.served_certificates(node);
    let tls = lab.plan().tls.as_ref();
    let tls = tls.context("the stack has no certificates")?;
    tls.certificates
        .iter()
        .try_for_each(|file| served.put(file, pem.as_bytes()))?;
    let said = lab.run_in(node, &[PROGRAM, "node", "load-certificates"]);
    ensure!(
        said.is_err(),
        "{node} loads a certificate that is not fit to be served"
    );
    Ok(())
}

/// A certificate that is not fit to be served, with a key, in PEM.
fn made(bad: BadCertificate) -> anyhow::Result<String> {
    let now = now()?;
    let somebody = "somebody else";
    Ok(match bad {
        BadCertificate::WrongKey => {
            Authority::make(somebody, now)?.certificate + &Authority::make(somebody, now)?.key
        }
        BadCertificate::Expired => {
            let old = Authority::make(somebody, now - ELEVEN_YEARS)?;
            old.certificate + &old.key
        }
    })
}

/// The port at which the authority is asked for certificates.
///
/// # Errors
/// If none is.
pub(super) fn port_of_authority(lab: &Lab) -> anyhow::Result<u16> {
    let acme = lab.plan().tls.as_ref().and_then(|tls| tls.acme.as_ref());
    let acme = acme.context("no certificate is asked for by ACME")?;
    let place = acme.directory.as_str().split('/').nth(2);
    let port = place.and_then(|place| place.rsplit_once(':')?.1.parse().ok());
    Ok(port.unwrap_or(HTTPS))
}

/// Has a node that can't reach the authority ask for a certificate.
///
/// # Errors
/// If it gets one.
pub(super) fn ask_in_vain(lab: &Lab, node: &str) -> anyhow::Result<()> {
    let command = [PROGRAM, "node", "renew-certificates", "--once", "--anyway"];
    ensure!(
        lab.run_in(node, &command).is_err(),
        "{node} got a certificate although it can't reach the authority"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Bundle;

    #[test]
    fn bad_certificates_are_bad_in_one_way() {
        let wrong = made(BadCertificate::WrongKey).expect("a certificate");
        let flaws = Bundle::read(wrong.as_bytes()).expect_err("flaws");
        assert_eq!(flaws.len(), 1, "{flaws:?}");
        assert!(flaws[0].message.contains("key"), "{flaws:?}");
        let old = made(BadCertificate::Expired).expect("a certificate");
        let bundle = Bundle::read(old.as_bytes()).expect("a certificate with its key");
        assert!(!bundle.is_valid(now().expect("a clock")));
    }
}
