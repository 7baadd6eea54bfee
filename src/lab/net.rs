//! The lab's network: one bridge in the lab's own network namespace, a veth pair
//! for each node, all driven by `ip -batch`. Pure text; [`super::run`] hands it over.

use std::net::Ipv4Addr;

/// Name of the bridge. Its address is the client's, from which the lab is measured.
pub const SWITCH: &str = "switch";

/// Batch that makes a network namespace able to talk to itself.
pub const LOOPBACK_UP: &str = "link set lo up\n";

/// Name of the switch's end of a node's cable, after the node's first process. Linux
/// allows 15 bytes, less than a node's name may have; and a node that is booted
/// anew must not wait for the kernel to forget its last cable.
pub fn port(pid: i32) -> String {
    format!("port{pid}")
}

/// Batch that makes the switch with the client's address.
pub fn switch(client: Ipv4Addr, prefix: u8) -> String {
    format!(
        "link add {SWITCH} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         addr add {client}/{prefix} dev {SWITCH}\n\
         link set {SWITCH} up\n"
    )
}

/// Hardware address of a node: a local one that holds its IPv4 address. A machine
/// keeps its own over a reboot; a new one each time would not be known to its
/// neighbours for half a minute.
pub fn hardware(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Batch that plugs a node, known by the process id of its first process, into the switch.
pub fn plug(pid: i32, interface: &str, address: Ipv4Addr) -> String {
    let (port, hardware) = (port(pid), hardware(address));
    format!(
        "link add {port} type veth peer name {interface} address {hardware} netns {pid}\n\
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
pub fn cable(pid: i32, connected: bool) -> String {
    format!(
        "link set {} {}\n",
        port(pid),
        if connected { "up" } else { "down" }
    )
}

/// Batch that takes a cable away, both ends of it. A network namespace outlives its
/// processes while the kernel still says goodbye to their peers; with the cable
/// in, it would catch packets that are meant for the node's next life.
pub fn unplug(pid: i32) -> String {
    format!("link del {}\n", port(pid))
}
