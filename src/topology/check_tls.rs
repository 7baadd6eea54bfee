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
        self.certificate_source(tls);
        if tls.acme.is_some() {
            self.acme(tls);
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

impl Check<'_> {
    fn certificate_source(&mut self, tls: &RawTls) {
        let sources = [
            tls.files.is_some(),
            tls.authority.is_some(),
            tls.acme.is_some(),
        ];
        let message = match sources.iter().filter(|is_named| **is_named).count() {
            0 => "nothing says where the certificates come from",
            1 if tls.files.as_deref() == Some(&[]) => "there is no file among `files`",
            1 => return,
            _ => "certificates come from one of `files`, `authority` and `acme`",
        };
        let place = Place::key("/load_balancer/tls");
        self.add(Code::CertificateSource, place, message).hint = Some(
            "name PEM files, such as `\"files\": [\"site.pem\"]`, ask Let's Encrypt by `\"acme\": {}`, or try `\"authority\": \"lab\"`".into(),
        );
    }

    fn acme(&mut self, tls: &RawTls) {
        for (index, name) in tls.names.iter().enumerate() {
            if name.as_str().starts_with("*.") {
                let place = Place::value(format!("/load_balancer/tls/names/{index}"));
                let message = format!(
                    "{name}: an authority certifies a wildcard only by DNS, which is not done here"
                );
                self.add(Code::AcmeWildcard, place, message).hint =
                    Some("name each host, or bring a certificate by `files`".into());
            }
        }
        let port = self.raw.load_balancer.port;
        if port != 80 {
            let place = Place::value("/load_balancer/port");
            let message = format!(
                "an authority asks the names at port 80 before it certifies them, and this is {port}"
            );
            self.add(Code::AcmePort, place, message).hint =
                Some("use 80, unless something before the virtual IP leads port 80 here".into());
        }
    }
}

/// The settings, where the check has found nothing wrong.
pub(super) fn build(raw: Option<RawTls>) -> Option<Tls> {
    let raw = raw?;
    let certificates = match (raw.files, raw.acme) {
        (Some(files), _) => Certificates::Files(files),
        (None, Some(acme)) => Certificates::Acme(acme),
        (None, None) => Certificates::Authority(raw.authority?),
    };
    Some(Tls {
        names: raw.names,
        certificates,
        port: raw.port,
        redirect: raw.redirect,
        hsts: raw.hsts,
    })
}
