//! Traps in what Keepalived hands to the kernel's own load balancer (`virtual_server`).

use super::{Code, Cost, Findings};
use crate::native::keepalived::{Block, Config};

/// What checks a real server.
const CHECKS: [&str; 12] = [
    "BFD_CHECK",
    "DNS_CHECK",
    "FILE_CHECK",
    "HTTP_GET",
    "MISC_CHECK",
    "PING_CHECK",
    "SMTP_CHECK",
    "SSL_GET",
    "TCP_CHECK",
    "UDP_CHECK",
    "track_bfd",
    "track_file",
];

/// The virtual servers of a file.
pub(super) fn virtual_servers(config: &Config) -> impl Iterator<Item = &Block> {
    let blocks = config.blocks.iter();
    blocks.filter(|block| block.braced && block.head.word(0) == "virtual_server")
}

/// Real servers that nothing checks, where another could take over.
pub(super) fn unchecked(config: &Config, findings: &mut Findings<'_>) {
    // A check may stand in a file that is not known.
    if !config.includes.is_empty() {
        return;
    }
    for server in virtual_servers(config) {
        let real: Vec<&Block> = server
            .children
            .iter()
            .filter(|child| child.head.word(0) == "real_server")
            .collect();
        let checked = |block: &Block| {
            let mut words = block.children.iter().map(|child| child.head.word(0));
            words.any(|word| CHECKS.contains(&word) || word.starts_with('$'))
        };
        let missing: Vec<&&Block> = real.iter().filter(|block| !checked(block)).collect();
        let others = real.len() > 1 || server.child("sorry_server").is_some();
        let Some(first) = missing.first().filter(|_| others) else {
            continue;
        };
        let name = first.head.words[1..].join(" ");
        let more = match missing.len() {
            1 => String::new(),
            count => format!(", and {} others", count - 1),
        };
        findings.costly(
            Code::RealServerUnchecked,
            first.head.span(),
            format!("nothing checks the real server `{name}`{more}: when it is gone connections go on being sent there"),
            "`TCP_CHECK { connect_timeout 1 }`, or `HTTP_GET` with a path that the app answers",
            Cost::endless(format!("{} of {} connections", missing.len(), real.len())),
        );
    }
}
