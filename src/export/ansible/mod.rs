//! Ansible: the rendered files on plain Debian 12 machines with systemd.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::text::{fill, marked, readme, remark, yaml};
use super::{Files, Format, Part, README, Refusal, Stack, container, refuse, tls};
use crate::render;
use crate::secrets::{APP, Kind};
use crate::topology::{Tier, Topology};

const PAGE: &str = include_str!("README.md");

/// Rules that a machine has besides the rendered ones.
pub(super) const PLATFORM: &str = "files/platform.nft";

/// Hand-written files: path in the export and text.
const OWN: [(&str, &str); 15] = [
    (PLATFORM, include_str!("platform.nft")),
    (
        "files/units/gen-topology-firewall.service",
        include_str!("units/gen-topology-firewall.service"),
    ),
    ("tasks/firewall.yaml", include_str!("firewall.yaml")),
    (
        "files/units/watch-database.service",
        include_str!("units/watch-database.service"),
    ),
    (
        "files/units/haproxy.service",
        include_str!("units/haproxy.service"),
    ),
    (
        "files/units/keepalived.service",
        include_str!("units/keepalived.service"),
    ),
    (
        "files/units/supervisord.service",
        include_str!("units/supervisord.service"),
    ),
    (
        "files/units/mongod.service",
        include_str!("units/mongod.service"),
    ),
    (
        "files/units/reconcile-database.service",
        include_str!("units/reconcile-database.service"),
    ),
    ("files/nginx.conf", include_str!("nginx.conf")),
    ("files/tmpfiles/node.conf", include_str!("tmpfiles.conf")),
    (
        "files/tmpfiles/balancer.conf",
        include_str!("tmpfiles-balancer.conf"),
    ),
    ("files/logrotate/mongod", include_str!("logrotate")),
    ("tasks/common.yaml", include_str!("common.yaml")),
    ("site.yaml", include_str!("site.yaml")),
];

/// With HTTPS only.
const LOAD_CERTIFICATES: (&str, &str) = (
    "files/units/load-certificates.service",
    include_str!("units/load-certificates.service"),
);

/// Ansible.
#[derive(Debug)]
pub(super) struct Ansible;

impl Format for Ansible {
    fn name(&self) -> &'static str {
        "ansible"
    }

    fn summary(&self) -> &'static str {
        "Ansible inventory and playbook for plain Debian 12 machines with systemd"
    }

    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal> {
        refuse(obstacles(stack.topology))?;
        Ok(directory(stack, README)?)
    }
}

/// What plain Debian machines can't be made into.
pub(super) fn obstacles(topology: &Topology) -> Vec<Part> {
    let mut parts = tls::nixos_only(topology);
    if topology.sharding().is_some() {
        parts.push(Part::new(
        "database.sharding",
        "Debian has no mongos, the router of a sharded stack, and no registry that machines fetch from carries \
         it; leave `sharding` out, or export `openstack`",
    ));
    }
    parts
}

/// The playbook's directory, with its page at `page`.
pub(super) fn directory(stack: &Stack<'_>, page: &str) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for rendered in &stack.rendered {
        let own = rendered
            .files
            .iter()
            .filter(|(path, _)| **path != render::HOST);
        for (path, text) in own {
            files.insert(
                format!("files/nodes/{}/{path}", rendered.node),
                text.to_string(),
            );
        }
    }
    let stop = (stack.topology.load_balancer().drain_time.get() / 1000 + 10).to_string();
    let (known, take) = secrets(stack.topology);
    let (credentials, take_certificates) = certificates(stack.topology);
    let place = if credentials.is_empty() {
        ""
    } else {
        "d /run/gen-topology/secrets/certificates 0700 haproxy haproxy -\n"
    };
    let mut values = vec![
        ("STOP", stop.as_str()),
        ("CREDENTIALS", &credentials),
        ("TAKE_CERTIFICATES", &take_certificates),
        ("CERTIFICATES_PLACE", place),
        ("APP_SECRETS", &known),
        ("TAKE_SECRETS", &take),
    ];
    values.extend(container::WHEEL);
    let with_tls = (!credentials.is_empty()).then_some(LOAD_CERTIFICATES);
    for (path, text) in OWN.into_iter().chain(with_tls) {
        files.insert(path.into(), marked(&fill(text, &values)));
    }
    files.insert("inventory.yaml".into(), inventory(stack)?);
    files.insert("vars.yaml".into(), vars(stack)?);
    files.insert(page.into(), readme("ansible", &words(stack)));
    Ok(files)
}

