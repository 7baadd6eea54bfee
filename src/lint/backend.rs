//! Traps in a proxy's servers and in what becomes of a request whose server is gone.

use super::cost::time;
use super::site::{Site, is_limited, shared};
use super::{Code, Cost, Findings, servers};
use crate::native::haproxy::{Proxy, Server};
use crate::topology::Millis;

/// What may be repeated after an app may have done its work (manual, `retry-on`).
const UNSAFE: [&str; 7] = [
    "all-retryable-errors",
    "empty-response",
    "junk-response",
    "response-timeout",
    "500",
    "502",
    "504",
];

/// Everything about the servers of a proxy, if it has some.
pub(super) fn servers(site: &Site<'_>, proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
    // Servers of `mode log` mostly take datagrams: nobody can check them, or try again.
    if !proxy.is_backend() || proxy.mode() == "log" {
        return;
    }
    let mut servers = proxy.servers();
    // In maintenance until somebody enables it.
    servers.retain(|server| !server.has("disabled"));
    let count = servers
        .iter()
        .fold(0_usize, |sum, server| sum.saturating_add(server.count));
    let Some(first) = servers.first() else {
        return;
    };
    if count == 1 {
        findings.costly(
            Code::SingleServer,
            first.directive.span(),
            format!("`{}` is the only server of `{}`", first.name, proxy.name()),
            "add another",
            Cost::endless(format!("`{}` is away", first.name)),
        );
    } else {
        unchecked(site, proxy, &servers, count, findings);
        redispatch(site, proxy, findings);
    }
    retries(site, proxy, findings);
    if let Some(server) = servers
        .iter()
        .find(|server| server.has("check") && !server.has("track"))
    {
        servers::check(proxy, server, count, findings);
    }
    servers::marks(proxy, &servers, findings);
}

fn unchecked(
    site: &Site<'_>,
    proxy: &Proxy<'_>,
    servers: &[Server],
    all: usize,
    findings: &mut Findings<'_>,
) {
    let watched = |server: &&Server| {
        ["check", "track", "agent-check"]
            .iter()
            .any(|option| server.has(option))
    };
    let missing: Vec<&Server> = servers.iter().filter(|server| !watched(server)).collect();
    let Some(server) = missing.first() else {
        return;
    };
    if site.is_last_resort(proxy.name()) {
        return;
    }
    let count = missing
        .iter()
        .fold(0_usize, |sum, server| sum.saturating_add(server.count));
    let others = if count > 1 {
        format!(", and {} others", count - 1)
    } else {
        String::new()
    };
    let what = if proxy.mode() == "http" {
        "requests"
    } else {
        "connections"
    };
    findings.costly(
        Code::ServerUnchecked,
        server.directive.span(),
        format!(
            "`{}` has no `check`{others}: when it is gone {what} go on being sent there",
            server.name
        ),
        "`default-server check inter 1s fastinter 100ms fall 2`",
        Cost::endless(format!("1 of {all} {what}")),
    );
}

fn redispatch(site: &Site<'_>, proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
    let retries = proxy.retries();
    let old = ["redispatch", "redisp"]
        .iter()
        .any(|word| proxy.directive(&[*word]).is_some());
    if site.is_part || proxy.redispatch().is_some() || old || retries == 0 {
        return;
    }
    // A retry on the same server waits for `timeout connect`, a second at most.
    let wait = proxy
        .timeout("connect")
        .map_or(1.0, Millis::seconds)
        .min(1.0);
    let (what, end) = if proxy.mode() == "http" {
        ("requests", "503, for each request")
    } else {
        ("connections", "it is closed, for each connection")
    };
    findings.costly(
        Code::NoRedispatch,
        shared(proxy),
        format!(
            "{what} of `{}` are only tried again on the same server",
            proxy.name()
        ),
        "`option redispatch 1`",
        Cost::of(
            wait * f64::from(retries),
            format!(
                "retries {retries} × {}, then {end} until the server is taken out",
                time(wait)
            ),
        ),
    );
}

fn retries(site: &Site<'_>, proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
    let Some(line) = proxy.directive(&["retry-on"]) else {
        return;
    };
    let Some(word) = proxy
        .retry_on()
        .into_iter()
        .find(|word| UNSAFE.contains(word))
    else {
        return;
    };
    if is_limited(proxy) || site.is_led_to_with_care(proxy.name()) {
        return;
    }
    findings.costly(
        Code::UnsafeRetries,
        line.span(),
        format!("a POST is repeated after `{word}`, when the app may have done it already"),
        "`http-request disable-l7-retry if METH_POST`",
        Cost::loss("a write is done twice"),
    );
}
