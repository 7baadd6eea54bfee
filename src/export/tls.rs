//! HTTPS in other worlds: the files that load balancers are brought. Only their names are known here.

use super::Part;
use crate::secrets::{CERTIFICATES, TICKET_KEYS};
use crate::topology::{Authority, Certificates, Topology};

/// Names of the files that a load balancer has for HTTPS, in the directory [`CERTIFICATES`] of the
/// secrets; none without HTTPS.
pub(super) fn files(topology: &Topology) -> Vec<String> {
    let Some(tls) = &topology.load_balancer().tls else {
        return Vec::new();
    };
    let names = tls.certificates.files().into_iter();
    names.chain([TICKET_KEYS]).map(str::to_owned).collect()
}

/// The same files as they are found in the directory of secrets.
pub(super) fn below_secrets(topology: &Topology) -> Vec<String> {
    let files = files(topology).into_iter();
    files.map(|file| format!("{CERTIFICATES}/{file}")).collect()
}

/// What nobody outside of a lab has.
pub(super) fn obstacles(topology: &Topology) -> Vec<Part> {
    let tls = topology.load_balancer().tls.as_ref();
    let made = tls.filter(|tls| tls.certificates == Certificates::Authority(Authority::Lab));
    let why = "the lab's own authority makes certificates for labs only, and no visitor trusts it; name PEM files in \
               `files` instead, and put them into .gen-topology/secrets/certificates beside the topology file";
    made.map(|_| Part::new("load_balancer.tls.authority", why))
        .into_iter()
        .collect()
}

/// What only machines with this project's NixOS modules do.
pub(super) fn nixos_only(topology: &Topology) -> Vec<Part> {
    let tls = topology.load_balancer().tls.as_ref();
    let acme = tls.filter(|tls| tls.certificates.acme().is_some());
    let why = "nothing here asks for certificates by ACME: only the lab and machines with NixOS do; name PEM files in \
               `files` instead, which another program renews, or export `openstack`";
    acme.map(|_| Part::new("load_balancer.tls.acme", why))
        .into_iter()
        .collect()
}

/// Names that visitors ask for, as a sentence lists them.
pub(super) fn names(topology: &Topology) -> String {
    let tls = topology.load_balancer().tls.as_ref();
    let names = tls.map(|tls| tls.names.iter().map(ToString::to_string));
    names.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
