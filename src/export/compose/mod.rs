//! Docker Compose: each node is a service with its own address on a network of the stack's
//! subnet. Load balancers pass the virtual IP on there as they do between machines.

mod service;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::container;
use super::text::{fill, marked, readme, remark, script, yaml};
use super::{Files, Format, Part, README, Refusal, Stack, refuse, tls};
use crate::secrets::{APP, Kind};
use crate::topology::{Tier, Topology};
use service::Service;

const PAGE: &str = include_str!("README.md");
const CHECK: &str = include_str!("check.sh");
const CHECK_CERTIFICATES: &str = include_str!("check-certificates.sh");
const DOOR: &str = include_str!("door.cfg");

/// Name of the network, and of the whole project's volumes' beginning.
const NETWORK: &str = "stack";

/// Docker Compose.
#[derive(Debug)]
pub(super) struct Compose;

impl Format for Compose {
    fn name(&self) -> &'static str {
        "compose"
    }

    fn summary(&self) -> &'static str {
        "Docker Compose on one machine: a container for each node, the virtual IP on their network"
    }

    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal> {
        refuse(obstacles(stack.topology))?;
        let mut files = Files::new();
        for (node, rendered) in stack.each() {
            for (path, text) in container::files(node, rendered) {
                files.insert(format!("nodes/{}/{path}", node.facts.name), text);
            }
        }
        for tier in stack.topology.tiers() {
            let text = container::dockerfile(stack.topology, tier);
            files.insert(dockerfile(tier), text);
        }
        let door = door(stack.topology);
        files.insert(
            format!("nodes/{door}/haproxy.cfg"),
            marked(&door_file(stack.topology)),
        );
        files.insert("compose.yaml".into(), compose(stack, &door)?);
        // Compose v2 knows a key `name` for it, and 1.29 does not.
        let project = format!("COMPOSE_PROJECT_NAME={}\n", stack.topology.name());
        files.insert(".env".into(), marked(&project));
        files.insert("check.sh".into(), check(stack));
        files.insert(README.into(), page(stack));
        Ok(files)
    }
}

fn obstacles(topology: &Topology) -> Vec<Part> {
    let mut parts = container::obstacles(topology);
    let interface = topology.network().interface.to_string();
    if interface != "eth0" {
        parts.push(Part::new(
            "network.interface",
            format!("the engine calls a container's interface eth0, not {interface}; leave `interface` out"),
        ));
    }
    parts
}

/// Where the Dockerfile of a tier is.
fn dockerfile(tier: Tier) -> String {
    format!("images/{}/Dockerfile", tier.name())
}

#[derive(Serialize)]
struct Networks {
    networks: BTreeMap<&'static str, Network>,
}

#[derive(Serialize)]
struct Network {
    driver: &'static str,
    ipam: Ipam,
}

#[derive(Serialize)]
struct Ipam {
    config: [Subnet; 1],
}

#[derive(Serialize)]
struct Subnet {
    subnet: String,
}

#[derive(Serialize)]
struct Volumes {
    volumes: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}

#[derive(Serialize)]
struct Secrets {
    secrets: BTreeMap<String, SecretFile>,
}

#[derive(Serialize)]
struct SecretFile {
    file: String,
}

#[derive(Serialize)]
struct Services {
    services: BTreeMap<String, Service>,
}

fn compose(stack: &Stack<'_>, door: &str) -> anyhow::Result<String> {
    let topology = stack.topology;
    let mut services: BTreeMap<String, Service> = stack
        .each()
        .map(|(node, _)| (node.facts.name.clone(), Service::of(stack, node)))
        .collect();
    services.insert(
        door.to_owned(),
        Service::door(stack, door, free_address(topology)),
    );
    let network = Network {
        driver: "bridge",
        ipam: Ipam {
            config: [Subnet {
                subnet: topology.network().subnet.to_string(),
            }],
        },
    };
    let volumes = topology
        .tier(Tier::Database)
        .map(|node| (node.name.to_string(), serde_json::Map::new()));
    let secrets: BTreeMap<String, SecretFile> = secrets(topology)
        .into_iter()
        .map(|(name, path)| {
            let file = literal(&format!("{}/{path}", stack.places.secrets));
            (name, SecretFile { file })
        })
        .collect();
    let parts = [
        (SERVICES, yaml(&Services { services })?),
        (
            NETWORKS,
            yaml(&Networks {
                networks: BTreeMap::from([(NETWORK, network)]),
            })?,
        ),
    ];
    let mut parts = parts.to_vec();
    let volumes: BTreeMap<_, _> = volumes.collect();
    if !volumes.is_empty() {
        parts.push((VOLUMES, yaml(&Volumes { volumes })?));
    }
    if !secrets.is_empty() {
        parts.push((SECRETS, yaml(&Secrets { secrets })?));
    }
    let parts = parts.into_iter();
    let texts: Vec<String> = parts
        .map(|(why, text)| format!("\n{}{text}", remark(why)))
        .collect();
    Ok(marked(&texts.concat()))
}

/// The secrets of the stack: name here → path below the directory of secrets.
fn secrets(topology: &Topology) -> Vec<(String, String)> {
    let kinds: &[Kind] = match topology.database() {
        Some(_) => &Kind::ALL,
        None => &[],
    };
    let of_database = kinds.iter().map(|kind| kind.file().to_owned());
    let own = topology.app().secrets.keys();
    of_database
        .map(|name| (name.clone(), name))
        .chain(own.map(|name| (container::app_secret(name), format!("{APP}/{name}"))))
        .collect()
}

