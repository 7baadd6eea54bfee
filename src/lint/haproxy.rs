//! Traps in haproxy's file.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::site::{Site, shared};
use super::{Code, Cost, Findings, backend, removed, tls};
use crate::native::haproxy::{Config, Proxy};

/// Everything about one configuration. `virtual_ips` are those of the Keepalived files beside it.
pub(super) fn file(config: &Config, virtual_ips: &HashSet<&str>, findings: &mut Findings<'_>) {
    removed::words(config, findings);
    let site = Site::of(config);
    if site.proxies.is_empty() {
        return;
    }
    global(&site, findings);
    tls::defaults(config, findings);
    timeouts(&site, findings);
    for proxy in site.proxies.iter().filter(|proxy| !proxy.is_disabled()) {
        binds(&site, proxy, virtual_ips, findings);
        monitor(proxy, findings);
        tls::proxy(config, proxy, findings);
        backend::servers(&site, proxy, findings);
    }
}

fn global(site: &Site<'_>, findings: &mut Findings<'_>) {
    let config = site.config;
    let first = config
        .sections("global")
        .next()
        .or(config.sections.first().filter(|_| !site.is_part));
    let Some(head) = first.map(|section| section.head.span()) else {
        return;
    };
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

fn timeouts(site: &Site<'_>, findings: &mut Findings<'_>) {
    if site.is_part {
        return;
    }
    let mut missing: BTreeMap<usize, (Range<usize>, Vec<&str>)> = BTreeMap::new();
    for proxy in site.proxies.iter().filter(|proxy| !proxy.is_disabled()) {
        let wanted = wanted_timeouts(proxy);
        let old = |name: &str| {
            let old = match name {
                "client" => "clitimeout",
                "server" => "srvtimeout",
                _ => "contimeout",
            };
            proxy.directive(&[old]).is_some()
        };
        let unset = |name: &&&str| !proxy.has_timeout(name) && !old(name);
        for name in wanted.iter().filter(unset) {
            let at = shared(proxy);
            let (_, names) = missing.entry(at.start).or_insert((at, Vec::new()));
            if !names.contains(name) {
                names.push(name);
            }
        }
    }
    for (at, mut names) in missing.into_values() {
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

/// What haproxy itself warns about: nothing is waited for where there is no server, and a tunnel's
/// time-out takes the place of the server's in `mode tcp`.
fn wanted_timeouts(proxy: &Proxy<'_>) -> &'static [&'static str] {
    let has_servers = !proxy.servers().is_empty();
    let is_tunnel = proxy.mode() == "tcp" && proxy.has_timeout("tunnel");
    match proxy.kind() {
        "backend" if !has_servers || proxy.mode() == "log" => &[],
        "backend" if is_tunnel => &["connect"],
        "backend" => &["connect", "server"],
        "listen" if has_servers && is_tunnel => &["client", "connect"],
        "listen" if has_servers => &["client", "connect", "server"],
        _ => &["client"],
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
        [] => String::new(),
    }
}

/// The host of an address with a port: `10.0.0.10:80`, `ipv4@10.0.0.10:80`, `[fd00::10]:80`.
fn host(address: &str) -> &str {
    let address = ["ipv4@", "ipv6@", "tcp4@", "tcp6@", "tcp@"]
        .iter()
        .find_map(|family| address.strip_prefix(family))
        .unwrap_or(address);
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    host.trim_matches(['[', ']'])
}

/// Whether the variable that is the host is called a virtual IP: `${VIP}`, `"$HAPROXY_VIP"`.
fn is_virtual_variable(host: &str) -> bool {
    let Some(name) = host.strip_prefix('$') else {
        return false;
    };
    let name = name.trim_matches(['{', '}']).to_uppercase();
    name.contains("VIRTUAL_IP") || name.split('_').any(|word| word == "VIP")
}

fn binds(
    site: &Site<'_>,
    proxy: &Proxy<'_>,
    virtual_ips: &HashSet<&str>,
    findings: &mut Findings<'_>,
) {
    for bind in proxy.binds() {
        if bind.options.contains(&"transparent") {
            continue;
        }
        let hosts = bind.addresses.iter().map(|address| {
            let address = site.expanded(address);
            host(&address).to_owned()
        });
        let mut moving =
            hosts.filter(|host| virtual_ips.contains(host.as_str()) || is_virtual_variable(host));
        if let Some(host) = moving.next() {
            findings.costly(
                Code::BindNeedsAddress,
                bind.directive.span(),
                format!("a backup does not have {host}, and haproxy does not start there"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_addresses() {
        for (address, expected) in [
            ("10.0.0.10:80", "10.0.0.10"),
            ("ipv4@10.0.0.10:80", "10.0.0.10"),
            ("ipv6@[fd00::10]:80", "fd00::10"),
            (":80", ""),
            ("/run/socket", ""),
            ("${VIP}:80", "${VIP}"),
        ] {
            assert_eq!(host(address), expected, "{address}");
        }
        assert!(is_virtual_variable("${VIP}") && is_virtual_variable("${APP_VIP}"));
        assert!(!is_virtual_variable("${VIPER}") && !is_virtual_variable("10.0.0.1"));
    }
}