/// The secrets that app servers have to know, as a list of YAML, and how their unit takes them.
fn secrets(topology: &Topology) -> (String, String) {
    let of_database = topology
        .database()
        .map(|_| Kind::Application.file().to_owned());
    let own = topology.app().secrets.keys();
    let own = own.map(|name| format!("{APP}/{name}"));
    let names: Vec<String> = of_database.into_iter().chain(own).collect();
    let take = |name: &String| {
        format!(
            "# As root: the source is root's.\n\
             ExecStartPre=+/usr/bin/install -D -m 0400 -o gen-topology-app -g gen-topology-app \
             /var/lib/gen-topology/secrets/{name} /run/gen-topology/secrets/{name}\n"
        )
    };
    (names.join(", "), names.iter().map(take).collect())
}

/// The certificates as credentials of a unit, and how haproxy's takes them.
fn certificates(topology: &Topology) -> (String, String) {
    let files = tls::files(topology).into_iter();
    let credential =
        |file| format!("LoadCredential={file}:/var/lib/gen-topology/secrets/certificates/{file}\n");
    let credentials: String = files.map(credential).collect();
    if credentials.is_empty() {
        return (String::new(), String::new());
    }
    let take = format!(
        "{credentials}# What is not fit to be served is refused, and what was served before goes on.\n\
         ExecStartPre=-/etc/gen-topology/gen-topology node load-certificates --from %d --only-files\n"
    );
    (credentials, take)
}

fn inventory(stack: &Stack<'_>) -> anyhow::Result<String> {
    let group = |tier: Tier| {
        let nodes = stack.topology.tier(tier);
        let hosts: Map<String, Value> = nodes
            .map(|node| {
                (
                    node.name.to_string(),
                    json!({ "ansible_host": node.address }),
                )
            })
            .collect();
        json!({ "hosts": hosts })
    };
    let data = json!({
        "all": {
            "children": BTreeMap::from([
                ("app", group(Tier::App)),
                ("database", group(Tier::Database)),
                ("load_balancer", group(Tier::LoadBalancer)),
            ]),
        },
    });
    let why = "A group for each tier. How machines are reached is yours to say, in group_vars/all.yaml for one.";
    Ok(marked(&format!("{}{}", remark(why), yaml(&data)?)))
}

/// Where the playbook finds what is not in its directory.
fn vars(stack: &Stack<'_>) -> anyhow::Result<String> {
    let places = &stack.places;
    let below = |path: &str| format!("{{{{ playbook_dir }}}}/{}", literal(path));
    let requirements = stack.topology.app().requirements.to_string_lossy();
    let data = json!({
        "app": below(&places.app),
        "requirements": literal(&requirements),
        "secrets": below(&places.secrets),
        "certificates": tls::files(stack.topology),
        "program": "{{ lookup('ansible.builtin.pipe', 'command -v gen-topology') }}",
    });
    let why = "Each of these can be said otherwise with --extra-vars.";
    Ok(marked(&format!("{}{}", remark(why), yaml(&data)?)))
}

const HTTPS: &str = "\
- **HTTPS**: kept. Certificates and the keys of TLS sessions are brought from the stack's secrets, readable by root only, and
  judged before haproxy has them. A renewed one: put it in the place of the old one here and run the playbook; it is
  loaded into the running haproxy, and open connections go on.
";

/// A text in which Ansible's templates find nothing.
fn literal(text: &str) -> String {
    text.replace('{', "{{ '{' }}")
}

fn words(stack: &Stack<'_>) -> String {
    let topology = stack.topology;
    let https = match topology.load_balancer().tls {
        Some(_) => HTTPS,
        None => "",
    };
    fill(
        PAGE,
        &[
            ("NAME", topology.name().as_str()),
            ("TOPOLOGY", &stack.places.topology),
            ("VIRTUAL_IP", &topology.network().virtual_ip.to_string()),
            ("PORT", &topology.load_balancer().port.to_string()),
            ("HTTPS", https),
        ],
    )
}
