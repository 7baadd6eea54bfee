//! Traps in haproxy's file.

use std::ops::Range;

use super::cost::time;
use super::{Code, Cost, Findings, servers};
use crate::native::haproxy::{Config, Proxy, Server};
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

/// Everything about one file. `virtual_ips` are those of the Keepalived files beside it.
pub(super) fn file(config: &Config, virtual_ips: &[&str], findings: &mut Findings<'_>) {
    if config.proxies().next().is_none() {
        return;
    }
    global(config, findings);
    timeouts(config, findings);
    for proxy in config.proxies() {
        binds(&proxy, virtual_ips, findings);
        monitor(&proxy, findings);
        let servers = if proxy.is_backend() {
            proxy.servers()
        } else {
            Vec::new()
        };
        if !servers.is_empty() {
            backend(config, &proxy, &servers, findings);
        }
    }
}

fn global(config: &Config, findings: &mut Findings<'_>) {
    let head = config
        .sections("global")
        .next()
        .map_or(0..0, |section| section.head.span());
    if config.global(&["stats", "socket"]).is_none() {
        findings.note(
            Code::NoStatsSocket,
            head.clone(),
            "servers can't be drained without a `stats socket`",
            "`stats socket /run/haproxy/admin.sock mode 600 level admin`",
        );
    }
    if config.global(&["hard-stop-after"]).is_none() {
        findings.note(
            Code::HardStopMissing,
            head,
            "after a reload the old process stays until its last connection ends",
            "`hard-stop-after 60s`",
        );
    }
}

/// Where something is missing that most files have in `defaults`: there, else the proxy itself.
pub(super) fn shared(proxy: &Proxy<'_>) -> Range<usize> {
    proxy.defaults().unwrap_or(proxy.section()).head.span()
}

fn timeouts(config: &Config, findings: &mut Findings<'_>) {
    let mut missing: Vec<(Range<usize>, Vec<&str>)> = Vec::new();
    for proxy in config.proxies() {
        let wanted: &[&str] = match proxy.kind() {
            "frontend" => &["client"],
            "backend" => &["connect", "server"],
            _ => &["client", "connect", "server"],
        };
        let at = shared(&proxy);
        for name in wanted.iter().filter(|name| proxy.timeout(name).is_none()) {
            match missing.iter_mut().find(|(place, _)| *place == at) {
                Some((_, names)) if names.contains(name) => {}
                Some((_, names)) => names.push(name),
                None => missing.push((at.clone(), vec![name])),
            }
        }
    }
    for (at, mut names) in missing {
        names.sort_unstable();
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("`timeout {name}`"))
            .collect();
        findings.costly(
            Code::TimeoutMissing,
            at,
            format!(
                "{} not set: what hangs is waited for without end",
                listed(&names)
            ),
            "connect 1s, server 15s, client 30s; each longer than the layer below it needs",
            Cost::endless("each connection to something that hangs"),
        );
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
        [] => String::new(),
    }
}

fn binds(proxy: &Proxy<'_>, virtual_ips: &[&str], findings: &mut Findings<'_>) {
    for bind in proxy.binds() {
        let host = |address: &str| {
            address.rsplit_once(':').map_or(String::new(), |(host, _)| {
                host.trim_matches(['[', ']']).to_owned()
            })
        };
        let named = bind
            .addresses
            .iter()
            .find(|address| virtual_ips.contains(&&*host(address)));
        if let Some(address) = named.filter(|_| !bind.options.contains(&"transparent")) {
            findings.costly(
                Code::BindNeedsAddress,
                bind.directive.span(),
                format!(
                    "a backup does not have {}, and haproxy does not start there",
                    host(address)
                ),
                "add `transparent`, or set net.ipv4.ip_nonlocal_bind=1 on every load balancer",
                Cost::endless("no backup can take over"),
            );
        }
    }
}

fn monitor(proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
    let asks = |word: &String| {
        ["nbsrv", "srv_is_up", "connslots"]
            .iter()
            .any(|fetch| word.contains(fetch))
    };
    let lines = proxy.directives(&["monitor", "fail"]);
    if let Some(line) = lines.iter().find(|line| line.words.iter().any(asks)) {
        findings.costly(
            Code::MonitorFailsWithServers,
            line.span(),
            "the load balancer calls itself ill when its servers are, and so do all others",
            "leave `monitor fail` out; show visitors an error page instead",
            Cost::endless("nobody has the virtual IP while the servers are ill"),
        );
    }
}

