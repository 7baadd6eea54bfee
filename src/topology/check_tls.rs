//! What HTTPS needs: a place that certificates come from, names, a port of its own.

use super::checker::Check;
use super::diagnostic::Place;
use super::raw::RawTls;
use super::{Certificates, Code, Millis, Tls};

/// The longest time that browsers take: two years is what lists of such sites ask for.
const LONGEST_HSTS: Millis = Millis::new(2 * 366 * 86_400_000);

impl Check<'_> {
    pub(super) fn tls(&mut self) {
        let raw = self.raw;
        let Some(tls) = &raw.load_balancer.tls else {
            return;
        };
        let at = |key: &str| format!("/load_balancer/tls/{key}");
        let files = tls.files.as_deref();
        let message = match (files, tls.authority) {
            (Some(_), Some(_)) => {
                Some("certificates come from `files` or from an `authority`, not from both")
            }
            (None, None) => Some("nothing says where the certificates come from"),
            (Some([]), None) => Some("there is no file among `files`"),
            _ => None,
        };
        if let Some(message) = message {
            let place = Place::key("/load_balancer/tls");
            self.add(Code::CertificateSource, place, message).hint = Some(
                "name PEM files, such as `\"files\": [\"site.pem\"]`, or try `\"authority\": \"lab\"`".into(),
            );
        }
        if tls.names.is_empty() {
            let message = "`names` needs at least one host name";
            self.add(Code::BadValue, Place::value(at("names")), message);
        }
        if tls.hsts > LONGEST_HSTS {
            let message = format!("`hsts` goes up to two years, this is {}", tls.hsts);
            self.add(Code::OutOfRange, Place::value(at("hsts")), message);
        }
        let balancer = &raw.load_balancer;
        let others = [
            ("port", balancer.port),
            ("internal_port", balancer.internal_port),
        ];
        for (key, _) in others.into_iter().filter(|(_, port)| *port == tls.port) {
            let message = format!("port {} is already `load_balancer.{key}`", tls.port);
            let problem = self.add(Code::PortClash, Place::value(at("port")), message);
            let place = Place::value(format!("/load_balancer/{key}"));
            problem.related.push((place, "used here".into()));
        }
    }
}

/// The settings, where the check has found nothing wrong.
pub(super) fn build(raw: Option<RawTls>) -> Option<Tls> {
    let raw = raw?;
    let certificates = match (raw.files, raw.authority) {
        (Some(files), _) => Certificates::Files(files),
        (None, authority) => Certificates::Authority(authority?),
    };
    Some(Tls {
        names: raw.names,
        certificates,
        port: raw.port,
        redirect: raw.redirect,
        hsts: raw.hsts,
    })
}