const SERVICES: &str = "\
A service for each node. What a node is told is in its directory below nodes/, which is mounted at
/node: when a file there changes, a daemon is told to read it again and no container is made anew.";
const NETWORKS: &str = "\
All addresses are fixed. The virtual IP is no container's: Keepalived on a load balancer adds it.";
const VOLUMES: &str =
    "The data of each database. `down` leaves them, `down --volumes` removes them.";
const SECRETS: &str =
    "Files that `gen-topology secrets init` makes; each service gets only what it has to know.";

/// A text in which Compose puts nothing in the place of `$`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A name that no node has, for the service that publishes the virtual IP's port.
fn door(topology: &Topology) -> String {
    let taken: BTreeSet<&str> = topology
        .nodes()
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    let names =
        std::iter::once("www".to_owned()).chain((2..).map(|number| format!("www-{number}")));
    names
        .into_iter()
        .find(|name| !taken.contains(name.as_str()))
        .unwrap_or_default()
}

fn door_file(topology: &Topology) -> String {
    let balancer = topology.load_balancer();
    let target = |port: u16| format!("{}:{port}", topology.network().virtual_ip);
    let tls = balancer.tls.as_ref().map(|tls| {
        format!(
            "\nlisten www-tls\n    bind :8443\n    server virtual-ip {}\n",
            target(tls.port)
        )
    });
    let plain = fill(DOOR, &[("TARGET", &target(balancer.port))]);
    format!("{plain}{}", tls.unwrap_or_default())
}

/// The highest address of the subnet that nobody has. The topology's check has left room for it.
fn free_address(topology: &Topology) -> std::net::Ipv4Addr {
    let network = topology.network();
    let used: BTreeSet<_> = topology.nodes().iter().map(|node| node.address).collect();
    let hosts = network.subnet.network().to_bits() + 1..network.subnet.broadcast().to_bits();
    hosts
        .rev()
        .map(std::net::Ipv4Addr::from_bits)
        .find(|address| !used.contains(address) && *address != network.virtual_ip)
        .unwrap_or(network.virtual_ip)
}

/// A script that tells what is missing.
fn check(stack: &Stack<'_>) -> String {
    let quoted = |path: &str| match shlex::try_quote(path) {
        Ok(quoted) => quoted.into_owned(),
        // No path has the byte 0.
        Err(_) => path.to_owned(),
    };
    let secrets: Vec<String> = secrets(stack.topology)
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    let files = tls::below_secrets(stack.topology).join(" ");
    let certificates = match stack.topology.load_balancer().tls {
        Some(_) => fill(CHECK_CERTIFICATES, &[("FILES", &files)]),
        None => String::new(),
    };
    let text = fill(
        CHECK,
        &[
            ("PROGRAM", &container::program_image()),
            ("SECRETS", &secrets.join(" ")),
            ("CERTIFICATES", &certificates),
            ("DIRECTORY", &quoted(&stack.places.secrets)),
            ("TOPOLOGY", &quoted(&stack.places.topology)),
        ],
    );
    script(&text)
}

fn page(stack: &Stack<'_>) -> String {
    let topology = stack.topology;
    let names = |tier| {
        let names: Vec<&str> = topology.tier(tier).map(|node| node.name.as_str()).collect();
        names.join(" ")
    };
    let virtual_ip = topology.network().virtual_ip.to_string();
    let text = fill(
        PAGE,
        &[
            ("NAME", topology.name().as_str()),
            ("PROGRAM", &container::program_image()),
            ("TOPOLOGY", &stack.places.topology),
            ("VIRTUAL_IP", &virtual_ip),
            ("PORT", &topology.load_balancer().port.to_string()),
            ("BALANCERS", &names(Tier::LoadBalancer)),
            ("HTTPS_PAGE", &https_page(topology)),
            ("HTTPS", &https(stack, &names(Tier::LoadBalancer))),
        ],
    );
    readme("compose", &text)
}

/// Where visitors with HTTPS come in; the end of a paragraph.
fn https_page(topology: &Topology) -> String {
    if topology.load_balancer().tls.is_none() {
        return String::new();
    }
    format!(
        "\n\nWith HTTPS, for visitors who ask for {}: port 8443 of 127.0.0.1 (another place:\n\
         `PUBLISH_TLS=0.0.0.0:443`). Where plain HTTP is sent on to HTTPS, it is to port {} of the same name.",
        tls::names(topology),
        topology
            .load_balancer()
            .tls
            .as_ref()
            .map_or(443, |tls| tls.port),
    )
}

/// What the page says of HTTPS; the beginning of a list's line and its end.
fn https(stack: &Stack<'_>, balancers: &str) -> String {
    if stack.topology.load_balancer().tls.is_none() {
        return String::new();
    }
    format!(
        "- **HTTPS**: kept. Certificates are in no image and in no file of this directory: {}/certificates is mounted, and\n  \
         each file is judged before haproxy has it. Load balancers may read it by an eighth capability, DAC_READ_SEARCH. After you have\n  \
         put a renewed one there: `for balancer in {balancers}; do docker compose exec -T \"$balancer\" sh /node/reload certificates; done`.\n",
        stack.places.secrets,
    )
}
