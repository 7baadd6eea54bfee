//! Who has the virtual IP.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

/// Whether `address` is one of this machine's, or this network namespace's.
pub fn is_local(address: Ipv4Addr) -> bool {
    // A socket can be bound to a local address only. Nothing is sent.
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether `address` is local in the network namespace whose `/proc/PID/net` is `net`.
pub fn is_local_in(net: &Path, address: Ipv4Addr) -> bool {
    std::fs::read_to_string(net.join("fib_trie")).is_ok_and(|trie| has_local(&trie, address))
}

/// The kernel prints table after table, in each an address and below it what kind
/// of route leads there. Only the table `Local` holds the node's own addresses.
fn has_local(trie: &str, address: Ipv4Addr) -> bool {
    let wanted = format!("|-- {address}");
    let table = trie.lines().skip_while(|line| *line != "Local:").skip(1);
    let mut lines = table
        .take_while(|line| line.starts_with(' '))
        .map(str::trim);
    while let Some(line) = lines.next() {
        if line == wanted
            && lines
                .next()
                .is_some_and(|kind| kind.contains("/32 host LOCAL"))
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_routing_table() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.20.0.10\n        /32 host LOCAL\n     |-- 10.20.0.255\n        /32 link BROADCAST\n";
        assert!(has_local(trie, Ipv4Addr::new(10, 20, 0, 10)));
        assert!(!has_local(trie, Ipv4Addr::new(10, 20, 0, 1)));
        assert!(!has_local(trie, Ipv4Addr::new(10, 20, 0, 255)));
        let other = trie.replace("Local:", "Id 103:");
        assert!(!has_local(&other, Ipv4Addr::new(10, 20, 0, 10)));
    }

    #[test]
    fn loopback_is_local() {
        assert!(is_local(Ipv4Addr::LOCALHOST));
        assert!(!is_local(Ipv4Addr::new(192, 0, 2, 1)));
    }
}
