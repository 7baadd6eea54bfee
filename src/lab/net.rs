//! The lab's network: one bridge in the lab's own network namespace, a veth pair
//! for each node, all driven by `ip -batch`. Pure text; [`super::run`] hands it over.

use std::net::Ipv4Addr;

/// Name of the bridge. Its address is the client's, from which the lab is measured.
pub const SWITCH: &str = "switch";

/// Batch that makes a network namespace able to talk to itself.
pub const LOOPBACK_UP: &str = "link set lo up\n";

/// Name of the switch's end of a node's cable. Linux allows 15 bytes, node names
/// are longer, so cables are numbered.
pub fn port(index: usize) -> String {
    format!("port{index}")
}

/// Batch that makes the switch with the client's address.
pub fn switch(client: Ipv4Addr, prefix: u8) -> String {
    format!(
        "link add {SWITCH} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         addr add {client}/{prefix} dev {SWITCH}\n\
         link set {SWITCH} up\n"
    )
}

/// Batch that plugs a node, known by the process id of its first process, into the switch.
pub fn plug(index: usize, interface: &str, pid: i32) -> String {
    let port = port(index);
    format!(
        "link add {port} type veth peer name {interface} netns {pid}\n\
         link set {port} master {SWITCH} up\n"
    )
}

/// Batch that gives a node its address, run inside it.
pub fn address(interface: &str, address: Ipv4Addr, prefix: u8) -> String {
    format!(
        "link set lo up\n\
         addr add {address}/{prefix} dev {interface}\n\
         link set {interface} up\n"
    )
}

/// Batch that cuts a cable or heals it.
pub fn cable(index: usize, connected: bool) -> String {
    format!("link set {} {}\n", port(index), if connected { "up" } else { "down" })
}