fn backend(config: &Config, proxy: &Proxy<'_>, servers: &[Server], findings: &mut Findings<'_>) {
    if let [server] = servers {
        findings.costly(
            Code::SingleServer,
            server.directive.span(),
            format!("`{}` is the only server of `{}`", server.name, proxy.name()),
            "add another",
            Cost::endless(format!("`{}` is away", server.name)),
        );
    } else {
        unchecked(config, proxy, servers, findings);
        redispatch(proxy, findings);
    }
    retries(config, proxy, findings);
    if let Some(server) = servers
        .iter()
        .find(|server| server.has("check") && !server.has("track"))
    {
        servers::check(proxy, server, servers.len(), findings);
    }
    servers::marks(servers, findings);
}

/// Whether requests only come here when no server of another backend is well.
fn is_last_resort(config: &Config, proxy: &Proxy<'_>) -> bool {
    let mut lines = config
        .proxies()
        .flat_map(|from| from.directives(&["use_backend", proxy.name()]))
        .peekable();
    lines.peek().is_some()
        && lines.all(|line| line.words.iter().any(|word| word.starts_with("nbsrv(")))
}

fn unchecked(config: &Config, proxy: &Proxy<'_>, servers: &[Server], findings: &mut Findings<'_>) {
    let watched = |server: &Server| server.has("check") || server.has("track");
    let Some(server) = servers.iter().find(|server| !watched(server)) else {
        return;
    };
    if is_last_resort(config, proxy) {
        return;
    }
    let count = servers.iter().filter(|server| !watched(server)).count();
    let others = if count > 1 {
        format!(", and {} others", count - 1)
    } else {
        String::new()
    };
    findings.costly(
        Code::ServerUnchecked,
        server.directive.span(),
        format!(
            "`{}` has no `check`{others}: when it is gone requests go on being sent there",
            server.name
        ),
        "`default-server check inter 1s fastinter 100ms fall 2`",
        Cost::endless(format!("1 of {} requests", servers.len())),
    );
}

fn redispatch(proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
    let retries = proxy.retries();
    if proxy.redispatch().is_some() || retries == 0 {
        return;
    }
    // A retry on the same server waits for `timeout connect`, a second at most.
    let wait = proxy
        .timeout("connect")
        .map_or(1.0, Millis::seconds)
        .min(1.0);
    findings.costly(
        Code::NoRedispatch,
        shared(proxy),
        format!(
            "requests of `{}` are only tried again on the same server",
            proxy.name()
        ),
        "`option redispatch 1`",
        Cost::of(
            wait * f64::from(retries),
            format!(
                "retries {retries} × {}, then 503, for each request until the server is taken out",
                time(wait)
            ),
        ),
    );
}

fn retries(config: &Config, proxy: &Proxy<'_>, findings: &mut Findings<'_>) {
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
    let limited = |proxy: &Proxy<'_>| {
        let rules = proxy.directives(&["http-request"]);
        rules.iter().any(|rule| rule.word(1) == "disable-l7-retry")
    };
    // A frontend that chooses the backend by method keeps unsafe methods away from one of them.
    let methods = |line: &&crate::native::Directive| {
        line.words
            .iter()
            .any(|word| word == "method" || word.starts_with("METH_"))
    };
    let sorted = |from: &Proxy<'_>| {
        let chosen = !from.directives(&["use_backend"]).is_empty();
        chosen
            && (from.directives(&["acl"]).iter().any(methods)
                || from.directives(&["use_backend"]).iter().any(methods))
    };
    let mut sources = config
        .proxies()
        .filter(|from| leads_to(from, proxy.name()))
        .peekable();
    if limited(proxy)
        || (sources.peek().is_some() && sources.all(|from| limited(&from) || sorted(&from)))
    {
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

fn leads_to(from: &Proxy<'_>, backend: &str) -> bool {
    let lines = from
        .directives(&["use_backend"])
        .into_iter()
        .chain(from.directives(&["default_backend"]));
    lines.into_iter().any(|line| line.word(1) == backend)
}
