//! Traps of HTTPS in haproxy's file.

use super::{Code, Findings};
use crate::native::Directive;
use crate::native::haproxy::{Config, Proxy};

/// Versions that RFC 8996 and its predecessors have retired.
const RETIRED: [&str; 3] = ["SSLv3", "TLSv1.0", "TLSv1.1"];
/// Options that allow nothing newer.
const FORCED: [&str; 3] = ["force-sslv3", "force-tlsv10", "force-tlsv11"];

/// What all `bind` lines begin with.
pub(super) fn defaults(config: &Config, findings: &mut Findings<'_>) {
    if let Some(line) = config.global(&["ssl-default-bind-options"]) {
        old(line, findings);
    }
}

/// What one proxy does.
pub(super) fn proxy(config: &Config, proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
    let binds = proxy.binds();
    let encrypted: Vec<_> = binds
        .iter()
        .filter(|bind| bind.options.contains(&"ssl"))
        .collect();
    encrypted
        .iter()
        .for_each(|bind| old(bind.directive, findings));
    let speaks_http = proxy
        .directive(&["mode"])
        .is_some_and(|line| line.word(1) == "http");
    let has_header = |word: &String| {
        word.to_ascii_lowercase()
            .contains("strict-transport-security")
    };
    let mut lines = config
        .sections
        .iter()
        .flat_map(|section| &section.directives);
    if let Some(bind) = encrypted.first()
        && speaks_http
        && !lines.any(|line| line.words.iter().any(has_header))
    {
        findings.note(
            Code::HstsMissing,
            bind.directive.span(),
            "browsers are not told to come by HTTPS only",
            "`http-after-response set-header Strict-Transport-Security max-age=31536000 if { ssl_fc }`",
        );
    }
}

fn old(line: &Directive, findings: &mut Findings<'_>) {
    let words = &line.words;
    let least = words
        .windows(2)
        .find(|pair| pair[0] == "ssl-min-ver")
        .map(|pair| pair[1].as_str());
    let least = least.filter(|least| RETIRED.contains(least));
    let forced = words
        .iter()
        .map(String::as_str)
        .find(|word| FORCED.contains(word));
    if let Some(what) = least.or(forced) {
        findings.note(
            Code::OldTls,
            line.span(),
            format!("{what} is retired, and visitors may use it"),
            "`ssl-min-ver TLSv1.2`",
        );
    }
}
